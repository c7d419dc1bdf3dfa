"""Files that are either whole or not there. Imports no torch."""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from reid_core.errors import OutputError

__all__ = [
    "atomic_file",
    "is_leftover",
    "make_parent",
    "output_error",
    "remove_leftovers",
    "user_cache_folder",
    "write_json",
]

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def atomic_file(
    path: Path, *, needed: int | None = None, advice: str = "", durable: bool = True
) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete.

    The bytes go to a temporary file beside ``path``, are forced to the disk (but see ``durable``)
    and take its name in one step. When anything fails, or the process is killed, whatever was at
    ``path`` stays as it was; the temporary file is removed at once, or by ``remove_leftovers``
    after a kill.

    Args:
        path: The file; its folder must exist.
        needed: Size in bytes if known; shown when the disk is full.
        advice: What to do when the file cannot be written; a last sentence of the message.
        durable: Wait until the bytes are on the disk, so that a power cut cannot lose them; False
            for the many small files that their maker checks and makes again.

    Yields:
        The open temporary file.

    Raises:
        OutputError: When the operating system refuses the file (disk full, no permission, ...).
            Other exceptions of the body pass through.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Not tempfile: its files can be read by their owner only, and so could the result.
        raw = _RecordingFile(temporary, "xb")
    except OSError as error:
        raise output_error(path, error, needed=needed, advice=advice) from error
    file = io.BufferedWriter(raw)
    try:
        yield file
        with raw.recording():
            file.flush()
            if durable:
                os.fsync(raw.fileno())
            file.close()
            os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # a full disk fails here a second time
            file.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if raw.error is None:
            raise
        raise output_error(path, raw.error, needed=needed, advice=advice) from error
    if durable:
        _sync_folder(path.parent)


class _RecordingFile(io.FileIO):
    """A file that remembers a refused write: torch.save hides it behind a RuntimeError."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        with self.recording():
            return super().write(data)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Remember an ``OSError`` of the body as this file's error."""
        try:
            yield
        except OSError as error:
            self.error = error
            raise


def make_parent(path: Path) -> None:
    """Make the folder of a file that is to be written, and check that it can be written to.

    For commands whose work takes long: what cannot be written at the end fails at the start.

    Raises:
        OutputError: When the folder cannot be made, or nothing can be written into it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise output_error(path, error) from error


def write_json(path: Path, value: Mapping[str, Any], *, advice: str = "") -> None:
    """Write one JSON object (UTF-8, indented) through ``atomic_file``."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path, advice=advice) as file:
        file.write(text.encode("utf-8") + b"\n")


def user_cache_folder() -> Path:
    """Return the folder for what can be made again: ``REID_CACHE``, or the platform's own place.

    Raises:
        OutputError: When there is no home folder to put it in.
    """
    chosen = os.environ.get("REID_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else _platform_cache_folder()
    except RuntimeError as error:  # pathlib's, for a user without a home folder (containers)
        raise OutputError(
            "there is no home folder to keep images in between runs; name a folder with the "
            "environment variable REID_CACHE"
        ) from error


def _platform_cache_folder() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "reid-core"


def is_leftover(path: Path) -> bool:
    """Tell whether ``path`` is named like a temporary file of ``atomic_file``."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in ``folder``."""
    for path in folder.iterdir():
        if is_leftover(path):
            with suppress(OSError):
                path.unlink()


def output_error(
    path: Path, cause: OSError, *, needed: int | None = None, advice: str = ""
) -> OutputError:
    """Describe a refused write: path, reason, sizes where the disk is full, what to do."""
    parts = [f"cannot write {path}: {cause.strerror or cause}."]
    if cause.errno in _FULL:
        if needed is not None:
            parts.append(f"About {_readable(needed)} are needed.")
        with suppress(OSError):
            parts.append(f"Free there: {_readable(shutil.disk_usage(path.parent).free)}.")
        parts.append(advice or "Free some space, or choose a folder on another disk.")
    elif cause.errno in _FORBIDDEN:
        parts.append("Choose a folder that you may write to, or change its permissions.")
    elif advice:
        parts.append(advice)
    return OutputError(" ".join(parts))


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the operating system can (not on Windows)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _readable(num_bytes: int) -> str:
    """Format a size: ``1.7 GB``."""
    size = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
