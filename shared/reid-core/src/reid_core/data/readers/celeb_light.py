"""Celeb-reID-light: the small version of Celeb-reID, in the same form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reid_core.data.layout import SplitCount
from reid_core.data.readers.celeb import CELEB
from reid_core.data.readers.labels import Labelled, label_test, label_train, note_shared_cameras
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample

__all__ = ["CELEB_LIGHT", "read_celeb_light"]

CELEB_LIGHT = replace(
    CELEB,
    name="celeb_light",
    title="Celeb-reID-light",
    folder="Celeb-reID-light",
    counts={
        "train": SplitCount(490, 9021),
        "query": SplitCount(100, 887),
        "gallery": SplitCount(100, 934),
    },
)

_NAME = NamePattern(
    re.compile(r"(?P<identity>0*(?P<pid>[0-9]+))_(?P<image>[0-9]+)_[0-9]+\."),
    "<person>_<image>_<number>.jpg, e.g. 1_1_0.jpg",
)


def read_celeb_light(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the three splits. Training and test number their people separately.

    There are no cameras: the camera of an image is the second number of its name, which counts the
    images of its person. The protocol ``celeb_light/official_cameras`` compares it, as the official
    evaluation of DeskPro does; a note says where a query and a gallery image of one person share
    it. ``celeb_light/standard`` leaves nothing out.
    """
    train, query, gallery = (
        [
            Labelled(path, int(label["pid"]), int(label["image"]), None, identity=label["identity"])
            for path, label in listing.images(folder, _NAME)
        ]
        for folder in CELEB_LIGHT.splits
    )
    note_shared_cameras(listing, query, gallery)
    query_samples, gallery_samples = label_test(query, gallery)
    return {"train": label_train(train), "query": query_samples, "gallery": gallery_samples}
