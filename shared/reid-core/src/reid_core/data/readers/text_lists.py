"""Lists in text files: identities on one line, or one labelled image per line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reid_core.data import archives
from reid_core.errors import DatasetError

__all__ = ["ImageLists", "ListedImage", "read_ids", "read_lines", "refuse_missing"]

_SHOWN = 5


class ListedImage(NamedTuple):
    """An image of a list and the identity that the list gives it."""

    path: Path
    pid: int


class ImageLists:
    """Reads lists of ``<path below the folder> <identity>`` lines.

    What one list names is remembered: ten lists of the same images cost little more than one.

    Args:
        folder: Folder that holds the lists.
        images: Folder below it that the paths in the lists start from.
    """

    def __init__(self, folder: Path, *, images: str = "") -> None:
        self._tables = folder
        self._folder = folder / images
        # The names in each folder, and the path of each image of a list; None where it is missing.
        self._names: dict[Path, frozenset[str]] = {}
        self._paths: dict[str, Path | None] = {}

    def read(self, below: str) -> list[ListedImage]:
        """Return the images of one list, in its order.

        Args:
            below: List file below the folder that holds the lists.

        Raises:
            DatasetError: When the list cannot be read or is empty, a line makes no sense, or an
                image is not there.
        """
        table = self._tables / below
        images, missing = [], []
        for number, line in enumerate(read_lines(table), 1):
            if not line.strip():
                continue
            # The label stands behind the last space: paths may hold spaces themselves.
            name, _, label = line.strip().replace("\\", "/").rpartition(" ")
            if not name or not _is_number(label) or name[0] == "/" or ".." in name.split("/"):
                raise DatasetError(
                    f"{table}, line {number}: {line!r} is not <image below {self._folder.name}> "
                    "<person>, with a number for the person"
                )
            path = self._find(name)
            if path is None:
                missing.append(name)
            else:
                images.append(ListedImage(path, int(label)))
        num_listed = len(images) + len(missing)
        if not num_listed:
            raise DatasetError(f"the list {table} is empty; copy or extract the data set again")
        refuse_missing(table, self._folder, missing, num_listed)
        return images

    def _find(self, name: str) -> Path | None:
        if name not in self._paths:
            path = self._folder / name
            self._paths[name] = path if path.name in self._list(path.parent) else None
        return self._paths[name]

    def _list(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                entries = archives.list_entries(folder)
                self._names[folder] = frozenset(entry.name for entry in entries)
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]


def refuse_missing(table: Path, folder: Path, missing: Sequence[str], num_listed: int) -> None:
    """Refuse a list that names images which are not there; nothing where none is missing.

    Args:
        table: The list.
        folder: Folder that was searched.
        missing: Images of the list that are not in it.
        num_listed: Images in the list.

    Raises:
        DatasetError: With the number of missing images and the first of them.
    """
    if missing:
        raise DatasetError(
            f"{table.name} lists images that are not in {folder} ({len(missing):,} of "
            f"{num_listed:,}): {', '.join(missing[:_SHOWN])}"
            f"{', ...' if len(missing) > _SHOWN else ''}. Copy or extract the data set again."
        )


def read_ids(table: Path) -> list[int]:
    """Read a list of identities: numbers with commas between them, on the first line.

    Returns:
        The identities in the order of the file. Further lines are not read, as officially.

    Raises:
        DatasetError: When the list cannot be read, is empty, holds anything else, or names an
            identity twice.
    """
    first = next(iter(read_lines(table)), "")
    fields = [field.strip() for field in first.split(",") if field.strip()]
    wrong = [field for field in fields if not _is_number(field)]
    if wrong or not fields:
        found = repr(wrong[0]) if wrong else "nothing"
        raise DatasetError(
            f"{table}: its first line must hold the numbers of people with commas between them, "
            f"e.g. 6,10,17; found {found}"
        )
    ids = [int(field) for field in fields]
    if len(set(ids)) < len(ids):
        twice = sorted({pid for pid in ids if ids.count(pid) > 1})
        raise DatasetError(f"{table} names {_join(twice)} more than once; copy the list again")
    return ids


def read_lines(table: Path) -> list[str]:
    """Read the lines of a list.

    Raises:
        DatasetError: When it cannot be read or is no text file.
    """
    try:
        return archives.read_file(table).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise DatasetError(f"cannot read the list {table}: {reason}") from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _join(pids: Sequence[int]) -> str:
    return ", ".join(map(str, pids[:_SHOWN])) + (", ..." if len(pids) > _SHOWN else "")
