"""From raw labels to samples: relabelled training splits, jointly labelled test splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reid_core.data.readers.listing import Listing
from reid_core.data.sample import Modality, Sample, relabel

__all__ = ["Labelled", "label_test", "label_train", "note_shared_cameras"]


class Labelled(NamedTuple):
    """An image with the labels as its data set writes them.

    Attributes:
        path: Image file.
        pid: Identity as a number.
        camid: Camera, from 0 (or what the data set has in its place).
        outfit: Key of the outfit, different for each person; None where it is not known.
        modality: ``visible`` or ``infrared``.
        identity: Identity as it is written in the file's name, leading zeros included; None where
            no method asks for it.
    """

    path: Path
    pid: int
    camid: int
    outfit: str | None
    modality: Modality = "visible"
    identity: str | None = None


def label_train(images: Iterable[Labelled], *, as_text: bool = False) -> list[Sample]:
    """Relabel a training split: identities 0..N-1 sorted as numbers, outfits sorted as text.

    Text order puts outfit ``002_10`` before ``002_2``, as the official readers do.

    Args:
        images: The images.
        as_text: Sort the identities as text, too: "10" before "2", and "7" is not "007".
    """
    images = list(images)
    keys = [image.identity if as_text else image.pid for image in images]
    pids = relabel(keys)
    outfits = _number_outfits(images)
    return [_sample(image, pids[key], outfits) for image, key in zip(images, keys, strict=True)]


def label_test(*splits: Sequence[Labelled]) -> list[list[Sample]]:
    """Label test splits: raw identities, one outfit numbering (sorted as text) over all of them."""
    outfits = _number_outfits(image for split in splits for image in split)
    return [[_sample(image, image.pid, outfits) for image in split] for split in splits]


def note_shared_cameras(
    listing: Listing, query: Iterable[Labelled], gallery: Iterable[Labelled]
) -> None:
    """Note how many queries share person and image number with a gallery image.

    For data sets without cameras whose images of a person are numbered over both splits: the number
    stands for the camera, and should be unique.
    """
    searched = {(image.pid, image.camid) for image in gallery}
    shared = [image.path.name for image in query if (image.pid, image.camid) in searched]
    if shared:
        listing.notes.append(
            f"the image numbers of {len(shared):,} queries are those of gallery images of the same "
            f"person, such as {shared[0]}; protocols that compare cameras leave these images out"
        )


def _number_outfits(images: Iterable[Labelled]) -> Mapping[str, int]:
    return relabel(image.outfit for image in images if image.outfit is not None)


def _sample(image: Labelled, pid: int, outfits: Mapping[str, int]) -> Sample:
    clothes_id = -1 if image.outfit is None else outfits[image.outfit]
    if image.identity is None:
        return Sample(image.path, pid, image.camid, clothes_id, image.modality)
    extra = {"identity": image.identity}
    return Sample(image.path, pid, image.camid, clothes_id, image.modality, extra)
