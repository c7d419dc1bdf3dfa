"""PRCC: three cameras; the same outfit in cameras A and B, another one in camera C."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_train
from reid_core.data.readers.listing import Listing, NamedImage, NamePattern
from reid_core.data.sample import Sample, relabel

__all__ = ["PRCC", "read_prcc"]

PRCC = DatasetInfo(
    name="prcc",
    title="PRCC",
    folder="prcc",
    layout=(
        "rgb/train/001/A_cropped_rgb003.jpg ...\n"
        "rgb/val/001/*.jpg  (may be absent)\n"
        "rgb/test/A/005/*.jpg  (the gallery)\n"
        "rgb/test/B/005/*.jpg  (queries, same clothes)\n"
        "rgb/test/C/005/*.jpg  (queries, other clothes)"
    ),
    required=("rgb/train", "rgb/test/A", "rgb/test/B", "rgb/test/C"),
    probe=("rgb/test/A", r"[0-9]+$"),
    splits=("train", "val", "query_same", "query_diff", "gallery"),
    counts={
        "train": SplitCount(150, 17896, 300),
        "val": SplitCount(150, 5002),
        "query_same": SplitCount(71, 3873),
        "query_diff": SplitCount(71, 3543),
        "gallery": SplitCount(71, 3384),
    },
    source="from its authors, https://www.isee-ai.cn/~yangqize/clothing.html",
    paper=(
        "Yang, Wu and Zheng, Person Re-identification by Contour Sketch under Moderate Clothing "
        "Change, TPAMI 2021"
    ),
)

_TRAIN_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)/(?P<camera>[ABC])_"),
    "<pid>/<A|B|C>_<frame>.jpg, e.g. 001/A_cropped_rgb003.jpg",
)
_TEST_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]+)/"), "<pid>/<frame>.jpg, e.g. 005/cropped_rgb002.jpg"
)


def read_prcc(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the splits of the colour images; the ``sketch`` tree is not used.

    The validation split shows the training identities and is labelled by itself.
    """
    splits: dict[str, Sequence[Sample]] = {"train": _read_train(listing, "rgb/train")}
    if (listing.folder / "rgb" / "val").is_dir():
        splits["val"] = _read_train(listing, "rgb/val")
    cameras = [listing.images(f"rgb/test/{camera}", _TEST_NAME, nested=True) for camera in "ABC"]
    rank = relabel(int(label["pid"]) for images in cameras for _, label in images)
    gallery, query_same, query_diff = (
        [_test_sample(image, camid, rank) for image in images]
        for camid, images in enumerate(cameras)
    )
    return {**splits, "query_same": query_same, "query_diff": query_diff, "gallery": gallery}


def _read_train(listing: Listing, below: str) -> list[Sample]:
    return label_train(
        _train_image(path, label["pid"], label["camera"])
        for path, label in listing.images(below, _TRAIN_NAME, nested=True)
    )


def _train_image(path: Path, person: str, camera: str) -> Labelled:
    outfit = f"{person}C" if camera == "C" else person
    return Labelled(path, int(person), "ABC".index(camera), outfit, identity=person)


def _test_sample(image: NamedImage, camid: int, rank: Mapping[int, int]) -> Sample:
    pid = int(image.labels["pid"])
    changed = int(camid == "ABC".index("C"))
    return Sample(image.path, pid, camid, 2 * rank[pid] + changed)
