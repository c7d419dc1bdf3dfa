"""Readers against the records of the official ones, on the golden file trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core.data import Sample, load_dataset, pid2clothes
from reid_core.data.readers import detect_datasets
from reid_core.data.readers.ccvid import Tracklet, read_ccvid, split_test, split_train
from reid_core.testing.golden import GoldenSet

# Name of the reader -> block of the file and, inside it, the mode.
BLOCKS = {
    "ltcc": ("ltcc", None),
    "prcc": ("prcc", None),
    "last": ("last", None),
    "vcclothes": ("vcclothes", "all"),
    "vcclothes_sc": ("vcclothes", "sc"),
    "vcclothes_cc": ("vcclothes", "cc"),
    "deepchange": ("deepchange", None),
}
# Entries of a block that are no lists of records, and mappings that are no modes.
NO_SPLITS = {"files", "pid2clothes_nonzero", "pid2clothes_shape"}
NO_MODES = {"lists", "single_shot_gallery_idx", "n_frames", "params"}
# A parent folder that looks like an LTCC file must not matter.
PARENT = "001_1_c4_x"


@pytest.fixture(scope="module")
def readers(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("readers.json")


def write_tree(root: Path, block: Mapping[str, Any]) -> None:
    for name in block.get("files", ()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in block.get("lists", {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def records(samples: Sequence[Sample], root: Path) -> list[list[Any]]:
    return [[s.path.relative_to(root).as_posix(), s.pid, s.camid, s.clothes_id] for s in samples]


@pytest.mark.parametrize("name", BLOCKS)
def test_image_data_set_equals_official_lists(
    name: str, readers: Mapping[str, Any], tmp_path: Path
) -> None:
    block_name, mode = BLOCKS[name]
    if block_name not in readers or (mode and mode not in readers[block_name]):
        pytest.skip(f"readers.json of this golden set holds no {name}")
    block = readers[block_name]
    expected = block[mode] if mode else block
    root = tmp_path / PARENT
    write_tree(root, block)

    dataset = load_dataset(name, root)

    golden_splits = {key for key, value in expected.items() if isinstance(value, list)}
    assert set(dataset.splits) == golden_splits - NO_SPLITS
    for split, samples in dataset.splits.items():
        assert records(samples, root) == expected[split], split
    assert dataset.num_pids == expected["num_train_pids"]
    assert dataset.num_clothes == expected["num_train_clothes"]
    table = pid2clothes(dataset.train)
    assert list(table.shape) == expected["pid2clothes_shape"]
    assert np.argwhere(table).tolist() == expected["pid2clothes_nonzero"]
    assert detect_datasets(root) == [block_name]


def test_no_block_of_the_file_is_left_out(readers: Mapping[str, Any]) -> None:
    assert set(readers) <= {block for block, _ in BLOCKS.values()} | {"ccvid"}
    for name, block in readers.items():
        known = {mode for other, mode in BLOCKS.values() if other == name}
        inner = {key for key, value in block.items() if isinstance(value, dict)}
        assert inner - NO_MODES <= known, name


@pytest.fixture(scope="module")
def ccvid_block(readers: Mapping[str, Any]) -> Mapping[str, Any]:
    if "ccvid" not in readers:
        pytest.skip("readers.json of this golden set holds no ccvid")
    return readers["ccvid"]


@pytest.fixture(scope="module")
def ccvid_root(ccvid_block: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ccvid") / PARENT
    frames = [
        f"CCVID/{walk}/{index:05d}.jpg"
        for walk, count in ccvid_block["n_frames"].items()
        for index in range(count)
    ]
    write_tree(root, {"files": frames, "lists": ccvid_block["lists"]})
    return root


def clip_records(clips: Sequence[Tracklet], root: Path) -> list[list[Any]]:
    return [
        [
            len(clip.frames),
            *(clip.frames[i].relative_to(root).as_posix() for i in (0, 1, -1)),
            clip.pid,
            clip.camid,
            clip.clothes_id,
        ]
        for clip in clips
    ]


def test_ccvid_equals_official_lists(ccvid_block: Mapping[str, Any], ccvid_root: Path) -> None:
    dataset = read_ccvid(ccvid_root)
    for split in ("train", "query", "gallery"):
        assert clip_records(getattr(dataset, split), ccvid_root) == ccvid_block[split], split
    pairs = {(walk.pid, walk.clothes_id) for walk in dataset.train}
    assert sorted(map(list, pairs)) == ccvid_block["pid2clothes_nonzero"]
    assert len({pid for pid, _ in pairs}) == ccvid_block["num_train_pids"]
    assert len({clothes for _, clothes in pairs}) == ccvid_block["num_train_clothes"]


def test_ccvid_clips_equal_official_lists(ccvid_block: Mapping[str, Any], ccvid_root: Path) -> None:
    dataset = read_ccvid(ccvid_root)
    params = ccvid_block["params"]
    dense = split_train(dataset.train, length=params["sampling_step"])
    assert clip_records(dense, ccvid_root) == ccvid_block["train_dense"]
    for split in ("query", "gallery"):
        clips, ranges = split_test(
            getattr(dataset, split), length=params["seq_len"], stride=params["stride"]
        )
        assert clip_records(clips, ccvid_root) == ccvid_block[f"recombined_{split}"]
        expected = ccvid_block[f"{split}_vid2clip_index"]
        assert [[clip.start, clip.stop] for clip in ranges] == expected
