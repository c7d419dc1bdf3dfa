"""Companion images: how they are found beside a data set's images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid_core.config import DataConfig
from reid_core.data import ReIDDataset, Sample, fingerprint, load_dataset
from reid_core.data.companions import (
    COMPANION_KINDS,
    attach_companions,
    companion_path,
    companions_of,
    has_companions,
)
from reid_core.data.opening import open_dataset
from reid_core.errors import ConfigError, DatasetError, DatasetNotFoundError
from reid_core.testing.miniatures import write_images, write_miniature


@pytest.fixture
def prcc(tmp_path: Path) -> ReIDDataset:
    write_miniature("prcc", tmp_path / "data")
    return load_dataset("prcc", tmp_path / "data")


def write_companions(dataset: ReIDDataset, folder: Path, kinds=COMPANION_KINDS) -> list[Path]:
    paths = [
        companion_path(dataset.root, sample.path, kind, folder)
        for samples in dataset.splits.values()
        for sample in samples
        for kind in kinds
    ]
    write_images(folder, [path.relative_to(folder).as_posix() for path in paths])
    return paths


def test_the_fingerprint_depends_on_companions_where_there_are_some(prcc, tmp_path):
    plain = fingerprint(prcc)
    written = write_companions(prcc, tmp_path / "prepared")
    attached = attach_companions(prcc, tmp_path / "prepared")
    whole = fingerprint(attached)
    assert whole != plain
    assert fingerprint(prcc) == plain
    moved = (tmp_path / "prepared").rename(tmp_path / "elsewhere")
    assert fingerprint(attach_companions(prcc, moved)) == whole
    other = moved / written[0].relative_to(tmp_path / "prepared")
    other.write_bytes(other.read_bytes() + b" ")
    larger = fingerprint(attach_companions(prcc, moved))
    other.unlink()
    fewer = fingerprint(attach_companions(prcc, moved))
    assert len({plain, whole, larger, fewer}) == 4


def every(dataset: ReIDDataset) -> list[Sample]:
    return [sample for samples in dataset.splits.values() for sample in samples]


def test_written_where_they_are_found(prcc: ReIDDataset, tmp_path: Path) -> None:
    written = write_companions(prcc, tmp_path / "prepared")
    attached = attach_companions(prcc, tmp_path / "prepared")
    assert [path for sample in every(attached) for path in companions_of(sample).values()] == (
        written
    )
    first = attached.train[0]
    assert first.extra["lr_face"] == (
        tmp_path / "prepared/lr_face/rgb/train/001/A_cropped_rgb001.png"
    )
    assert first.extra["identity"] == "001"
    # Labels, order and images stay.
    assert every(attached) == every(prcc)
    assert not any(companions_of(sample) for sample in every(prcc))


def test_a_missing_one_lacks_its_key(prcc: ReIDDataset, tmp_path: Path) -> None:
    lost, *_ = write_companions(prcc, tmp_path)
    lost.unlink()
    first, *others = every(attach_companions(prcc, tmp_path))
    assert set(companions_of(first)) == {"hr_face", "mask"}
    assert not has_companions(first)
    assert has_companions(first, ["mask"])
    assert all(has_companions(sample) for sample in others)


def test_a_whole_kind_may_be_missing(prcc: ReIDDataset, tmp_path: Path) -> None:
    write_companions(prcc, tmp_path, ["lr_face"])
    attached = attach_companions(prcc, tmp_path)
    assert all(set(companions_of(sample)) == {"lr_face"} for sample in every(attached))


def test_png_goes_before_jpeg_and_other_files_are_none(prcc: ReIDDataset, tmp_path: Path) -> None:
    image = prcc.train[0].path
    png = companion_path(prcc.root, image, "mask", tmp_path)
    write_images(png.parent, [png.name, f"{png.stem}.jpg", f".{png.stem}.png"])
    second = companion_path(prcc.root, prcc.train[1].path, "mask", tmp_path).with_suffix(".JPG")
    write_images(second.parent, [second.name])
    third = companion_path(prcc.root, prcc.train[2].path, "mask", tmp_path)
    write_images(third.parent, [f"{third.stem}.npy"])
    third.mkdir()
    found = [sample.extra.get("mask") for sample in attach_companions(prcc, tmp_path).train]
    assert found == [png, second, None, None, None]


def test_only_the_kinds_asked_for_are_touched(prcc: ReIDDataset, tmp_path: Path) -> None:
    write_companions(prcc, tmp_path / "first")
    write_companions(prcc, tmp_path / "second")
    first = attach_companions(prcc, tmp_path / "first")
    mixed = attach_companions(first, tmp_path / "second", ["lr_face"])
    sample = mixed.train[0]
    assert sample.extra["lr_face"].is_relative_to(tmp_path / "second")
    assert sample.extra["mask"].is_relative_to(tmp_path / "first")


def test_one_listing_per_folder(
    prcc: ReIDDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_companions(prcc, tmp_path)
    listed: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.fspath(path)) or scan(path))
    attach_companions(prcc, tmp_path, ["mask"])
    # One look at the folder of each person, and camera of the test people.
    assert len(listed) == len(set(listed))
    assert len(listed) == len({sample.path.parent for sample in every(prcc)})


def test_the_folder_of_another_data_set_is_refused(prcc: ReIDDataset, tmp_path: Path) -> None:
    write_images(tmp_path / "other", ["mask/train/1_1_0.png", "manifest.json"])
    with pytest.raises(DatasetError) as caught:
        attach_companions(prcc, tmp_path / "other")
    message = str(caught.value)
    for part in ("no lr_face or hr_face or mask", "prcc", "lr_face/rgb/train/001", "manifest.json"):
        assert part in message


def test_no_folder_and_unknown_kind(prcc: ReIDDataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="deskpro-prepare --data ROOT --out"):
        attach_companions(prcc, tmp_path / "absent")
    with pytest.raises(ConfigError, match="masks: unknown; choose from lr_face, hr_face, mask"):
        attach_companions(prcc, tmp_path, ["masks"])


def test_images_that_would_share_a_companion_are_refused(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    write_images(own, ["train/001_1_c1_000001.jpg", "masks/x.png"])
    with pytest.raises(DatasetError, match=r"001_1_c1_000001.*differ in their ending only"):
        attach_companions(load_dataset("ltcc", tmp_path), own / "masks")


def test_images_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "elsewhere" / "a.jpg", 0, 0)
    dataset = ReIDDataset(name="csv", root=tmp_path / "root", splits={"train": [sample]})
    with pytest.raises(DatasetError, match=r"a\.jpg does not lie below"):
        attach_companions(dataset, tmp_path)


def test_settings_name_the_folder(prcc: ReIDDataset, tmp_path: Path) -> None:
    write_companions(prcc, tmp_path / "prepared")
    root = str(prcc.root)
    bare = open_dataset(DataConfig(root=root, dataset="prcc"))
    assert not companions_of(bare.train[0])
    settings = DataConfig(root=root, dataset="prcc", prepared=tmp_path / "prepared")
    assert has_companions(open_dataset(settings).train[0])
