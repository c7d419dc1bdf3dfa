"""Work that runs ahead of its consumer in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["available_cpus", "prefetch"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    build: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int = 1,
    ahead: int | None = None,
) -> Generator[Result, None, None]:
    """Yield ``build(item)`` for every item in order, with the next results made meanwhile.

    ``build`` runs in threads, so it should spend its time where the interpreter lock is released
    (Pillow's codecs, NumPy on large arrays, file access). An error in it is raised here, at the
    position of its item. Closing the generator, or leaving the loop, cancels what has not begun
    and waits for what has.

    Args:
        build: Makes one result; several calls run at once where ``num_threads`` > 1.
        items: What to build from; taken one by one as room becomes free.
        num_threads: Number of threads, at least 1.
        ahead: Results that may wait or be in the making beyond the one being consumed; bounds the
            memory. By default ``num_threads``.

    Yields:
        Results in the order of ``items``.
    """
    ahead = num_threads if ahead is None else ahead
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="reid-prefetch") as pool:
        try:
            for item in items:
                pending.append(pool.submit(build, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def available_cpus() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
