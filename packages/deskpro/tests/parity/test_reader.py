"""Readers of the prepared archives against the records of the official ones, on golden trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reid_core.data import Sample, detect_datasets, load_dataset
from reid_core.data.companions import COMPANION_KINDS
from reid_core.testing.golden import GoldenSet

# Our names of the data sets, and the splits in which their queries are.
OURS = {
    "celeb_lr_hr_mask": "celeb_lr_hr_mask",
    "celeb-light_lr_hr_mask": "celeb_light_lr_hr_mask",
    "prcc_lr_hr_mask": "prcc_lr_hr_mask",
}
QUERY = {"prcc_lr_hr_mask": "query_diff"}
TREES = ("imgs", *COMPANION_KINDS)


@pytest.fixture(scope="module")
def reader(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("reader.json")


@pytest.fixture(scope="module")
def root(reader: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden trees in one folder, one folder below for each data set."""
    folder = tmp_path_factory.mktemp("dataset_c1_0")
    for name, splits in reader["trees"].items():
        missing = {tuple(entry) for entry in reader["missing"].get(name, ())}
        for split, files in splits.items():
            for tree in TREES:
                (folder / name / tree / split).mkdir(parents=True, exist_ok=True)
                for file in files:
                    if (tree, split, file) not in missing:
                        (folder / name / tree / split / file).touch()
    return folder


def images(samples: Sequence[Sample], root: Path) -> list[list[str]]:
    """List image and companions as paths; where one is missing, where it would be."""
    records = []
    for sample in samples:
        image = sample.path.relative_to(root).as_posix()
        places = [sample.extra.get(kind) for kind in COMPANION_KINDS]
        expected = [image.replace("/imgs/", f"/{kind}/") for kind in COMPANION_KINDS]
        found = [
            place if path is None else path.relative_to(root).as_posix()
            for path, place in zip(places, expected, strict=True)
        ]
        records.append([image, *found])
    return records


def camera(name: str, text: str) -> int:
    """Return our number of a camera: from 0 where there are cameras, else as in the file name."""
    return int(text) - (name == "prcc_lr_hr_mask")


@pytest.mark.parametrize("official", OURS)
def test_splits_equal_the_official_ones(
    official: str, reader: Mapping[str, Any], root: Path
) -> None:
    name, expected = OURS[official], reader["result"][official]
    dataset = load_dataset(name, root)
    splits = {
        "train": dataset.train,
        "query": dataset.splits[QUERY.get(name, "query")],
        "gallery": dataset.splits["gallery"],
    }
    for split, samples in splits.items():
        rows = expected[split]
        assert images(samples, root) == [files for files, _, _ in rows], split
        assert [s.pid for s in samples] == [int(pid) for _, pid, _ in rows], split
        assert [s.camid for s in samples] == [camera(name, text) for *_, text in rows], split
    assert dataset.num_pids == expected["num_train_pids"]
    assert len({sample.camid for sample in dataset.train}) == expected["num_train_cams"]


@pytest.mark.parametrize("official", OURS)
def test_companions_are_attached_where_the_files_are(
    official: str, reader: Mapping[str, Any], root: Path
) -> None:
    dataset = load_dataset(OURS[official], root)
    for samples in dataset.splits.values():
        for sample in samples:
            for kind in COMPANION_KINDS:
                there = Path(str(sample.path).replace("/imgs/", f"/{kind}/"))
                assert sample.extra.get(kind) == (there if there.exists() else None)


def test_each_archive_is_recognised(reader: Mapping[str, Any], root: Path) -> None:
    assert set(detect_datasets(root)) == set(OURS.values())
    for name in reader["trees"]:
        (found,) = detect_datasets(root / name)
        assert found == OURS[f"{name}_lr_hr_mask"]
