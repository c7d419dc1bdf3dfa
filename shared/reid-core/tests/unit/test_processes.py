"""Work on many items in several processes."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from reid_core import processes
from reid_core.processes import choose_workers, map_in_processes
from reid_core.testing.chunk_work import describe_chunk, refuse_seven


@pytest.mark.parametrize(("workers", "chunk"), [(1, 1), (1, 4), (2, 4), (2, 100)])
def test_results_come_in_order(workers, chunk):
    numbers = list(range(41))
    results = list(map_in_processes(describe_chunk, numbers, num_workers=workers, chunk_size=chunk))
    assert [item for item, _, _ in results] == numbers
    assert max(size for _, _, size in results) == min(chunk, 41)
    is_here = {process == os.getpid() for _, process, _ in results}
    assert is_here == {workers == 1}


def test_nothing_to_do_is_no_work():
    assert list(map_in_processes(describe_chunk, [], num_workers=2, chunk_size=4)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_are_raised_at_their_place(workers):
    results = map_in_processes(refuse_seven, list(range(20)), num_workers=workers, chunk_size=2)
    assert [next(results) for _ in range(6)] == list(range(6))
    with pytest.raises(ValueError, match="seven"):
        next(results)


def test_a_script_without_a_guard_goes_on_with_one_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from reid_core.processes import map_in_processes\n"
        "print(sum(map_in_processes(sorted, list(range(50)), num_workers=2, chunk_size=3)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.splitlines()[-1] == "1225"
    assert "going on with one process" in done.stderr


def test_processes_that_end_while_work_is_handed_out(monkeypatch, caplog):
    class BrokenPool(ProcessPoolExecutor):
        def submit(self, *_):
            raise BrokenProcessPool("ended at once")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", BrokenPool)
    assert list(map_in_processes(sorted, [1, 2, 3], num_workers=2, chunk_size=1)) == [1, 2, 3]
    assert "going on with one process" in caplog.text


def test_few_items_are_not_worth_other_processes(monkeypatch):
    monkeypatch.setattr(processes, "available_cpus", lambda: 64)
    assert choose_workers(10) == 1
    assert choose_workers(10_000) == 8
    monkeypatch.setattr(processes, "available_cpus", lambda: 3)
    assert choose_workers(10_000) == 3
