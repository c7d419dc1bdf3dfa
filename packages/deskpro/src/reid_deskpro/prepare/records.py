"""What each step did to each image, on disk: a later run does what has changed, and no more.

A step's journal is a file of JSON lines. The first line names the step and its parameters, each
other line is one image. Lines are added while the step runs; a killed run leaves a journal that
ends anywhere. Imports no NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from reid_core.files import atomic_file, output_error

__all__ = ["RECORDS_FOLDER", "Journal", "Record", "SourceStamp", "read_boxes"]

RECORDS_FOLDER = "records"
"""Folder, below the prepared one, of the journals."""


class SourceStamp(NamedTuple):
    """A file that an outcome depends on.

    Attributes:
        size: Bytes.
        changed: When it was last changed, ns; alone it proves nothing, but what has the same is
            not read again.
        sha1: Digest of its contents.
    """

    size: int
    changed: int
    sha1: str


class Record(NamedTuple):
    """The outcome of a step for one image.

    Attributes:
        image: Path of the image below the data set's folder.
        sources: The files that the outcome depends on, by what they are for.
        given: What else it depends on, as JSON has it: the boxes of a detector.
        size: Bytes of the file that was written; None where there is none.
        reason: Why there is none; empty where there is one.
        box: Square that was cut out of the image (left, top, side), pixels; None where none was.
    """

    image: str
    sources: Mapping[str, SourceStamp]
    given: Any
    size: int | None
    reason: str = ""
    box: tuple[int, int, int] | None = None


class Journal:
    """The records of one step. Use as a context manager around the work.

    Args:
        path: File; its folder must exist.
        step: Name of the step.
        parameters: What the outcomes depend on beside the sources, as JSON has it. Records that
            were made with other parameters count for nothing.

    Attributes:
        records: The valid records by image.

    Raises:
        OutputError: When the file cannot be written.
    """

    def __init__(self, path: Path, step: str, parameters: Mapping[str, Any]) -> None:
        self._path = path
        self._head = json.loads(json.dumps({"step": step, "parameters": parameters}))
        self.records = {record.image: record for record in _read_lines(path, self._head)}
        self._write_all()
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Keep a record, in memory and at once on disk.

        Raises:
            OutputError: When it cannot be written.
        """
        self.records[record.image] = record
        try:
            self._file.write(_to_line(record))
            self._file.flush()
        except OSError as error:
            raise output_error(self._path, error) from error

    def keep_only(self, images: set[str]) -> None:
        """Forget all other images and leave a file with one line per image, sorted.

        Raises:
            OutputError: When it cannot be written.
        """
        self.records = {name: self.records[name] for name in sorted(images & set(self.records))}
        self._file.close()
        self._write_all()

    def _write_all(self) -> None:
        with atomic_file(self._path) as file:
            file.write(json.dumps(self._head).encode("utf-8") + b"\n")
            for record in self.records.values():
                file.write(_to_line(record).encode("utf-8"))


def read_boxes(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return the squares that were cut out, by image; none where there is no such journal."""
    return {record.image: record.box for record in _read_lines(path) if record.box is not None}


def _read_lines(path: Path, head: Mapping[str, Any] | None = None) -> Iterator[Record]:
    """Yield the records of a journal as far as it goes; none where it has another first line."""
    try:
        with path.open(encoding="utf-8") as lines:
            first = next(lines, "")
            if head is None or json.loads(first) == head:
                for line in lines:
                    yield _from_json(json.loads(line))
    except (OSError, ValueError, TypeError, KeyError):
        return  # not there yet, or the end of a killed run


def _to_line(record: Record) -> str:
    return json.dumps(record._asdict()) + "\n"


def _from_json(value: Mapping[str, Any]) -> Record:
    sources = {name: SourceStamp(*stamp) for name, stamp in value["sources"].items()}
    box = None if value["box"] is None else tuple(value["box"])
    return Record(**{**value, "sources": sources, "box": box})
