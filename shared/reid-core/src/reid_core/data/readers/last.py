"""LaST: people in films; outfit labels in training, no camera labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_train
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample

__all__ = ["LAST", "read_last"]

LAST = DatasetInfo(
    name="last",
    title="LaST",
    folder="last",
    layout=(
        "train/000000/000000_mv006_00000_00.jpg ...\n"
        "val/query/*.jpg and val/gallery/<pid>/*.jpg  (may be absent)\n"
        "test/query/008001_mv005_00311.jpg ...\n"
        "test/gallery/008001/*.jpg"
    ),
    required=("train", "test/query", "test/gallery"),
    probe=("test/query", r"[0-9]+_mv"),
    splits=("train", "val_query", "val_gallery", "query", "gallery"),
    counts={
        "train": SplitCount(5000, 71248),
        "val_query": SplitCount(None, 100),
        "val_gallery": SplitCount(None, 21279),
        "val_query+val_gallery": SplitCount(56, 21379),
        "query": SplitCount(None, 10176),
        "gallery": SplitCount(None, 125353),
        "query+gallery": SplitCount(5806, 135529),
    },
    camera_label="image",
    clothes_label="train",
    source="from its authors, https://github.com/shuxjweb/last",
    paper=(
        "Shu et al., Large-Scale Spatio-Temporal Person Re-identification: Algorithms and "
        "Benchmark, TCSVT 2022"
    ),
)

_TRAIN_NAME = NamePattern(
    re.compile(r"[^/]+/(?P<pid>[0-9]+)_(?:[^./]*_)?(?P<outfit>[^._/]+)\."),
    "<folder>/<pid>_..._<outfit>.jpg, e.g. 000000/000000_mv006_00000_00.jpg",
)
_GALLERY_NAME = NamePattern(
    re.compile(r"[^/]+/(?P<pid>[0-9]+)[_.]"),
    "<folder>/<pid>_....jpg, e.g. 008001/008001_mv002_00001.jpg",
)
_QUERY_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)[_.]"), "<pid>_....jpg, e.g. 008001_mv005_00311.jpg"
)


def read_last(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the splits.

    There are no cameras: each image gets a number of its own (over query, then gallery), so that
    the same-camera rule removes nothing. Outfits are known in training only; elsewhere the identity
    stands for the outfit.
    """
    splits: dict[str, Sequence[Sample]] = {
        "train": label_train(
            Labelled(path, int(label["pid"]), index, f"{label['pid']}_{label['outfit']}")
            for index, (path, label) in enumerate(listing.images("train", _TRAIN_NAME, nested=True))
        )
    }
    if (listing.folder / "val").is_dir():
        splits["val_query"], splits["val_gallery"] = _read_test(listing, "val")
    splits["query"], splits["gallery"] = _read_test(listing, "test")
    return splits


def _read_test(listing: Listing, below: str) -> tuple[list[Sample], list[Sample]]:
    queries = listing.images(f"{below}/query", _QUERY_NAME)
    gallery = listing.images(f"{below}/gallery", _GALLERY_NAME, nested=True)
    samples = [
        Sample(path, int(label["pid"]), index, int(label["pid"]))
        for index, (path, label) in enumerate([*queries, *gallery])
    ]
    return samples[: len(queries)], samples[len(queries) :]
