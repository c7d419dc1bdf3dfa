"""One's own images in one folder per person."""

from __future__ import annotations

import re
from pathlib import Path

from reid_core.data.layout import SYNTHETIC_MARKER
from reid_core.data.locate import describe_folder, list_names
from reid_core.data.readers.custom import CUSTOM_SPLITS, CustomImage, label_splits
from reid_core.data.readers.listing import Listing, NamePattern, list_images
from reid_core.data.sample import ReIDDataset
from reid_core.errors import DatasetError, DatasetNotFoundError

__all__ = ["FOLDER_LAYOUT", "has_folder_layout", "read_folder"]

FOLDER_LAYOUT = """\
ROOT/
  train/<person>/*.jpg      query/<person>/*.jpg      gallery/<person>/*.jpg
or, for training alone, ROOT/<person>/*.jpg
An outfit may be a folder inside the person's: <person>/<outfit>/*.jpg
A camera is the number after 'c' or 'cam' in the file name: 0002_c1_000451.jpg, cam3-12.png"""

_CAMERA = re.compile(r"(?:^|[_-])c(?:am)?([0-9]+)", re.IGNORECASE)
_PERSON = NamePattern(re.compile(r"[^/]+/"), "<person>/<image>.jpg")
# Names under which other layouts keep their splits: they are no people.
_OTHER_SPLITS = frozenset({"bounding_box_test", "bounding_box_train", "test", "val"})


def has_folder_layout(root: Path) -> bool:
    """Tell whether ``root`` has at least one of the split folders with people's folders in it."""
    return any(
        (root / split).is_dir() and bool(list_images(root / split, depth=1))
        for split in CUSTOM_SPLITS
    )


def read_folder(root: Path, listing: Listing) -> ReIDDataset:
    """Read ``root/<split>/<person>/...`` or ``root/<person>/...``.

    Splits: those of train, query and gallery that are there. See ``FOLDER_LAYOUT`` for where
    outfits and cameras come from; where not every image has one, none is used and a note says so.

    Raises:
        DatasetNotFoundError: When ``root`` is no folder or nothing in it fits the layout.
        DatasetError: When a split folder holds no person's images.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DatasetNotFoundError(f"the folder {root} {what}. Expected:\n{FOLDER_LAYOUT}")
    folders = {split: root / split for split in CUSTOM_SPLITS if (root / split).is_dir()}
    if not folders:
        _refuse_other_layouts(root)
        folders = {"train": root}
    flat, nested = [], []
    for split, folder in folders.items():
        stray = list_images(folder, depth=0) if split in CUSTOM_SPLITS and folder != root else []
        listing.misnamed.extend((folder / name, _PERSON) for name in stray)
        plain = [(split, folder, name) for name in list_images(folder, depth=1)]
        deeper = [(split, folder, name) for name in list_images(folder, depth=2)]
        if not plain and not deeper:
            raise DatasetError(
                f"no images in {folder}: put them in as {_PERSON.shown}, or remove the folder; "
                f"{describe_folder(folder)}"
            )
        flat += plain
        nested += deeper
    images = [_image(*place, outfit_known=not flat) for place in [*flat, *nested]]
    order = {split: rank for rank, split in enumerate(CUSTOM_SPLITS)}
    images.sort(key=lambda image: (order[image.split], image.path.as_posix()))
    splits, notes = label_splits(images)
    if flat and nested:
        notes.append(
            f"{len(flat):,} of {len(images):,} images lie in no outfit folder: outfits are not used"
        )
    return ReIDDataset(
        name="folder",
        root=root,
        splits=splits,
        synthetic=(root / SYNTHETIC_MARKER).is_file(),
        notes=tuple(notes),
    )


def _image(split: str, folder: Path, name: str, *, outfit_known: bool) -> CustomImage:
    person, *between, file = name.split("/")
    camera = _CAMERA.search(file)
    outfit = between[0] if between and outfit_known else None
    return CustomImage(folder / name, split, person, camera and camera[1], outfit)


def _refuse_other_layouts(root: Path) -> None:
    names = {name.rstrip("/") for name in list_names(root)}
    if names & _OTHER_SPLITS:
        raise DatasetNotFoundError(
            f"{root} holds {', '.join(sorted(names & _OTHER_SPLITS))}, which cannot be people; "
            f"splits are called {', '.join(CUSTOM_SPLITS)}. Expected:\n{FOLDER_LAYOUT}"
        )
    if list_images(root, depth=1) or list_images(root, depth=2):
        return
    hint = next((sub for sub in sorted(root.iterdir()) if _holds_splits(sub)), None)
    above = "" if hint is None else f"\nYou are one level too high: give {hint} instead."
    raise DatasetNotFoundError(
        f"no images in folders of {root}; {describe_folder(root)}.{above}\nExpected:\n"
        f"{FOLDER_LAYOUT}"
    )


def _holds_splits(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in CUSTOM_SPLITS)
