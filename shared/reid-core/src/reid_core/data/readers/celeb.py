"""Celeb-reID: celebrities photographed in the street; no cameras, no outfit labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample

__all__ = ["CELEB", "MAX_PID", "read_celeb"]

MAX_PID = 632
"""Largest identity, in training as in test."""

CELEB = DatasetInfo(
    name="celeb",
    title="Celeb-reID",
    folder="Celeb-reID",
    layout="train/1_1_0.jpg ...\nquery/*.jpg\ngallery/*.jpg",
    required=("train", "query", "gallery"),
    probe=("query", r"[0-9]+_[0-9]+_[0-9]+\."),
    splits=("train", "query", "gallery"),
    counts={
        "train": SplitCount(632, 20208),
        "query": SplitCount(420, 2972),
        "gallery": SplitCount(420, 11006),
        "query+gallery": SplitCount(420, 13978),
    },
    camera_label="image",
    clothes_label="none",
    source="from its authors, https://github.com/Huang-3/Celeb-reID",
    paper=(
        "Huang et al., Beyond Scalar Neuron: Adopting Vector-Neuron Capsules for Long-Term Person "
        "Re-Identification, TCSVT 2020"
    ),
)

_NAME = NamePattern(
    re.compile(r"(?P<identity>0*(?P<pid>[1-9][0-9]{0,2}))_[0-9]+_[0-9]+\."),
    f"<person, 1 to {MAX_PID}>_<image>_<number>.jpg, e.g. 1_1_0.jpg",
)


def read_celeb(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the three splits. Person 7 of training is not person 7 of query and gallery.

    There are no cameras: each image gets a number of its own (over query, then gallery), so that
    the same-camera rule removes nothing. The official code of CSSC numbers each split from 0, which
    makes a query lose the gallery image at its own position where both show one person; the
    protocol ``celeb/official_cameras`` does the same from the positions in the sorted lists.
    """
    train, query, gallery = (_read_split(listing, folder) for folder in CELEB.splits)
    gallery = [image._replace(camid=image.camid + len(query)) for image in gallery]
    query_samples, gallery_samples = label_test(query, gallery)
    return {"train": label_train(train), "query": query_samples, "gallery": gallery_samples}


def _read_split(listing: Listing, below: str) -> list[Labelled]:
    images: list[Labelled] = []
    for path, label in listing.images(below, _NAME):
        pid = int(label["pid"])
        if pid > MAX_PID:
            listing.misnamed.append((path, _NAME))
        else:
            images.append(Labelled(path, pid, len(images), None, identity=label["identity"]))
    return images
