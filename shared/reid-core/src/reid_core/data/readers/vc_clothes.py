"""VC-Clothes: rendered people in four cameras, in three modes of evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample

__all__ = [
    "VC_CLOTHES",
    "VC_CLOTHES_CC",
    "VC_CLOTHES_SC",
    "read_vc_clothes",
    "read_vc_clothes_cc",
    "read_vc_clothes_sc",
]

VC_CLOTHES = DatasetInfo(
    name="vcclothes",
    title="VC-Clothes",
    folder="VC-Clothes",
    layout="train/0001-01-02-03.jpg ...\nquery/*.jpg\ngallery/*.jpg",
    required=("train", "query", "gallery"),
    probe=("query", r"[0-9]+-[0-9]+-[0-9]+-[0-9]+\."),
    splits=("train", "query", "gallery"),
    counts={
        "train": SplitCount(256, 9449),
        "query": SplitCount(None, 1020),
        "gallery": SplitCount(None, 8591),
        "query+gallery": SplitCount(256, 9611),
    },
    source="from its authors, https://wanfb.github.io/dataset.html",
    paper="Wan et al., When Person Re-identification Meets Changing Clothes, CVPR Workshops 2020",
)

# Published sizes exist for training, which always uses all four cameras.
_TRAIN_COUNT = {"train": VC_CLOTHES.counts["train"]}
VC_CLOTHES_SC = replace(
    VC_CLOTHES,
    name="vcclothes_sc",
    title="VC-Clothes, cameras 2 and 3 (same clothes)",
    counts=_TRAIN_COUNT,
)
VC_CLOTHES_CC = replace(
    VC_CLOTHES,
    name="vcclothes_cc",
    title="VC-Clothes, cameras 3 and 4 (cloth-changing)",
    counts=_TRAIN_COUNT,
)

_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)-0*(?P<camera>[1-9][0-9]*)-(?P<outfit>[0-9]+)-[0-9]+\."),
    "<pid>-<camera>-<outfit>-<number>.jpg, e.g. 0001-01-02-03.jpg",
)


def read_vc_clothes(
    listing: Listing, *, test_cameras: Sequence[int] = (1, 2, 3, 4)
) -> Mapping[str, Sequence[Sample]]:
    """Read the splits; query and gallery keep the images of ``test_cameras`` (from 1) only.

    Outfits of the test splits are numbered after the others are left out.
    """
    train, query, gallery = (_read_split(listing, name) for name in VC_CLOTHES.splits)
    query, gallery = (
        [image for image in split if image.camid + 1 in test_cameras] for split in (query, gallery)
    )
    query_samples, gallery_samples = label_test(query, gallery)
    return {"train": label_train(train), "query": query_samples, "gallery": gallery_samples}


read_vc_clothes_sc = partial(read_vc_clothes, test_cameras=(2, 3))
read_vc_clothes_cc = partial(read_vc_clothes, test_cameras=(3, 4))


def _read_split(listing: Listing, below: str) -> list[Labelled]:
    return [
        Labelled(path, int(label["pid"]), int(label["camera"]) - 1, label["pid"] + label["outfit"])
        for path, label in listing.images(below, _NAME)
    ]
