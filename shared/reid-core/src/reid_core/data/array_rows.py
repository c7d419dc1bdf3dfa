"""Images that are rows of a ``.npy`` file, as the official pre-processing of SYSU-MM01 keeps them.

Such an image has the path ``<file>.npy/<row>``: unique, sortable and understood by ``read_image``
like the path of any image file. Files are mapped, never loaded whole, and never unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["map_array", "row_path", "split_row", "stored_file"]


def row_path(file: Path, row: int) -> Path:
    """Return the path that stands for one row, counted from 0, of an array of images."""
    return file / f"{row:06d}"


def split_row(path: Path) -> tuple[Path, int] | None:
    """Return the file and the row that a path of ``row_path`` stands for; None for other paths."""
    if path.parent.suffix == ".npy" and path.name.isdecimal():
        return path.parent, int(path.name)
    return None


def stored_file(path: Path) -> Path:
    """Return the file on disk that holds an image: the array of a row, else the path itself."""
    row = split_row(path)
    return path if row is None else row[0]


def map_array(file: Path) -> npt.NDArray[Any]:
    """Map a ``.npy`` file for reading.

    Raises:
        DatasetError: When it cannot be read, is no whole ``.npy`` file, or holds Python objects.
    """
    # Imported here because commands read samples before they can afford to load NumPy.
    from numpy.lib.format import open_memmap

    try:
        return open_memmap(file, mode="r")
    except OSError as error:
        raise DatasetError(f"cannot read the array {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise DatasetError(
            f"{file} is not a whole .npy array of numbers ({error}); copy it again, or make it anew"
        ) from error
