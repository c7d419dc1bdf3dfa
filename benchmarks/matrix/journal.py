"""Files of one JSON object per line that only ever grow, whole lines at a time."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from reid_core.errors import OutputError, ReIDError
from reid_core.files import output_error

__all__ = ["Journal", "JournalError", "read_journal"]

_LOCK_OFFSET = 2**30  # one byte far beyond the text, which others may read meanwhile
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_PATIENCE = 60.0  # seconds


class JournalError(ReIDError):
    """A journal is damaged, or another process holds it."""


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read all records; a missing file has none.

    A last line without its end is one that a killed process was writing: it does not count.

    Raises:
        JournalError: When another line is no JSON object.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror or error}") from error
    records = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise JournalError(
                f"{path}, line {number} is no JSON ({error}); mend or delete this line"
            ) from error
        if not isinstance(record, dict):
            raise JournalError(f"{path}, line {number} is no JSON object; mend or delete this line")
        records.append(record)
    return records


class Journal:
    """A journal that this process alone may write to while it is open. Use in a ``with``.

    The lock is the operating system's: it goes with the process, however that ends.

    Args:
        path: The file; it and its folder are made where they are missing.
        patience: Seconds to wait for another process that holds it.

    Raises:
        JournalError: When another process still holds it then.
        OutputError: When it cannot be written.
    """

    def __init__(self, path: Path, *, patience: float = _PATIENCE) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise output_error(path, error) from error
        try:
            _wait_for(self._lock, patience, path)
            self._repair()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def read(self) -> list[dict[str, Any]]:
        """Return all records."""
        return read_journal(self.path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is on the disk when this returns, or not there at all.

        Raises:
            OutputError: When it cannot be written.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OutputError(f"cannot write {self.path}: the disk is full")
            os.fsync(self._descriptor)
        except BaseException as error:
            os.ftruncate(self._descriptor, end)
            if isinstance(error, OSError):
                raise output_error(self.path, error) from error
            raise

    def clear(self) -> None:
        """Remove all records."""
        os.ftruncate(self._descriptor, 0)

    def _repair(self) -> None:
        """Cut off the line that a killed process did not finish."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._descriptor, whole)

    def _lock(self) -> bool:
        try:
            if sys.platform == "win32":
                import msvcrt

                os.lseek(self._descriptor, _LOCK_OFFSET, os.SEEK_SET)
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                # Not lockf, whose locks threads of one process would share.
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True  # some network file systems have no locks; the work goes on without
        return True


def _wait_for(attempt: Callable[[], bool], patience: float, path: Path) -> None:
    deadline = time.monotonic() + patience
    while not attempt():
        if time.monotonic() >= deadline:
            raise JournalError(f"{path} is in use by another benchmark; let it finish")
        time.sleep(0.05)
