"""Folders that one process at a time may write to. Imports no torch."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from reid_core.errors import ConfigError
from reid_core.files import output_error

__all__ = ["LOCK_NAME", "FolderLock"]

LOCK_NAME = ".lock"
"""File that is locked; it stays, and means nothing by itself."""

_LOCK_OFFSET = 2**20  # beyond the text, which others may read while the byte is locked
_POLL_SECONDS = 0.2  # between two looks at a lock that is waited for


class FolderLock:
    """A folder, locked against a second process.

    The lock belongs to the process, so the operating system drops it when the process ends, however
    it ends; a leftover lock file means nothing. Use as a context manager.

    Args:
        path: The folder; it must exist.
        what: What people call it, for messages, e.g. ``run folder``.
        wait: Wait until no other process uses it.

    Attributes:
        path: The folder.

    Raises:
        ConfigError: When another process uses it, unless ``wait``.
        OutputError: When the lock file cannot be made.
    """

    def __init__(self, path: Path, what: str, *, wait: bool = False) -> None:
        self.path = path
        self._what = what
        self._lock = path / LOCK_NAME
        try:
            self._descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise output_error(self._lock, error) from error
        try:
            self._acquire(wait=wait)
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Drop the lock."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _acquire(self, *, wait: bool) -> None:
        """Lock one byte of the lock file.

        Raises:
            ConfigError: When another process holds it, unless ``wait``.
        """
        while True:
            try:
                self._lock_byte()
                break
            except (BlockingIOError, PermissionError) as error:
                if not wait:
                    owner = self._lock.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
                    raise ConfigError(
                        f"{self._what} {self.path} is in use by {owner or 'another process'}; "
                        "wait for it, stop it, or choose another folder with --out"
                    ) from error
                time.sleep(_POLL_SECONDS)
            except OSError:
                return  # some network file systems have no locks; the work goes on without
        with suppress(OSError):  # only read by people; a full disk must not matter here
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            owner = f"process {os.getpid()} on {socket.gethostname()}\n"
            os.write(self._descriptor, owner.encode("utf-8"))

    def _lock_byte(self) -> None:
        """Take the lock, or raise the operating system's error at once."""
        os.lseek(self._descriptor, _LOCK_OFFSET, os.SEEK_SET)
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
