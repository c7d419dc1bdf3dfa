"""Readers against the records of the official ones, on the golden file trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_core.data import Sample, load_dataset, pid2clothes
from reid_core.data.readers import detect_datasets
from reid_core.evaluation import (
    Labels,
    evaluate_protocol,
    get_protocol,
    l2_normalize,
    rank_gallery,
    single_shot_draws,
)
from reid_core.testing.golden import GoldenSet

SPLITS = {
    "ltcc": {"train", "query", "gallery"},
    "prcc": {"train", "val", "query_same", "query_diff", "gallery"},
}
# A parent folder that looks like an image of LTCC or of Celeb-reID must not matter.
PARENT = "001_1_c4_x"


@pytest.fixture(scope="module")
def readers(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("readers.json")


def write_tree(root: Path, block: Mapping[str, Any]) -> None:
    for name in block["files"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def records(samples: Sequence[Sample], root: Path) -> list[list[Any]]:
    return [[s.path.relative_to(root).as_posix(), s.pid, s.clothes_id, s.camid] for s in samples]


@pytest.mark.parametrize("name", SPLITS)
def test_data_set_with_outfits_equals_official_lists(
    name: str, readers: Mapping[str, Any], tmp_path: Path
) -> None:
    block = readers[name]
    root = tmp_path / PARENT
    write_tree(root, block)

    dataset = load_dataset(name, root)

    assert set(dataset.splits) == SPLITS[name]
    for split, samples in dataset.splits.items():
        assert records(samples, root) == block[split], split
    assert dataset.num_pids == block["num_train_pids"]
    assert dataset.num_clothes == block["num_train_clothes"]
    np.testing.assert_array_equal(pid2clothes(dataset.train), np.array(block["pid2clothes"], bool))
    assert detect_datasets(root) == [name]


def test_prcc_single_shot_draws(readers: Mapping[str, Any]) -> None:
    expected = readers["prcc"]["single_shot_gallery_indices_seed3"]
    pids = [pid for _, pid, _, _ in readers["prcc"]["gallery"]]
    draws = single_shot_draws(pids, len(expected))
    assert expected
    assert {str(trial): draw.tolist() for trial, draw in enumerate(draws)} == expected


@pytest.fixture(scope="module")
def celeb_root(readers: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("celeb") / PARENT
    write_tree(root, readers["celeb"])
    return root


def test_celeb_equals_official_lists(readers: Mapping[str, Any], celeb_root: Path) -> None:
    block = readers["celeb"]
    dataset = load_dataset("celeb", celeb_root)
    assert set(dataset.splits) == {"train", "query", "gallery"}
    # Officially every split counts its images from 0; here no two test images share a camera.
    first = {"train": 0, "query": 0, "gallery": len(block["query"])}
    for split, samples in dataset.splits.items():
        expected = [[path, pid, -1, first[split] + camid] for path, pid, camid in block[split]]
        assert records(samples, celeb_root) == expected, split
    assert dataset.num_pids == block["num_train_pids"]
    assert detect_datasets(celeb_root) == ["celeb"]


@pytest.mark.parametrize("official", [False, True])
def test_celeb_serves_both_protocols(
    official: bool, readers: Mapping[str, Any], celeb_root: Path
) -> None:
    """The official one, as if the reader gave the official cameras; ours, without cameras."""
    splits = {
        split: samples
        for split, samples in load_dataset("celeb", celeb_root).splits.items()
        if split != "train"
    }
    rng = np.random.default_rng(0)
    features = {
        split: l2_normalize(torch.from_numpy(rng.normal(size=(len(samples), 8))).float())
        for split, samples in splits.items()
    }
    wanted = rank_gallery(
        *(features[split] for split in ("query", "gallery")),
        *(official_labels(readers["celeb"][split]) for split in ("query", "gallery")),
        match="standard" if official else "any_camera",
    )
    protocol = get_protocol("celeb/official_cameras" if official else "celeb/standard")
    (found,) = evaluate_protocol(protocol, splits, features).trials
    np.testing.assert_array_equal(found.average_precision, wanted.average_precision)
    np.testing.assert_array_equal(found.num_junk, wanted.num_junk)


def official_labels(entries: Sequence[tuple[str, int, int]]) -> Labels:
    _, pids, camids = zip(*entries, strict=True)
    return Labels(pids=np.array(pids), camids=np.array(camids))


def test_no_block_of_the_file_is_left_out(readers: Mapping[str, Any]) -> None:
    assert set(readers) - {"note"} == {*SPLITS, "celeb"}
