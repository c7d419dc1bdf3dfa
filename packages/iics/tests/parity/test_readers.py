"""Readers against the lists of the official code, on the golden file trees."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reid_core.data import READERS, ReIDDataset, load_dataset
from reid_core.testing.golden import GoldenSet
from reid_core.testing.miniatures import write_images

DATASETS = ("market1501", "dukemtmc", "msmt17")
OFFICIAL_SPLITS = {
    "train": "trainval[path,official_pid,cam0]",
    "query": "query",
    "gallery": "gallery",
}
# Folders above the data set that look like its own must not matter.
PARENT = Path("query", "0001_c1s1", "mask_train_v2")


@pytest.fixture(params=DATASETS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tree(name: str, golden: GoldenSet) -> Mapping[str, Any]:
    return golden.shared_json("readers.json")[name]


@pytest.fixture
def root(name: str, tree: Mapping[str, Any], tmp_path: Path) -> Path:
    """The golden tree, in the folder that the data set's authors ship."""
    own = tmp_path / PARENT / READERS[name].info.folder
    write_images(own, tree["files"])
    for table, lines in tree["lists"].items():
        (own / table).write_text("".join(f"{line}\n" for line in lines))
    return own


@pytest.fixture
def archive(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.zip"
    with zipfile.ZipFile(path, "w") as file:
        for entry in sorted(root.rglob("*")):
            file.write(entry, entry.relative_to(root.parent))
    return path


def equals_official(dataset: ReIDDataset, tree: Mapping[str, Any]) -> None:
    for split, official in OFFICIAL_SPLITS.items():
        samples = dataset.splits[split]
        found = [(s.path.relative_to(dataset.root).as_posix(), s.camid) for s in samples]
        wanted = sorted((path, camid) for path, _, camid in tree[official])
        assert sorted(found) == wanted, split
        # Numbers of people differ, people do not.
        people = {path: pid for path, pid, _ in tree[official]}
        pairs = {(s.pid, people[path]) for s, (path, _) in zip(samples, found, strict=True)}
        assert len(pairs) == len({pid for pid, _ in pairs}) == len({pid for _, pid in pairs})
    test = [sample for split in ("query", "gallery") for sample in dataset.splits[split]]
    official_pids = {path: pid for split in ("query", "gallery") for path, pid, _ in tree[split]}
    pairs = {(s.pid, official_pids[s.path.relative_to(dataset.root).as_posix()]) for s in test}
    assert len(pairs) == len({pid for pid, _ in pairs}) == len({pid for _, pid in pairs})
    assert dataset.num_pids == tree["num_trainval_ids"]
    num_cameras = tree["num_cameras"]
    every = [sample for samples in dataset.splits.values() for sample in samples]
    assert {sample.camid for sample in every} <= set(range(num_cameras))


def test_folder(name: str, root: Path, tree: Mapping[str, Any]) -> None:
    equals_official(load_dataset(name, root), tree)


def test_parent_folder(name: str, root: Path, tree: Mapping[str, Any]) -> None:
    equals_official(load_dataset(name, root.parent), tree)


def test_archive(name: str, archive: Path, tree: Mapping[str, Any]) -> None:
    equals_official(load_dataset(name, archive), tree)


def test_market_identities_are_the_official_ones(golden: GoldenSet, tmp_path: Path) -> None:
    tree = golden.shared_json("readers.json")["market1501"]
    write_images(tmp_path, tree["files"])
    dataset = load_dataset("market1501", tmp_path)
    for split in ("query", "gallery"):
        found = {s.path.relative_to(tmp_path).as_posix(): s.pid for s in dataset.splits[split]}
        assert found == {path: pid for path, pid, _ in tree[split]}


def test_second_list_of_msmt17_shows_people_of_training(golden: GoldenSet, tmp_path: Path) -> None:
    tree = golden.shared_json("readers.json")["msmt17"]
    write_images(tmp_path, tree["files"])
    for table, lines in tree["lists"].items():
        (tmp_path / table).write_text("".join(f"{line}\n" for line in lines))
    plain, both = (load_dataset(name, tmp_path) for name in ("msmt17", "msmt17_trainval"))
    listed = [line.split()[0] for line in tree["lists"]["list_val.txt"]]
    added = both.train[len(plain.train) :]
    assert both.train[: len(plain.train)] == plain.train
    assert [s.path.relative_to(tmp_path / "mask_train_v2").as_posix() for s in added] == listed
    assert both.num_pids == plain.num_pids
