"""Companion images: further pictures of the same shot as a sample's image.

A prepared folder P holds, for each kind, a tree parallel to that of the data set's images, with
``.png`` or ``.jpg`` files: ``P/lr_face/rgb/train/001/A_001.png`` belongs to the image
``rgb/train/001/A_001.jpg`` of the data set. Imports neither torch nor NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, get_args

from reid_core.data import archives
from reid_core.data.locate import describe_folder
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.errors import ConfigError, DatasetError, DatasetNotFoundError

__all__ = [
    "COMPANION_KINDS",
    "COMPANION_NAMES",
    "COMPANION_SUFFIXES",
    "CompanionKind",
    "attach_companions",
    "companion_path",
    "companions_of",
    "find_companions",
    "has_companions",
    "pair_samples",
    "relative_path",
]

CompanionKind = Literal["lr_face", "hr_face", "mask"]
"""``lr_face`` is the face as the camera sees it, ``hr_face`` the restored face, ``mask`` which
pixels show no clothes (255) and which do (0)."""

COMPANION_KINDS: tuple[CompanionKind, ...] = get_args(CompanionKind)
"""All kinds: the names of the folders, and the keys of ``Sample.extra``."""

COMPANION_NAMES: Mapping[str, str] = MappingProxyType(
    {"lr_face": "face crop", "hr_face": "restored face", "mask": "mask"}
)
"""What a single companion of each kind is called in messages."""

COMPANION_SUFFIXES = (".png", ".jpg")
"""Endings of companions, the preferred one first: JPEG blurs the borders of a mask."""


def companions_of(sample: Sample) -> dict[CompanionKind, Path]:
    """Return the companions that a sample has, in the order of ``COMPANION_KINDS``."""
    return {kind: sample.extra[kind] for kind in COMPANION_KINDS if kind in sample.extra}


def has_companions(sample: Sample, kinds: Iterable[CompanionKind] = COMPANION_KINDS) -> bool:
    """Tell whether a sample has a companion of each of the kinds."""
    return all(kind in sample.extra for kind in kinds)


def relative_path(root: Path, image: Path) -> PurePosixPath:
    """Return the path of an image below its data set's folder; it names the image everywhere.

    Raises:
        DatasetError: The image lies elsewhere, as those of a table may.
    """
    if not image.is_relative_to(root):
        raise DatasetError(
            f"{image} does not lie below {root}, and companion images are found by the path "
            "below the data set's folder; move the images into one folder"
        )
    return PurePosixPath(image.relative_to(root).as_posix())


def companion_path(root: Path, image: Path, kind: CompanionKind, folder: Path) -> Path:
    """Return where the companion of an image is written.

    Args:
        root: The data set's own folder (``ReIDDataset.root``).
        image: The image (``Sample.path``).
        kind: Kind of companion.
        folder: The prepared folder.

    Returns:
        A path that ends in ``.png``, whether or not there is such a file.

    Raises:
        DatasetError: The image does not lie below ``root``.
    """
    below = relative_path(root, image).with_suffix(COMPANION_SUFFIXES[0])
    return folder / kind / below


def attach_companions(
    dataset: ReIDDataset, folder: Path, kinds: Sequence[CompanionKind] = COMPANION_KINDS
) -> ReIDDataset:
    """Give every sample the companions that a prepared folder holds for it.

    Args:
        dataset: A data set as its reader returned it.
        folder: The prepared folder of this data set.
        kinds: What is wanted; companions of other kinds are not looked for, and a sample keeps
            those that it has.

    Returns:
        The data set with the paths of the companions in ``Sample.extra``, under their kinds; a
        sample that has none of a kind lacks that key.

    Raises:
        ConfigError: A kind is unknown.
        DatasetNotFoundError: There is no such folder.
        DatasetError: It holds nothing for this data set, or two images would share a companion.
    """
    unknown = [kind for kind in kinds if kind not in COMPANION_KINDS]
    if unknown:
        raise ConfigError(
            f"companion images {', '.join(unknown)}: unknown; choose from "
            f"{', '.join(COMPANION_KINDS)}"
        )
    if not archives.is_folder(folder):
        raise DatasetNotFoundError(
            f"there is no prepared folder {folder}; `deskpro-prepare --data ROOT --out {folder}` "
            "makes one"
        )
    _require_distinct(dataset)
    splits = {
        split: pair_samples(samples, dataset.root, folder, kinds)
        for split, samples in dataset.splits.items()
    }
    if not any(
        kind in sample.extra for split in splits.values() for sample in split for kind in kinds
    ):
        raise DatasetError(_nothing_found(dataset, folder, kinds))
    return replace(dataset, splits=splits)


def pair_samples(
    samples: Sequence[Sample],
    root: Path,
    folder: Path,
    kinds: Sequence[CompanionKind] = COMPANION_KINDS,
) -> list[Sample]:
    """Give samples the companions that lie below ``folder/<kind>`` as their images below ``root``.

    Arguments are those of ``attach_companions``.

    Raises:
        DatasetError: An image does not lie below ``root``, or a folder cannot be listed.
    """
    found = find_companions((sample.path for sample in samples), root, folder, kinds)
    paired = []
    for sample, companions in zip(samples, found, strict=True):
        extra = {key: value for key, value in sample.extra.items() if key not in kinds}
        extra.update(companions)
        paired.append(replace(sample, extra=extra))
    return paired


def find_companions(
    images: Iterable[Path],
    root: Path,
    folder: Path,
    kinds: Sequence[CompanionKind] = COMPANION_KINDS,
) -> Iterator[dict[str, Path]]:
    """Yield for each image its companions by their kinds. Each folder is listed once.

    Arguments and errors are those of ``pair_samples``.
    """
    listed: dict[tuple[CompanionKind, PurePosixPath], Mapping[str, Path]] = {}
    for image in images:
        below = relative_path(root, image)
        parent, stem = below.parent, below.stem
        found: dict[str, Path] = {}
        for kind in kinds:
            if (kind, parent) not in listed:
                listed[kind, parent] = _list_companions(folder / kind / parent)
            if stem in listed[kind, parent]:
                found[kind] = listed[kind, parent][stem]
        yield found


def _list_companions(folder: Path) -> dict[str, Path]:
    """Return the companions in a folder by their stems; nothing where there is no such folder."""
    try:
        entries = archives.list_entries(folder)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DatasetError(
            f"cannot list the folder {folder}: {error.strerror}; check that you may read it"
        ) from error
    names = {entry.name for entry in entries if not entry.is_folder}
    found: dict[str, Path] = {}
    for suffix in reversed(COMPANION_SUFFIXES):
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() == suffix and not name.startswith("."):
                found[stem] = folder / name
    return found


def _require_distinct(dataset: ReIDDataset) -> None:
    """Refuse images that differ in nothing but their ending: they would share their companions."""
    seen: dict[Path, Path] = {}
    for samples in dataset.splits.values():
        for sample in samples:
            other = seen.setdefault(sample.path.with_suffix(""), sample.path)
            if other != sample.path:
                raise DatasetError(
                    f"{other} and {sample.path.name} differ in their ending only, so that they "
                    "would share their companion images; rename or remove one of them"
                )


def _nothing_found(dataset: ReIDDataset, folder: Path, kinds: Sequence[CompanionKind]) -> str:
    samples = next((samples for samples in dataset.splits.values() if samples), ())
    expected = (
        f", for example {companion_path(dataset.root, samples[0].path, kinds[0], folder)}"
        if samples
        else ""
    )
    return (
        f"the prepared folder {folder} holds no {' or '.join(kinds)} of the images of "
        f"{dataset.name} in {dataset.root}{expected}; {describe_folder(folder)}. Give the folder "
        "that was made of this data set."
    )
