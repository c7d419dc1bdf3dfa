"""Doing a step for many images: only what has changed, in several processes, file by file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from reid_core.data import archives
from reid_core.data.array_rows import map_array, split_row, stored_file
from reid_core.data.companions import COMPANION_SUFFIXES
from reid_core.errors import DatasetError, ImageFileError
from reid_core.files import atomic_file, output_error, remove_leftovers
from reid_core.processes import choose_workers, map_in_processes
from reid_deskpro.prepare.records import Journal, Record, SourceStamp
from reid_deskpro.prepare.steps import Step, Task

__all__ = ["DAMAGED", "StepResult", "run_step"]

DAMAGED = "damaged"
"""Reason of a record whose sources cannot be read; tried again by every run."""

_CHUNK = 16  # images per message between processes
_MAX_FAULTS = 200  # so many are a mistake in the settings
_FAULTS_SHOWN = 5


class StepResult(NamedTuple):
    """What a step has done.

    Attributes:
        num_images: Images in all.
        num_done: Those that were worked on; the others were as they should be.
        missing: Why there is no file for an image, with the number of such images, the most
            frequent reason first.
    """

    num_images: int
    num_done: int
    missing: dict[str, int]


class _Done(NamedTuple):
    """What a process reports of one image; ``fault`` says what is damaged."""

    record: Record
    fault: str = ""


def run_step(
    step: Step,
    tasks: Sequence[Task],
    journal_path: Path,
    *,
    workers: int = 0,
    skip_corrupt: bool = False,
    begin: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StepResult:
    """Do a step for every image that it has not been done for.

    An image is left alone where the step was done with the same parameters, the same sources (by
    size and time, or else by contents) and its file is still there.

    Args:
        step: What is done.
        tasks: The images; two may not share an output.
        journal_path: Where the records are kept.
        workers: Processes; 0 takes what suits the machine.
        skip_corrupt: Leave out what is damaged instead of stopping.
        begin: Called once before the first image; not called where nothing is to do.
        progress: Called with (images done, images in all), likewise.

    Returns:
        What there is now; the records themselves are in the journal.

    Raises:
        ImageFileError: When sources are damaged. All other images are done before, unless very
            many are.
        OutputError: When a file cannot be written.
    """
    _make_folders({task.output.parent for task in tasks} | {journal_path.parent})
    with Journal(journal_path, step.name, step.parameters) as journal:
        open_tasks = [
            (task, journal.records.get(task.image))
            for task in tasks
            if not _is_done(task, journal.records.get(task.image))
        ]
        if open_tasks and begin is not None:
            begin()
        number = workers or choose_workers(len(open_tasks))
        faults = []
        for count, done in enumerate(
            map_in_processes(
                partial(_work, step), open_tasks, num_workers=number, chunk_size=_CHUNK
            ),
            start=1,
        ):
            journal.add(done.record)
            if done.fault and not skip_corrupt:
                faults.append(done.fault)
                if len(faults) == _MAX_FAULTS:
                    break
            if progress is not None:
                progress(count, len(open_tasks))
        if faults:
            raise ImageFileError(_describe_faults(step.name, faults))
        journal.keep_only({task.image for task in tasks})
    reasons = Counter(record.reason for record in journal.records.values() if record.reason)
    return StepResult(len(tasks), len(open_tasks), dict(reasons.most_common()))


def _describe_faults(step: str, faults: Sequence[str]) -> str:
    lines = [f"  {fault}" for fault in faults[:_FAULTS_SHOWN]]
    if len(faults) > _FAULTS_SHOWN:
        lines.append(f"  ... and {len(faults) - _FAULTS_SHOWN:,} more")
    number = f"{len(faults):,} or more" if len(faults) == _MAX_FAULTS else f"{len(faults):,}"
    return "\n".join(
        [
            f"step {step}: files that cannot be used: {number}",
            *lines,
            "Mend or restore them and run the command again (what is done stays done), or leave "
            "them out with --skip-corrupt.",
        ]
    )


def _make_folders(folders: set[Path]) -> None:
    for folder in sorted(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        except OSError as error:
            raise output_error(folder, error) from error


def _is_done(task: Task, record: Record | None) -> bool:
    """Tell whether an image can be left alone without reading any file."""
    return (
        record is not None
        and record.reason != DAMAGED
        and record.given == task.given
        and record.sources.keys() == task.sources.keys()
        and _output_size(task.output) == record.size
        and all(stamp[:2] == _stamp(task.sources[name]) for name, stamp in record.sources.items())
    )


def _work(step: Step, tasks: Sequence[tuple[Task, Record | None]]) -> list[_Done]:
    """Do a chunk of tasks; in any process."""
    return [_do(step, task, record) for task, record in tasks]


def _do(step: Step, task: Task, record: Record | None) -> _Done:
    try:
        sources = {name: _digest(path) for name, path in task.sources.items()}
        if record is not None and _holds(record, task, sources):
            return _Done(record._replace(sources=sources))
        outcome = step.make(task)
    except ImageFileError as error:
        _remove(task.output)
        return _Done(Record(task.image, {}, task.given, None, DAMAGED), str(error))
    size = None
    if outcome.content is None:
        _remove(task.output)
    else:
        with atomic_file(task.output, needed=len(outcome.content), durable=False) as file:
            file.write(outcome.content)
        size = len(outcome.content)
    for other in _siblings(task.output):
        _remove(other)
    return _Done(Record(task.image, sources, task.given, size, outcome.reason, outcome.box))


def _holds(record: Record, task: Task, sources: dict[str, SourceStamp]) -> bool:
    """Tell whether a record is of sources with the same contents, whatever their times."""
    return (
        record.reason != DAMAGED
        and record.given == task.given
        and {name: stamp.sha1 for name, stamp in record.sources.items()}
        == {name: stamp.sha1 for name, stamp in sources.items()}
        and _output_size(task.output) == record.size
    )


def _digest(path: Path) -> SourceStamp:
    """Read a source and return its size, time and digest.

    Raises:
        ImageFileError: When it cannot be read.
    """
    row = split_row(path)
    try:
        content = archives.read_file(path) if row is None else _row_bytes(*row)
        return SourceStamp(*_stamp(path), hashlib.sha1(content, usedforsecurity=False).hexdigest())
    except (OSError, DatasetError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageFileError(f"cannot read {path}: {reason}") from error


def _row_bytes(file: Path, row: int) -> bytes:
    content: bytes = _open_array(file)[row].tobytes()
    return content


_open_array = lru_cache(maxsize=4)(map_array)


def _stamp(path: Path) -> tuple[int, int]:
    """Return size and time of the file that holds a source; (-1, 0) where it is gone."""
    try:
        return archives.stamp(stored_file(path))
    except OSError:
        return -1, 0


def _output_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _siblings(path: Path) -> list[Path]:
    """Return the names under which the same companion may stand with another ending."""
    return [path.with_suffix(suffix) for suffix in COMPANION_SUFFIXES if suffix != path.suffix]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
