"""The official pre-processed arrays of SYSU-MM01: rows of a file as training images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.config import DataConfig
from reid_core.data import fingerprint, load_dataset
from reid_core.data.images import read_image
from reid_core.data.opening import open_dataset, open_images
from reid_core.errors import ConfigError, ImageFileError
from reid_core.testing.miniatures import write_miniature

HEIGHT, WIDTH = 288, 144
# Training images of the miniature of SYSU-MM01 in the official order: pid, camera from 1.
SYSU_VISIBLE = [(0, 1), (0, 4), (1, 2)]
SYSU_INFRARED = [(0, 3), (0, 6), (1, 3)]


def config_of(own: Path, name: str = "sysu", **changes: object) -> DataConfig:
    return DataConfig(root=str(own), dataset=name, **changes)


def write_arrays(own: Path, **changes: object) -> dict[str, np.ndarray]:
    """Write the arrays of the miniature; ``changes`` replaces ``rgb_img``, ``ir_label``, ..."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for name, rows in (("rgb", SYSU_VISIBLE), ("ir", SYSU_INFRARED)):
        shape = (len(rows), HEIGHT, WIDTH, 3)
        arrays[f"{name}_img"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{name}_label"] = np.array([pid for pid, _ in rows])
    arrays |= changes
    for name, array in arrays.items():
        np.save(own / f"train_{name.replace('_', '_resized_')}.npy", array, allow_pickle=True)
    return arrays


def remove_training_files(own: Path) -> None:
    for path in own.glob("cam*/000[12]/*.jpg"):
        path.unlink()


@pytest.fixture
def sysu(tmp_path: Path) -> Path:
    return write_miniature("sysu", tmp_path)


@pytest.mark.parametrize("with_files", [True, False])
def test_rows_are_training_images(with_files: bool, sysu: Path) -> None:
    arrays = write_arrays(sysu)
    if not with_files:
        remove_training_files(sysu)
    dataset = load_dataset("sysu", sysu, prefer_arrays=with_files)
    cameras = [camera for _, camera in (*SYSU_VISIBLE, *SYSU_INFRARED)]
    # Arrays hold no cameras; the files that they were made of do.
    assert [s.camid + 1 for s in dataset.train] == (cameras if with_files else [1] * 3 + [3] * 3)
    assert [s.pid for s in dataset.train] == [pid for pid, _ in (*SYSU_VISIBLE, *SYSU_INFRARED)]
    pixels = [*arrays["rgb_img"], *arrays["ir_img"]]
    for sample, wanted in zip(dataset.train, pixels, strict=True):
        assert (np.asarray(read_image(sample.path)) == wanted).all()
    assert len({sample.path for sample in dataset.train}) == len(pixels)
    kind = "not from the image files" if with_files else "these hold no cameras"
    assert any(kind in note for note in dataset.notes)


def test_files_are_used_unless_arrays_are_asked_for(sysu: Path) -> None:
    from_files = load_dataset("sysu", sysu)
    write_arrays(sysu)
    assert load_dataset("sysu", sysu) == from_files
    found = open_dataset(config_of(sysu, prefer_arrays=True))
    assert [s.camid for s in found.train] == [s.camid for s in from_files.train]
    assert found.train[0].path == sysu / "train_rgb_resized_img.npy" / "000000"


def test_only_sysu_has_arrays(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    with pytest.raises(ConfigError, match="ltcc has no pre-processed arrays; only sysu has"):
        open_dataset(config_of(own, "ltcc", prefer_arrays=True))


def test_arrays_and_files_give_the_same_pixels(sysu: Path) -> None:
    """As the official pre-processing makes the arrays: Pillow's Lanczos filter, once."""
    rng = np.random.default_rng(0)
    for path in sysu.glob("cam*/000[12]/*.jpg"):
        noise = rng.integers(0, 256, (5, 3, 3), np.uint8)
        Image.fromarray(noise).resize((60, 130), Image.Resampling.BICUBIC).save(path)
    files = load_dataset("sysu", sysu).train
    arrays = {}
    for name, modality in (("rgb", "visible"), ("ir", "infrared")):
        images = [Image.open(s.path) for s in files if s.modality == modality]
        resized = [image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for image in images]
        arrays[f"{name}_img"] = np.stack([np.asarray(image) for image in resized])
    write_arrays(sysu, **arrays)
    rows = load_dataset("sysu", sysu, prefer_arrays=True).train
    settings = {"height": HEIGHT, "width": WIDTH, "interpolation": "lanczos"}
    from_rows, from_files = (
        open_images(samples, config_of(sysu, cache="memory", **settings)).images
        for samples in (rows, files)
    )
    assert (from_rows == from_files).all()
    other = open_images(
        files, config_of(sysu, cache="memory", **settings | {"interpolation": "bilinear"})
    )
    assert (other.images != from_files).any()


def test_rows_go_through_the_image_cache(sysu: Path, tmp_path: Path) -> None:
    arrays = write_arrays(sysu)
    config = config_of(
        *(sysu,),
        **{"height": HEIGHT, "width": WIDTH, "interpolation": "lanczos", "prefer_arrays": True},
        **{"cache": "disk", "cache_dir": tmp_path / "cache"},
    )
    train = open_dataset(config).train
    digest = fingerprint(open_dataset(config))
    images = open_images(train, config)
    assert (images.images[:3] == arrays["rgb_img"].transpose(0, 3, 1, 2)).all()
    assert open_images(train, config).file == images.file
    # Arrays that were made anew are other images, though the paths are the same.
    for name in ("rgb", "ir"):
        os.utime(sysu / f"train_{name}_resized_img.npy", (1, 1))
    assert open_images(train, config).file != images.file
    assert fingerprint(open_dataset(config)) == digest
    with (sysu / "train_ir_resized_img.npy").open("ab") as file:
        file.write(b"x")
    assert fingerprint(open_dataset(config)) != digest


@pytest.mark.parametrize("change", [{"height": 256}, {"width": 128}, {"interpolation": "bilinear"}])
def test_rows_are_not_resized_again(change: dict[str, object], sysu: Path) -> None:
    write_arrays(sysu)
    settings = {"height": HEIGHT, "width": WIDTH, "interpolation": "lanczos"} | change
    config = config_of(sysu, prefer_arrays=True, **settings)
    dataset = open_dataset(config)
    with pytest.raises(ConfigError, match=r"resized with lanczos; asked.*--data\.height 288"):
        open_images(dataset.train, config)


@pytest.mark.parametrize("row", ["000099", "7"])
def test_rows_that_are_not_there(row: str, sysu: Path) -> None:
    write_arrays(sysu)
    file = sysu / "train_ir_resized_img.npy"
    with pytest.raises(ImageFileError, match=rf"npy/{row}: .*out of bounds"):
        read_image(file / row)
    file.unlink()
    with pytest.raises(ImageFileError, match=rf"npy/{row}: cannot read the array .*No such file"):
        read_image(file / row)


def test_arrays_are_mapped_not_loaded(sysu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(sysu)
    monkeypatch.setattr(np, "load", lambda *args, **kwargs: pytest.fail("the array is loaded"))
    samples = load_dataset("sysu", sysu, prefer_arrays=True).train
    assert read_image(samples[0].path).size == (WIDTH, HEIGHT)
