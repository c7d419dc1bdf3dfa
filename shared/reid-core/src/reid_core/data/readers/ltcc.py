"""LTCC: long-term cloth changes in twelve indoor cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample

__all__ = ["LTCC", "read_ltcc"]

LTCC = DatasetInfo(
    name="ltcc",
    title="LTCC",
    folder="LTCC_ReID",
    layout="train/001_1_c4_015175.png ...\nquery/*.png\ntest/*.png  (or gallery/*.png)",
    required=("train", "query", "test or gallery"),
    probe=("query", r"[0-9]+_[0-9]+_c[0-9]+_"),
    splits=("train", "query", "gallery"),
    # Outfits: the counts that the official reader arrives at (the authors state 478 in all).
    counts={
        "train": SplitCount(77, 9576, 256),
        "query": SplitCount(75, 493),
        "gallery": SplitCount(75, 7050),
        "query+gallery": SplitCount(75, 7543, 221),
    },
    source="on request from its authors, https://naiq.github.io/LTCC_Perosn_ReID.html",
    paper="Qian et al., Long-Term Cloth-Changing Person Re-identification, ACCV 2020",
)

_NAME = NamePattern(
    re.compile(r"(?P<outfit>(?P<pid>[0-9]+)_[0-9]+)_c0*(?P<camera>[1-9][0-9]*)_"),
    "<pid>_<outfit>_c<camera>_<frame>.png, e.g. 001_1_c4_015175.png",
)


def read_ltcc(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the three splits; outfits belong to one person (``001_1`` and ``002_1`` differ).

    The gallery's folder is ``test``; instructions of methods that call it ``gallery`` made copies
    where it has that name.
    """
    gallery_folder = "test" if (listing.folder / "test").is_dir() else "gallery"
    train, query, gallery = (
        [
            Labelled(path, int(label["pid"]), int(label["camera"]) - 1, label["outfit"])
            for path, label in listing.images(folder, _NAME)
        ]
        for folder in ("train", "query", gallery_folder)
    )
    query_samples, gallery_samples = label_test(query, gallery)
    return {"train": label_train(train), "query": query_samples, "gallery": gallery_samples}
