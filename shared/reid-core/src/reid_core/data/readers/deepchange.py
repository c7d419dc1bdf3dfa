"""DeepChange: seventeen outdoor cameras over a year, listed in text files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.readers.listing import Listing, NamePattern, list_images
from reid_core.data.readers.text_lists import read_lines, refuse_missing
from reid_core.data.sample import Sample
from reid_core.errors import DatasetError

__all__ = ["DEEPCHANGE", "read_deepchange"]

DEEPCHANGE = DatasetInfo(
    name="deepchange",
    title="DeepChange",
    folder="DeepChangeDataset",
    layout=(
        "train-set/P1_C1_S3_2470.jpg ... and train-set-bbox.txt\n"
        "val-set-query/ val-set-gallery/ and val-set-*-bbox.txt  (may be absent)\n"
        "test-set-query/ and test-set-query-bbox.txt\n"
        "test-set-gallery/ and test-set-gallery-bbox.txt"
    ),
    required=(
        "train-set",
        "train-set-bbox.txt",
        "test-set-query",
        "test-set-query-bbox.txt",
        "test-set-gallery",
        "test-set-gallery-bbox.txt",
    ),
    probe=("test-set-query", r"P[0-9]+_C[0-9]+_"),
    splits=("train", "val_query", "val_gallery", "query", "gallery"),
    counts={
        "train": SplitCount(450, 75083),
        "val_query": SplitCount(None, 4976),
        "val_gallery": SplitCount(None, 17865),
        "query": SplitCount(None, 17527),
        "gallery": SplitCount(None, 62956),
    },
    camera_label="tracklet",
    source="from its authors, https://github.com/PengBoXiangShang/deepchange",
    paper=(
        "Xu and Zhu, DeepChange: A Long-Term Person Re-Identification Benchmark with Clothes "
        "Change, ICCV 2023"
    ),
)

_NAME = NamePattern(
    re.compile(r"(?P<person>P(?P<pid>[0-9]+))_C[0-9]+_(?P<outfit>[^._]+)[._]"),
    "P<pid>_C<camera>_<outfit>_<frame>.jpg, e.g. P1_C1_S3_2470.jpg",
)


def read_deepchange(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the splits in the order of their lists.

    ``camid`` holds the **tracklet**: matches from the same camera but another tracklet count, as in
    the official evaluation.
    """
    splits: dict[str, Sequence[Sample]] = {"train": label_train(_read_list(listing, "train-set"))}
    if (listing.folder / "val-set-query").is_dir():
        splits["val_query"], splits["val_gallery"] = _read_test(listing, "val-set")
    splits["query"], splits["gallery"] = _read_test(listing, "test-set")
    return splits


def _read_test(listing: Listing, prefix: str) -> list[list[Sample]]:
    return label_test(
        _read_list(listing, f"{prefix}-query"), _read_list(listing, f"{prefix}-gallery")
    )


def _read_list(listing: Listing, below: str) -> list[Labelled]:
    folder = listing.folder / below
    table = folder.with_name(f"{below}-bbox.txt")
    on_disk = set(list_images(folder, depth=0))
    images, missing = [], []
    rows = _parse_rows(table)
    for name, tracklet in rows:
        label = _NAME.regex.match(name)
        if label is None:
            listing.misnamed.append((folder / name, _NAME))
        elif name not in on_disk:
            missing.append(name)
        else:
            outfit = label["person"] + label["outfit"]
            images.append(Labelled(folder / name, int(label["pid"]), tracklet, outfit))
    refuse_missing(table, folder, missing, len(rows))
    unlisted = len(on_disk - {name for name, _ in rows})
    if unlisted:
        listing.notes.append(
            f"{below}: {unlisted:,} of {len(on_disk):,} images are not in {table.name} and not used"
        )
    return images


def _parse_rows(table: Path) -> list[tuple[str, int]]:
    rows = []
    for number, line in enumerate(read_lines(table), 1):
        if not line.strip():
            continue
        fields = line.split(",")
        if len(fields) < 2 or not fields[1].strip().isdecimal():
            raise DatasetError(
                f"{table}, line {number}: {line!r} is not <image>,<tracklet number>,..."
            )
        rows.append((fields[0].strip(), int(fields[1])))
    return rows
