"""Market-1501: six cameras before a supermarket, one outfit each, boxes of a detector."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.bounding_boxes import BOX_FOLDERS, read_boxes
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample

__all__ = ["MARKET1501", "read_market1501"]

MARKET1501 = DatasetInfo(
    name="market1501",
    title="Market-1501",
    folder="Market-1501-v15.09.15",
    other_folders=("Market-1501", "Market1501"),
    archives=("Market-1501-v15.09.15.zip",),
    layout=(
        "bounding_box_train/0002_c1s1_000451_03.jpg ...\n"
        "bounding_box_test/*.jpg  (the gallery; -1_... are junk, 0000_... distractors)\n"
        "query/*.jpg"
    ),
    required=BOX_FOLDERS,
    probe=("query", r"[0-9]+_c[1-6]s[0-9]"),
    splits=("train", "query", "gallery"),
    # The gallery without its 3,819 junk boxes; one of its identities stands for all distractors.
    counts={
        "train": SplitCount(751, 12936),
        "query": SplitCount(750, 3368),
        "gallery": SplitCount(751, 15913),
    },
    clothes_label="none",
    source="from its authors, https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
    paper="Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015",
)

_NAME = NamePattern(
    re.compile(r"(?P<pid>-1|[0-9]+)_c(?P<camera>[1-6])s[0-9]"),
    "<pid>_c<camera, 1 to 6>s<sequence>_<frame>_<box>.jpg, e.g. 0002_c1s1_000451_03.jpg",
)


def read_market1501(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the three splits, sorted by file name.

    Junk boxes (identity -1) are dropped. Distractors (identity 0, in the gallery only) stay, as
    images of somebody whom no query shows.
    """
    return read_boxes(listing, _NAME)
