"""Files of many synthetic images, written by this process or by several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from reid_core.data.synthetic.files import Job
from reid_core.data.synthetic.shots import Shot
from reid_core.data.synthetic.world import World
from reid_core.processes import map_in_processes

__all__ = ["ShotWriter", "write_shots"]

T = TypeVar("T")

ShotWriter = Callable[[Job, World, Shot, Path], T]
"""Writes what belongs to one image into a folder and returns what is known of it."""

_CHUNK = 24  # Images per message between processes.


def write_shots(
    job: Job, shots: Sequence[Shot], folder: Path, workers: int, write: ShotWriter[T]
) -> Iterator[T]:
    """Write the files of images and yield what ``write`` returns, in the order of ``shots``.

    Args:
        job: What is made.
        shots: Images to write.
        folder: Folder to write into, with the folders of the files in it.
        workers: Processes (see `reid_core.processes.map_in_processes`).
        write: A function of a module, so that other processes find it by its name.
    """
    work = partial(_write_chunk, job, folder, write)
    return map_in_processes(work, shots, num_workers=workers, chunk_size=_CHUNK)


def _write_chunk(job: Job, folder: Path, write: ShotWriter[T], shots: Sequence[Shot]) -> list[T]:
    world = job.world()
    return [write(job, world, shot, folder) for shot in shots]
