"""Work on many items, in this process or in several. Imports no torch."""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from reid_core.data.prefetch import available_cpus

__all__ = ["choose_workers", "map_in_processes"]

_logger = logging.getLogger(__name__)

# Below this number of items the start of other processes (about a second) costs more than it saves.
_MIN_ITEMS_FOR_WORKERS = 400
_MAX_WORKERS = 8
# Chunks that wait for a process, per process: enough that none is ever idle.
_WAITING_CHUNKS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def choose_workers(num_items: int) -> int:
    """Return a number of processes that suits the machine and the amount of work.

    Args:
        num_items: Items, each of which takes milliseconds.
    """
    if num_items < _MIN_ITEMS_FOR_WORKERS or multiprocessing.current_process().daemon:
        return 1
    return min(available_cpus(), _MAX_WORKERS)


def map_in_processes(
    work: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    *,
    num_workers: int,
    chunk_size: int,
) -> Iterator[Result]:
    """Yield one result per item, in the order of ``items``.

    A few chunks per process are on their way at one time, so that neither items nor results pile
    up. An error of ``work`` is raised here; what has not begun by then is given up.

    Args:
        work: Turns a chunk of items into one result each. With several processes it must be
            picklable: a function of a module, or ``functools.partial`` of one.
        items: What to work on.
        num_workers: Processes; more than one are started afresh (spawn), so that it works alike on
            every platform and beside threads. Where they cannot be used, a warning says so and
            this process does the rest.
        chunk_size: Items per message between processes, at least 1.
    """
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    done = 0
    if num_workers > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
            ahead = _WAITING_CHUNKS * num_workers
            pending: deque[Future[Sequence[Result]]] = deque()
            try:
                pending.extend(pool.submit(work, chunk) for chunk in chunks[:ahead])
                while done < len(chunks):
                    yield from pending.popleft().result()
                    done += 1
                    for chunk in chunks[done + len(pending) : done + ahead]:
                        pending.append(pool.submit(work, chunk))
            except BrokenProcessPool:
                # A script without the `if __name__ == "__main__"` guard, or no memory for more.
                _logger.warning("worker processes cannot be used here; going on with one process")
            finally:
                pool.shutdown(cancel_futures=True)
    for chunk in chunks[done:]:
        yield from work(chunk)
