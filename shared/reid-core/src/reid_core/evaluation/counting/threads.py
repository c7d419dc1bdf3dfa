"""Work on several threads, each with its own share of the processor.

A matrix product on one thread per core, each with a tile of its own, leaves no core waiting for the
others after every product, and what follows the product (NumPy sorts, which release Python's lock)
is spread as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["for_each"]

T = TypeVar("T")

# More threads than this would mostly wait for Python's lock; each uses several cores instead.
_MAX_THREADS = 16


def for_each(tasks: Sequence[T], make_worker: Callable[[], Callable[[T], None]]) -> None:
    """Do every task, on as many threads as torch uses, this one included.

    Meanwhile each of them has its share of torch's own threads, and so has what a worker calls. All
    record gradients, or are in inference mode, where the caller is.

    Args:
        tasks: What to do, begun in this order.
        make_worker: Called once on each thread; returns what does a task, with its own buffers.

    Raises:
        Exception: The first error of a worker; tasks that have not begun are dropped.
    """
    num_torch_threads = torch.get_num_threads()
    num_threads = min(num_torch_threads, len(tasks), _MAX_THREADS)
    if num_threads <= 1:
        work = make_worker()
        for task in tasks:
            work(task)
        return
    queue = _Queue(tasks)
    # Both are settings of a thread, and tensors made in inference mode only change in it.
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run() -> None:
        # The setting is one of the thread and of the process: it holds here, and goes back below.
        torch.set_num_threads(num_torch_threads // num_threads)
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                work = make_worker()
                for task in queue:
                    work(task)
        except BaseException:
            queue.close()
            raise

    try:
        with ThreadPoolExecutor(num_threads - 1) as pool:
            others = [pool.submit(run) for _ in range(num_threads - 1)]
            run()
            for other in others:
                other.result()
    finally:
        torch.set_num_threads(num_torch_threads)


class _Queue(Iterator[T]):
    """An iterator that threads share."""

    def __init__(self, tasks: Iterable[T]) -> None:
        self._tasks = iter(tasks)
        self._lock = threading.Lock()

    def __next__(self) -> T:
        with self._lock:
            return next(self._tasks)

    def close(self) -> None:
        with self._lock:
            self._tasks = iter(())
