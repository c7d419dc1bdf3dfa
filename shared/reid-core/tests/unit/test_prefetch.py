"""Work that runs ahead in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from reid_core.data.prefetch import available_cpus, prefetch


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_results_come_in_order(num_threads: int, count: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    found = list(prefetch(slow_first, range(count), num_threads=num_threads))
    assert found == [i * i for i in range(count)]


def test_next_results_are_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]
    results = prefetch(lambda i: made[i].set(), range(3))
    next(results)
    assert made[1].wait(10)


def test_runs_ahead_no_further_than_allowed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = prefetch(lambda i: i, items(), ahead=3)
    for position in range(5):
        assert next(results) == position
        assert len(taken) == position + 4
    results.close()


def test_error_comes_at_its_position_and_keeps_its_type() -> None:
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise KeyError("two")
        return item

    results = prefetch(fail_at_two, range(10))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)


def test_error_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(prefetch(lambda i: i, items()))


def reid_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("reid-prefetch")]


def test_closing_cancels_and_stops_the_threads() -> None:
    built = []

    def build(item: int) -> int:
        time.sleep(0.01)
        built.append(item)
        return item

    results = prefetch(build, range(1000), num_threads=2, ahead=50)
    next(results)
    assert reid_threads()
    results.close()
    assert len(built) < 50
    assert not reid_threads()


def test_leaving_the_loop_stops_the_threads() -> None:
    for _ in prefetch(lambda i: i, range(100)):
        break
    assert not reid_threads()


def test_available_cpus() -> None:
    assert available_cpus() >= 1
