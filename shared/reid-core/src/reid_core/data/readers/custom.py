"""Labels of people's own images: names become numbers, absent cameras are made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.sample import Modality, Sample, relabel

__all__ = ["CUSTOM_SPLITS", "CustomImage", "label_splits"]

CUSTOM_SPLITS = ("train", "query", "gallery")
"""Splits that one's own data set may have."""


class CustomImage(NamedTuple):
    """One image with its labels as text; None where a label is not known."""

    path: Path
    split: str
    person: str
    camera: str | None
    outfit: str | None
    modality: Modality = "visible"


def label_splits(images: Sequence[CustomImage]) -> tuple[dict[str, list[Sample]], list[str]]:
    """Turn the labels into numbers.

    Identities and cameras that are all decimal numbers of at most 18 digits keep them; otherwise
    their names are numbered in sorted order over all splits. Where any image lacks a camera, each
    image becomes a camera of its own, so that the same-camera rule of the protocols removes
    nothing.

    Returns:
        The splits that have images, and sentences on what could not be used.
    """
    pids = _number(image.person for image in images)
    named = [image.camera for image in images if image.camera is not None]
    cameras = _number(named) if len(named) == len(images) else None
    notes = []
    if cameras is None:
        share = (
            "no camera labels"
            if not named
            else f"only {len(named):,} of {len(images):,} images name a camera"
        )
        notes.append(f"{share}: the same-camera rule is off (each image is its own camera)")
    parts: dict[str, list[Labelled]] = {}
    for index, image in enumerate(images):
        camid = index if cameras is None or image.camera is None else cameras[image.camera]
        pid = pids[image.person]
        # The same outfit name on two people means two outfits.
        outfit = None if image.outfit is None else f"{pid:09d}/{image.outfit}"
        labelled = Labelled(image.path, pid, camid, outfit, image.modality)
        parts.setdefault(image.split, []).append(labelled)
    tests = [name for name in CUSTOM_SPLITS[1:] if name in parts]
    splits = dict(zip(tests, label_test(*(parts[name] for name in tests)), strict=True))
    if "train" in parts:
        splits = {"train": label_train(parts["train"]), **splits}
    return splits, notes


def _number(names: Iterable[str]) -> Mapping[str, int]:
    names = set(names)
    # Longer numbers do not fit into int64, the type of all label arrays.
    if all(name.isascii() and name.isdecimal() and len(name) <= 18 for name in names):
        return {name: int(name) for name in names}
    return relabel(names)
