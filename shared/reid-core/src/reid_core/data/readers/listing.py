"""Sorted listings of image files whose names carry the labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reid_core.data import archives
from reid_core.data.locate import describe_folder
from reid_core.errors import DatasetError

__all__ = ["IMAGE_SUFFIXES", "Listing", "NamePattern", "NamedImage", "list_images"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings of image files, compared without regard to capitals: people re-encode data sets."""


class NamePattern(NamedTuple):
    """How a file is called: a regular expression and how to say it to a person.

    The expression is matched from the start of the path below the split's folder, for example
    ``001/A_cropped_rgb003.jpg``: never against folders above it.
    """

    regex: re.Pattern[str]
    shown: str


class NamedImage(NamedTuple):
    """An image file and the labels read from its name."""

    path: Path
    labels: re.Match[str]


class Listing:
    """Lists the folders of one data set and remembers the files whose names make no sense.

    Attributes:
        folder: The data set's own folder.
        misnamed: Image files whose names did not match, each with the pattern it should match.
        notes: Sentences for ``ReIDDataset.notes``.
        prefer_arrays: Use pre-processed arrays where image files are there, too.
    """

    def __init__(self, folder: Path, *, prefer_arrays: bool = False) -> None:
        self.folder = folder
        self.prefer_arrays = prefer_arrays
        self.misnamed: list[tuple[Path, NamePattern]] = []
        self.notes: list[str] = []

    def images(self, below: str, pattern: NamePattern, *, nested: bool = False) -> list[NamedImage]:
        """Return the images of one folder with the labels in their names, sorted by path.

        Args:
            below: Folder below the data set's own folder.
            pattern: How the files are called.
            nested: Images lie one folder deeper (one folder per person).

        Raises:
            DatasetError: When the folder cannot be listed or holds no image.
        """
        folder = self.folder / below
        names = list_images(folder, depth=int(nested))
        if not names:
            where = "its subfolders hold" if nested else "it holds"
            raise DatasetError(
                f"no images in {folder}: {where} no file called {pattern.shown}; "
                f"{describe_folder(folder)}. Copy or extract the data set again."
            )
        images = []
        for name in names:
            labels = pattern.regex.match(name)
            if labels is None:
                self.misnamed.append((folder / name, pattern))
            else:
                images.append(NamedImage(folder / name, labels))
        return images


def list_images(folder: Path, *, depth: int) -> list[str]:
    """Return the image files exactly ``depth`` folders below ``folder``.

    Returns:
        Paths relative to ``folder`` with forward slashes, sorted as text: the same order on every
        operating system. Hidden files and folders are left out.

    Raises:
        DatasetError: When a folder cannot be listed.
    """
    try:
        return sorted(_walk(folder, "", depth))
    except OSError as error:
        raise DatasetError(
            f"cannot list the folder {error.filename or folder}: {error.strerror}; check that it "
            "exists and that you may read it"
        ) from error


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    for name, is_folder in archives.list_entries(folder):
        if name.startswith("."):
            continue
        if depth == 0:
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield prefix + name
        elif is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/", depth - 1)
