"""Readers against the lists of the official code, on the golden file trees; decoding of images."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from reid_core.data import Sample, load_dataset
from reid_core.data.images import decode_resized, read_image
from reid_core.testing.golden import GoldenSet

# Folders above the data set that look like folders in it must not matter.
PARENT = Path("cam3", "0001", "test_vis")
HEIGHT, WIDTH = 288, 144
MODALITIES = {"rgb": "visible", "ir": "infrared"}
TEST_PERSON = 900


@pytest.fixture(scope="module")
def preprocessed(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("sysu_preprocess.json")


@pytest.fixture
def sysu_root(preprocessed: Mapping[str, Any], tmp_path: Path) -> Path:
    """The golden tree, with one test person in each camera, which official training ignores."""
    root = tmp_path / PARENT / "SYSU-MM01"
    strangers = [[camera, TEST_PERSON, 1, 200] for camera in range(1, 7)]
    for camera, pid, frame, grey in [*preprocessed["tree_cam_pid_frame_grey"], *strangers]:
        path = root / f"cam{camera}" / f"{pid:04d}" / f"{frame:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 40), (grey, grey, grey)).save(path)
    (root / "exp").mkdir()
    people = {"train": preprocessed["train_id"], "val": preprocessed["val_id"]}
    for name, pids in {**people, "test": [TEST_PERSON]}.items():
        (root / "exp" / f"{name}_id.txt").write_text(",".join(map(str, pids)) + "\n")
    return root


def of_modality(samples: Sequence[Sample], modality: str) -> list[Sample]:
    return [sample for sample in samples if sample.modality == modality]


def write_arrays(root: Path, preprocessed: Mapping[str, Any]) -> None:
    """Write the arrays that the official pre-processing makes of the golden tree."""
    for name in MODALITIES:
        block = preprocessed[name]
        greys = np.array(block["grey_of_each_image"], block["dtype"])
        images = np.broadcast_to(greys[:, None, None, None], block["shape"])
        np.save(root / f"train_{name}_resized_img.npy", images)
        labels = np.array(block["labels"], block["label_dtype"])
        np.save(root / f"train_{name}_resized_label.npy", labels)


def remove_training_files(root: Path) -> None:
    for path in root.glob("cam*/*/*.jpg"):
        if int(path.parent.name) != TEST_PERSON:
            path.unlink()


def equals_official(samples: Sequence[Sample], preprocessed: Mapping[str, Any]) -> None:
    modalities = [sample.modality for sample in samples]
    assert modalities == sorted(modalities, reverse=True)  # visible images first
    for name, modality in MODALITIES.items():
        block, found = preprocessed[name], of_modality(samples, modality)
        assert [sample.pid for sample in found] == block["labels"]
        pixels = [decode_resized(s.path, HEIGHT, WIDTH, "lanczos") for s in found]
        stacked = np.stack(pixels).transpose(0, 2, 3, 1)
        assert list(stacked.shape) == block["shape"]
        assert stacked.dtype == block["dtype"]
        wanted = np.array(block["grey_of_each_image"])[:, None, None, None]
        assert (stacked == wanted).all()


def test_sysu_equals_official_arrays(preprocessed: Mapping[str, Any], sysu_root: Path) -> None:
    dataset = load_dataset("sysu", sysu_root.parent)
    equals_official(dataset.train, preprocessed)
    for sample in dataset.train:
        camera, pid = sample.path.relative_to(sysu_root).parts[:2]
        assert camera == f"cam{sample.camid + 1}"
        assert int(pid) in preprocessed["train_id"] + preprocessed["val_id"]
    assert {sample.pid for sample in dataset.splits["test"]} == {TEST_PERSON}


@pytest.mark.parametrize("with_files", [True, False])
def test_sysu_reads_official_arrays(
    with_files: bool, preprocessed: Mapping[str, Any], sysu_root: Path
) -> None:
    from_files = load_dataset("sysu", sysu_root).train
    write_arrays(sysu_root, preprocessed)
    assert load_dataset("sysu", sysu_root).train == from_files
    if not with_files:
        remove_training_files(sysu_root)
    found = load_dataset("sysu", sysu_root, prefer_arrays=with_files).train
    equals_official(found, preprocessed)
    assert all(sample.path.parent.suffix == ".npy" for sample in found)
    assert len({sample.path for sample in found}) == len(found)
    if with_files:
        assert [sample.camid for sample in found] == [sample.camid for sample in from_files]


def test_every_block_of_the_pre_processing_is_compared(preprocessed: Mapping[str, Any]) -> None:
    assert set(preprocessed) == {"train_id", "val_id", "tree_cam_pid_frame_grey", *MODALITIES}


@pytest.fixture(scope="module")
def llcm(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("llcm_gallery_synthetic.json")


@pytest.fixture(scope="module")
def llcm_test(llcm: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Test images of the golden tree, which its reader sees with two people to train on."""
    root = tmp_path_factory.mktemp("llcm") / PARENT / "LLCM"
    files = [
        f"{folder}/{pid:04d}/x_{index + 1:06d}.jpg"
        for folder, pid, count in llcm["tree"]
        for index in range(count)
    ]
    training = {name: [f"{name}/{pid:04d}/1.jpg" for pid in (0, 1)] for name in ("vis", "nir")}
    for name in [*files, *training["vis"], *training["nir"]]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "idx").mkdir()
    (root / "idx/test_id.txt").write_text(llcm["test_id_txt"])
    for name, paths in training.items():
        lines = [f"{path} {label}\n" for label, path in enumerate(paths)]
        (root / f"idx/train_{name}.txt").write_text("".join(lines))
    return list(load_dataset("llcm", root).splits["test"])


