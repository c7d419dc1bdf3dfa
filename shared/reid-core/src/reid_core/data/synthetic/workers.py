"""Rendering of many images, in this process or in several."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from reid_core.data.prefetch import available_cpus
from reid_core.data.synthetic.files import Job, Label, write_shot
from reid_core.data.synthetic.shots import Shot

__all__ = ["choose_workers", "write_shots"]

_logger = logging.getLogger(__name__)

_CHUNK = 24  # Images per message between processes.
# Below this number the start of other processes (about a second) costs more than it saves.
_MIN_SHOTS_FOR_WORKERS = 400
_MAX_WORKERS = 8


def choose_workers(num_shots: int) -> int:
    """Return a number of processes that suits the machine and the amount of work."""
    if num_shots < _MIN_SHOTS_FOR_WORKERS or multiprocessing.current_process().daemon:
        return 1
    return min(available_cpus(), _MAX_WORKERS)


def write_shots(job: Job, shots: Sequence[Shot], folder: Path, workers: int) -> Iterator[Label]:
    """Write images and yield their labels, in the order of ``shots``.

    Args:
        job: What is made.
        shots: Images to write.
        folder: Folder of the data set, with the folders of the images in it.
        workers: Processes; more than one are started afresh (spawn), so that it works alike on
            every platform and beside threads.
    """
    done = 0
    if workers > 1:
        chunks = [shots[start : start + _CHUNK] for start in range(0, len(shots), _CHUNK)]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            pending = [pool.submit(_write_chunk, job, chunk, folder) for chunk in chunks]
            try:
                for future in pending:
                    labels = future.result()
                    done += len(labels)
                    yield from labels
            except BrokenProcessPool:
                # A script without the `if __name__ == "__main__"` guard, or no memory for more.
                _logger.warning("worker processes cannot be used here; going on with one process")
            finally:
                pool.shutdown(cancel_futures=True)
    world = job.world()
    for shot in shots[done:]:
        yield write_shot(job, world, shot, folder)


def _write_chunk(job: Job, shots: Sequence[Shot], folder: Path) -> list[Label]:
    world = job.world()
    return [write_shot(job, world, shot, folder) for shot in shots]
