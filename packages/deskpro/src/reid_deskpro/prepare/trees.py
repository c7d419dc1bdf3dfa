"""Folders of files that stand parallel to a data set's images. Imports no NumPy."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from reid_core.data import archives
from reid_core.data.locate import describe_folder
from reid_core.errors import DatasetError, DatasetNotFoundError

__all__ = ["ParallelTree"]


class ParallelTree:
    """Finds the file of an image: the same path below another folder, with another ending.

    Each folder is listed once. A tree inside a zip archive is read in place.

    Args:
        folder: Top of the tree.
        suffixes: Endings, the preferred one first; upper and lower case are the same.
        what: What the files are, for messages, e.g. ``label map``.
        option: The command's option for the folder, for messages, e.g. ``--parsing``.

    Raises:
        DatasetNotFoundError: When there is no such folder.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str], *, what: str, option: str) -> None:
        if not archives.is_folder(folder):
            raise DatasetNotFoundError(f"{option} {folder}: there is no such folder of {what}s")
        self.folder = folder
        self._suffixes = tuple(suffixes)
        self._what = what
        self._option = option
        self._listed: dict[PurePosixPath, Mapping[str, str]] = {}

    def find(self, image: PurePosixPath) -> Path | None:
        """Return the file of an image, or None where there is none.

        Args:
            image: Path of the image below the data set's folder.

        Raises:
            DatasetError: When a folder cannot be listed.
        """
        parent = image.parent
        if parent not in self._listed:
            self._listed[parent] = self._list(self.folder / parent)
        name = self._listed[parent].get(image.stem)
        return None if name is None else self.folder / parent / name

    def find_all(self, images: Collection[PurePosixPath]) -> dict[PurePosixPath, Path]:
        """Return the files of those images that have one.

        Raises:
            DatasetError: When none has, which is a mistake in the folder, or one cannot be listed.
        """
        found = {image: path for image in images if (path := self.find(image)) is not None}
        if not found and images:
            example = next(iter(images)).with_suffix(self._suffixes[0])
            raise DatasetError(
                f"{self._option} {self.folder} holds a {self._what} of none of the {len(images):,} "
                f"images; expected are files such as {self.folder / example} "
                f"({', '.join(self._suffixes)}); {describe_folder(self.folder)}"
            )
        return found

    def _list(self, folder: Path) -> dict[str, str]:
        """Return file names by stem."""
        try:
            entries = archives.list_entries(folder)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise DatasetError(
                f"cannot list the folder {folder}: {error.strerror}; check that you may read it"
            ) from error
        found: dict[str, str] = {}
        ranks: dict[str, int] = {}
        for entry in sorted(entries):
            stem, ending = os.path.splitext(entry.name)
            if (
                entry.is_folder
                or entry.name.startswith(".")
                or ending.lower() not in self._suffixes
            ):
                continue
            rank = self._suffixes.index(ending.lower())
            if stem not in found or rank < ranks[stem]:
                found[stem], ranks[stem] = entry.name, rank
        return found