# The official code's modes.
LLCM_MODES = {1: "visible", 2: "infrared"}


@pytest.mark.parametrize("mode", LLCM_MODES)
def test_llcm_queries_equal_the_official_ones(
    mode: int, llcm: Mapping[str, Any], llcm_test: list[Sample]
) -> None:
    found = of_modality(llcm_test, LLCM_MODES[mode])
    assert len(found) == llcm[f"query_mode{mode}_n"]
    order = [[sample.pid, sample.camid + 1] for sample in found]
    assert order[::7] == llcm[f"query_mode{mode}"]


@pytest.mark.parametrize("mode", LLCM_MODES)
def test_official_draws_from_llcm_in_the_readers_order(
    mode: int, llcm: Mapping[str, Any], llcm_test: list[Sample]
) -> None:
    """The official draws, repeated on the reader's list, take the same files."""
    folders: dict[tuple[int, int], list[str]] = {}
    for sample in of_modality(llcm_test, LLCM_MODES[mode]):
        folders.setdefault((sample.pid, sample.camid + 1), []).append(sample.path.name)
    trials = [key for key in llcm if key.startswith(f"gallery_mode{mode}_trial")]
    assert trials
    for key in trials:
        rng = random.Random(int(key.rpartition("trial")[2]))
        drawn = [[pid, camera, rng.choice(names)] for (pid, camera), names in folders.items()]
        wanted = [[pid, camera, f"x_{index + 1:06d}.jpg"] for pid, camera, index in llcm[key]]
        assert drawn == wanted


def test_every_block_of_llcm_is_compared(llcm: Mapping[str, Any]) -> None:
    modes = {f"query_mode{mode}{end}" for mode in LLCM_MODES for end in ("", "_n")}
    draws = {f"gallery_mode{mode}_trial{trial}" for mode in LLCM_MODES for trial in range(10)}
    assert set(llcm) == {"tree", "test_id_txt", *modes, *draws}


MEAN, STD = (np.array(part) for part in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
# Another Pillow than that of the golden numbers may round to the next grey level; golden README.
TOLERANCE = 1e-6 if PIL.__version__.startswith("13.") else 0.02


def test_test_image(golden: GoldenSet, tmp_path: Path) -> None:
    wanted = golden.arrays("test_image.npz")
    assert set(wanted) == {"source_hw", "tensor_every9", "mean", "std"}
    height, width = wanted["source_hw"]
    y, x, k = np.arange(height)[:, None, None], np.arange(width)[None, :, None], np.arange(3)
    waves = 127 + 100 * np.sin(y / 7 + k) + 20 * np.cos(x / (3 + k))
    pixels = np.clip(np.round(waves), 0, 255).astype(np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    assert (np.asarray(read_image(path)) == pixels).all()

    resized = decode_resized(path, HEIGHT, WIDTH, "lanczos")
    found = (resized / 255 - MEAN[:, None, None]) / STD[:, None, None]

    figures = {
        "tensor_every9": found[:, ::9, ::9],
        "mean": found.mean((1, 2)),
        "std": found.std((1, 2), ddof=1),
    }
    for name, figure in figures.items():
        np.testing.assert_allclose(figure, wanted[name], rtol=0, atol=TOLERANCE, err_msg=name)
