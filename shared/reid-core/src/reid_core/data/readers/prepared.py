"""The archives of DeskPro's authors: images with face crops, restored faces and masks beside them.

Four parallel trees, in which a companion has the name of its image; ``.png`` companions are
accepted, too, and preferred. `deskpro-prepare` writes the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reid_core.data.companions import COMPANION_KINDS, find_companions, pair_samples
from reid_core.data.layout import PREPARED_SUFFIX, DatasetInfo, SplitCount
from reid_core.data.readers.bounding_boxes import BOX_FOLDERS
from reid_core.data.readers.celeb import CELEB
from reid_core.data.readers.celeb_light import CELEB_LIGHT
from reid_core.data.readers.labels import Labelled, label_test, label_train, note_shared_cameras
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.readers.prcc import PRCC
from reid_core.data.sample import Sample

__all__ = [
    "CELEB_LIGHT_PREPARED",
    "CELEB_PREPARED",
    "PRCC_PREPARED",
    "read_celeb_light_prepared",
    "read_celeb_prepared",
    "read_prcc_prepared",
]

_FOLDERS = tuple(f"imgs/{folder}" for folder in BOX_FOLDERS)
_LAYOUT = (
    "imgs/bounding_box_train/{example} ...  (query and bounding_box_test beside it)\n"
    "lr_face/bounding_box_train/*.jpg ...  (face crops)\n"
    "hr_face/bounding_box_train/*.jpg ...  (restored faces)\n"
    "mask/bounding_box_train/*.jpg ...  (white where no clothes are)"
)
_SOURCE = (
    "from the authors of DeskPro, if they still hand it out; `deskpro-prepare --official-layout` "
    "makes it of the data set itself"
)


def _prepared(info: DatasetInfo, folder: str, pattern: str, example: str) -> DatasetInfo:
    """Return what is known of the archive that was made of a data set.

    How many training images have all companions in the authors' copy is not published.
    """
    return replace(
        info,
        name=f"{info.name}{PREPARED_SUFFIX}",
        title=f"{info.title} with faces and masks",
        folder=folder,
        layout=_LAYOUT.format(example=example),
        required=_FOLDERS,
        probe=(_FOLDERS[1], pattern),
        splits=("train", "query", "gallery"),
        counts={
            split: info.counts[split] for split in ("query", "gallery") if split in info.counts
        },
        source=_SOURCE,
    )


CELEB_PREPARED = _prepared(CELEB, "celeb", r"[0-9]+_c[0-9]+_[0-9]*", "1_c1_0.jpg")
CELEB_LIGHT_PREPARED = _prepared(CELEB_LIGHT, "celeb-light", r"[0-9]+_[0-9]+_[0-9]*", "1_1_0.jpg")
PRCC_PREPARED = replace(
    _prepared(PRCC, "prcc", r"[0-9]+_c[0-9]+_[0-9]*", "001_c1_003.jpg"),
    splits=("train", "query_same", "query_diff", "gallery"),
    # Public sources disagree on which of PRCC's two sets of queries has 3,873 images.
    counts={"query_diff": SplitCount(71, None), "gallery": PRCC.counts["gallery"]},
)

_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)_c(?P<camera>[0-9]+)_[0-9]*"),
    "<person>_c<image>_<number>.jpg, e.g. 1_c1_0.jpg",
)
_LIGHT_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)_(?P<camera>[0-9]+)_[0-9]*"),
    "<person>_<image>_<number>.jpg, e.g. 1_1_0.jpg",
)
_PRCC_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)_c(?P<camera>[123])_[0-9]*"),
    "<person>_c<camera, 1 to 3>_<frame>.jpg, e.g. 001_c1_003.jpg",
)


def read_celeb_prepared(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the archive made of Celeb-reID.

    There are no cameras: the camera of an image is the number after the ``c`` of its name, which
    counts the images of its person, as for Celeb-reID-light.
    """
    return _read_celeb(listing, _NAME)


def read_celeb_light_prepared(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the archive made of Celeb-reID-light; cameras are those of ``read_celeb_light``."""
    return _read_celeb(listing, _LIGHT_NAME)


def read_prcc_prepared(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the archive made of PRCC, whose queries are camera C.

    Outfits are those of ``read_prcc``. `deskpro-prepare` adds the queries of camera B in
    ``imgs/query_same``; the authors' archive has none.
    """
    folders = {"query_diff": "query", "gallery": "bounding_box_test"}
    if (listing.folder / "imgs" / "query_same").is_dir():
        folders = {"query_same": "query_same", **folders}
    images = {split: _list_prcc(listing, folder) for split, folder in folders.items()}
    train = _list_prcc(listing, "bounding_box_train")
    return {**_label_train(listing, train), **_label_test(listing, images)}


def _read_celeb(listing: Listing, pattern: NamePattern) -> Mapping[str, Sequence[Sample]]:
    train, query, gallery = (
        [
            Labelled(path, int(label["pid"]), int(label["camera"]), None, identity=label["pid"])
            for path, label in listing.images(folder, pattern)
        ]
        for folder in _FOLDERS
    )
    note_shared_cameras(listing, query, gallery)
    tests = {"query": query, "gallery": gallery}
    return {**_label_train(listing, train), **_label_test(listing, tests)}


def _list_prcc(listing: Listing, folder: str) -> list[Labelled]:
    images = []
    for path, label in listing.images(f"imgs/{folder}", _PRCC_NAME):
        person, camera = label["pid"], int(label["camera"]) - 1
        outfit = f"{person}C" if camera == 2 else person
        images.append(Labelled(path, int(person), camera, outfit, identity=person))
    return images


def _label_train(listing: Listing, images: Sequence[Labelled]) -> dict[str, Sequence[Sample]]:
    """Keep the images that have all companions; identities 0..N-1 sorted as text.

    So the official reader does. An identity that loses all its images is gone, and a copy without
    masks or restored faces, which nobody needs for evaluation, has no training split.
    """
    paths = [image.path for image in images]
    found = list(find_companions(paths, listing.folder / "imgs", listing.folder))
    kept = [
        image
        for image, companions in zip(images, found, strict=True)
        if len(companions) == len(COMPANION_KINDS)
    ]
    if len(kept) < len(images):
        missing = ", ".join(
            f"{kind} of {sum(kind not in companions for companions in found):,}"
            for kind in COMPANION_KINDS
        )
        lost = len({image.pid for image in images}) - len({image.pid for image in kept})
        listing.notes.append(
            f"train: {len(kept):,} of {len(images):,} images have all companions (missing: "
            f"{missing}); the others are left out (identities lost with them: {lost:,})"
        )
    if not kept:
        return {}
    return {"train": _pair(listing, label_train(kept, as_text=True))}


def _label_test(
    listing: Listing, images: Mapping[str, Sequence[Labelled]]
) -> dict[str, Sequence[Sample]]:
    labelled = zip(images, label_test(*images.values()), strict=True)
    return {split: _pair(listing, samples) for split, samples in labelled}


def _pair(listing: Listing, samples: Sequence[Sample]) -> list[Sample]:
    return pair_samples(samples, listing.folder / "imgs", listing.folder)
