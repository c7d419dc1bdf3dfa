"""Folders that appear at once when they are complete, or not at all."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["has_content", "move_into_place", "partial_folder"]

# A run killed half-way leaves its temporary folder behind; the next one clears it after a day, when
# it cannot belong to a run that is still going.
_STALE_SECONDS = 24 * 3600


@contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """Make an empty folder beside ``folder``, in which it is to be filled.

    The parent is made if missing. What is in the folder at the end is removed, unless it has been
    moved into place.

    Raises:
        OSError: It cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    partial = folder.with_name(f".{folder.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir()
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def move_into_place(partial: Path, folder: Path, is_complete: Callable[[], bool]) -> None:
    """Give a complete folder its name, unless another process was faster.

    Args:
        partial: The folder that is complete.
        folder: Its name. What is there already is replaced.
        is_complete: Tells whether what is wanted is there under that name.

    Raises:
        OSError: It cannot be moved.
    """
    if is_complete():
        return
    if folder.exists():
        # Renamed first: the old one is there or gone, never half gone.
        old = folder.with_name(f"{partial.name}-old")
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        partial.rename(folder)
    except OSError:
        if not is_complete():
            raise


def has_content(path: Path) -> bool:
    """Tell whether a file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def _remove_stale(folder: Path) -> None:
    for path in folder.parent.glob(f".{folder.name}.partial-*"):
        with suppress(OSError):  # another process may be clearing it too
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path)
