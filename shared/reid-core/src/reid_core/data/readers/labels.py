"""From raw labels to samples: relabelled training splits, jointly labelled test splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reid_core.data.sample import Modality, Sample, relabel

__all__ = ["Labelled", "label_test", "label_train"]


class Labelled(NamedTuple):
    """An image with the labels as its data set writes them.

    Attributes:
        path: Image file.
        pid: Identity as a number.
        camid: Camera, from 0 (or what the data set has in its place).
        outfit: Key of the outfit, different for each person; None where it is not known.
        modality: ``visible`` or ``infrared``.
    """

    path: Path
    pid: int
    camid: int
    outfit: str | None
    modality: Modality = "visible"


def label_train(images: Iterable[Labelled]) -> list[Sample]:
    """Relabel a training split: identities 0..N-1 sorted as numbers, outfits sorted as text.

    Text order puts outfit ``002_10`` before ``002_2``, as the official readers do.
    """
    images = list(images)
    pids = relabel(image.pid for image in images)
    outfits = _number_outfits(images)
    return [_sample(image, pids[image.pid], outfits) for image in images]


def label_test(*splits: Sequence[Labelled]) -> list[list[Sample]]:
    """Label test splits: raw identities, one outfit numbering (sorted as text) over all of them."""
    outfits = _number_outfits(image for split in splits for image in split)
    return [[_sample(image, image.pid, outfits) for image in split] for split in splits]


def _number_outfits(images: Iterable[Labelled]) -> Mapping[str, int]:
    return relabel(image.outfit for image in images if image.outfit is not None)


def _sample(image: Labelled, pid: int, outfits: Mapping[str, int]) -> Sample:
    clothes_id = -1 if image.outfit is None else outfits[image.outfit]
    return Sample(image.path, pid, image.camid, clothes_id, image.modality)
