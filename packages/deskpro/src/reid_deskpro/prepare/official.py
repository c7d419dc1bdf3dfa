"""The layout that the official program reads: `imgs`, `lr_face`, `hr_face`, `mask`.

Each holds a folder per split. Everything there has the name of its image and ends in ``.jpg``.
Masks and faces made here are PNG, which keeps the zeros of a mask exact; Pillow and OpenCV tell
formats by their contents, so that the ending does no harm. Imports no NumPy.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

from reid_core.data.archives import split_member
from reid_core.data.companions import companions_of
from reid_core.data.layout import SYNTHETIC_MARKER
from reid_core.data.sample import ReIDDataset
from reid_core.errors import ConfigError, DatasetError
from reid_core.files import output_error, remove_leftovers

__all__ = ["OFFICIAL_FOLDER", "OFFICIAL_LAYOUTS", "OfficialLayout", "check_official", "lay_out"]

OFFICIAL_FOLDER = "official"
"""Folder below the prepared one; what the official program calls ``dataset``."""

_IMAGES = "imgs"

How = Literal["link", "copy"]


@dataclass(frozen=True)
class OfficialLayout:
    """How the official program calls the images of a data set.

    Attributes:
        folder: Folder of the data set.
        splits: Split to its folder.
        pattern: What the path of an image below the data set's folder looks like.
        name: The official name without its ending, from the groups of ``pattern``.
    """

    folder: str
    splits: Mapping[str, str]
    pattern: re.Pattern[str]
    name: Callable[[re.Match[str]], str]


_CELEB_SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_CELEB_NAME = re.compile(r".*?([^/]*?)_([0-9]+)_([0-9]+)\.[^.]+")
# Training: rgb/train/001/A_cropped_rgb003.jpg; test: rgb/test/A/005/cropped_rgb002.jpg.
_PRCC_NAME = re.compile(
    r"rgb/(?:train|val|test/(?P<test>[ABC]))/(?P<pid>[0-9]+)/"
    r"(?:(?P<train>[ABC])_)?.*?(?P<frame>[0-9]+)\.[^.]+"
)


def _prcc_name(found: re.Match[str]) -> str:
    camera = "ABC".index(found["test"] or found["train"]) + 1
    return f"{found['pid']}_c{camera}_{found['frame']}"


OFFICIAL_LAYOUTS: Mapping[str, OfficialLayout] = MappingProxyType(
    {
        "celeb": OfficialLayout(
            "celeb", _CELEB_SPLITS, _CELEB_NAME, lambda found: "{}_c{}_{}".format(*found.groups())
        ),
        "celeb_light": OfficialLayout(
            "celeb-light", _CELEB_SPLITS, _CELEB_NAME, lambda found: "_".join(found.groups())
        ),
        "prcc": OfficialLayout(
            "prcc",
            {
                "train": "bounding_box_train",
                "query_diff": "query",
                "query_same": "query_same",  # of ours; the official program has no such queries
                "gallery": "bounding_box_test",
            },
            _PRCC_NAME,
            _prcc_name,
        ),
    }
)
"""The data sets that the official program knows."""


def lay_out(dataset: ReIDDataset, folder: Path, *, how: How, with_val: bool = False) -> Path:
    """Lay images, masks and faces out as the official program expects them.

    What is there already and right is left alone, what does not belong there any more is removed.

    Args:
        dataset: A data set with its companions attached.
        folder: Where the data set's official folder is made.
        how: ``link`` makes hard links, and copies where the file system has none (as across two
            disks); ``copy`` makes copies.
        with_val: Put PRCC's validation images into the training folder, too.

    Returns:
        The data set's official folder.

    Raises:
        ConfigError: When the official program does not know the data set.
        DatasetError: When an image has a name that it does not know, or two would get the same.
        OutputError: When a file cannot be written.
    """
    wanted = _wanted(dataset, with_val=with_val)
    own = folder / OFFICIAL_LAYOUTS[dataset.name].folder
    if dataset.synthetic:
        wanted[PurePosixPath(SYNTHETIC_MARKER)] = dataset.root / SYNTHETIC_MARKER
    try:
        for below in sorted({path.parent for path in wanted}):
            (own / below).mkdir(parents=True, exist_ok=True)
        _remove_others(own, wanted)
        for below, source in wanted.items():
            _place(source, own / below, how)
    except OSError as error:
        raise output_error(own, error) from error
    return own


def check_official(name: str, *, with_val: bool = False) -> None:
    """Check that the official program knows a data set.

    Raises:
        ConfigError: When it does not.
    """
    if name not in OFFICIAL_LAYOUTS:
        raise ConfigError(
            f"--official-layout: the official program knows {', '.join(OFFICIAL_LAYOUTS)}, not "
            f"{name}; leave the option out, nothing else needs it"
        )
    if with_val and name != "prcc":
        raise ConfigError(f"--official-val: {name} has no validation images; leave it out")


def _wanted(dataset: ReIDDataset, *, with_val: bool) -> dict[PurePosixPath, Path]:
    """Return the file behind every official path, below the data set's official folder."""
    check_official(dataset.name, with_val=with_val)
    layout = OFFICIAL_LAYOUTS[dataset.name]
    splits = dict(layout.splits)
    if with_val:
        splits["val"] = splits["train"]
    wanted: dict[PurePosixPath, Path] = {}
    for split, samples in dataset.splits.items():
        if split not in splits:
            continue
        for sample in samples:
            name = _official_name(layout, sample.path.relative_to(dataset.root).as_posix())
            pictures = [(_IMAGES, sample.path), *companions_of(sample).items()]
            for kind, path in pictures:
                below = PurePosixPath(kind, splits[split], name)
                other = wanted.setdefault(below, path)
                if other != path:
                    raise DatasetError(f"{other} and {path} would both be called {below}")
    return wanted


def _official_name(layout: OfficialLayout, path: str) -> str:
    found = layout.pattern.fullmatch(path)
    if found is None:
        raise DatasetError(
            f"{path}: the official layout has no name for such an image; rename it as its authors "
            "ship it"
        )
    return f"{layout.name(found)}.jpg"


def _place(source: Path, target: Path, how: How) -> None:
    """Put a file where it is wanted, unless it is there."""
    if _is_same(source, target, how):
        return
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        if split_member(source) is not None:
            raise DatasetError(
                f"{source} lies in an archive; extract the data set for --official-layout"
            )
        if how == "copy" or not _link(source, temporary):
            shutil.copy2(source, temporary)
        os.replace(temporary, target)
    finally:
        # Where both are links to one file already, replacing leaves the temporary name.
        temporary.unlink(missing_ok=True)


def _is_same(source: Path, target: Path, how: How) -> bool:
    try:
        there, wanted = target.stat(), source.stat()
    except OSError:
        return False
    is_link = (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)
    if is_link:
        return how == "link"
    return (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def _link(source: Path, target: Path) -> bool:
    try:
        # Of a symbolic link, the file behind it: a link to it would lead nowhere from here.
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without hard links
        return False
    return True


def _remove_others(own: Path, wanted: Mapping[PurePosixPath, Path]) -> None:
    for folder in _leaf_folders(own):
        remove_leftovers(folder)
        for path in folder.iterdir():
            if path.is_file() and PurePosixPath(path.relative_to(own).as_posix()) not in wanted:
                path.unlink()


def _leaf_folders(own: Path) -> Iterator[Path]:
    """Yield the folders that hold pictures."""
    for kind in own.iterdir():
        if kind.is_dir():
            yield from (split for split in kind.iterdir() if split.is_dir())
