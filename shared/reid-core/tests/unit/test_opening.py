"""What ``--data`` opens, and where decoded images are kept."""

import numpy as np
import pytest

from reid_core.config import DataConfig
from reid_core.data import opening
from reid_core.data.naming import is_synthetic, name_dataset
from reid_core.data.opening import open_dataset, open_images
from reid_core.errors import ConfigError, DatasetNotFoundError, ImageFileError


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("REID_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture
def config(tmp_path):
    return DataConfig(
        root="synthetic",
        synthetic_size="tiny",
        height=64,
        width=32,
        cache_dir=tmp_path / "images",
    )


@pytest.fixture
def dataset(config):
    return open_dataset(config)


@pytest.mark.parametrize(
    ("root", "name"),
    [("synthetic", "ltcc"), ("synthetic:prcc", "prcc"), ("synthetic:last", "last")],
)
def test_names_of_synthetic_data(root, name):
    assert is_synthetic(root)
    assert name_dataset(root) == name


def test_a_folder_called_like_it_is_not_synthetic(tmp_path):
    assert not is_synthetic("synthetics")
    with pytest.raises(DatasetNotFoundError):
        name_dataset(str(tmp_path))


def test_synthetic_data_are_marked(dataset):
    assert dataset.synthetic
    assert dataset.name == "ltcc"
    assert dataset.num_pids > 1


def test_contradictions_are_refused():
    with pytest.raises(ConfigError, match="contradict"):
        open_dataset(DataConfig(root="synthetic:prcc", dataset="ltcc"))
    with pytest.raises(ConfigError, match="duke"):
        name_dataset("synthetic:duke")


@pytest.mark.parametrize(("cache", "in_file"), [("memory", False), ("disk", True), ("auto", False)])
def test_place_of_the_cache(dataset, config, cache, in_file):
    from dataclasses import replace

    images = open_images(dataset.train, replace(config, cache=cache))
    assert (images.file is not None) == in_file
    assert len(images) == len(dataset.train)


def test_several_processes_share_a_file(dataset, config):
    assert open_images(dataset.train, config, num_processes=2).file is not None


def test_little_memory_means_a_file(dataset, config, monkeypatch):
    monkeypatch.setattr(opening, "_memory_size", lambda: 1000)
    assert open_images(dataset.train, config).file is not None


def test_a_container_has_less_memory_than_its_machine(tmp_path, monkeypatch):
    limits = {"number": "123456789\n", "no limit": "max\n"}
    for name, text in limits.items():
        (tmp_path / name).write_text(text)
    files = [tmp_path / name for name in (*limits, "absent")]
    monkeypatch.setattr(opening, "_CONTAINER_LIMITS", files)
    assert opening._memory_size() == 123456789


def test_enlarged_copies_are_left_out_of_huge_caches(dataset, config, monkeypatch):
    kept = open_images(dataset.train, config, crop_scale=1.125)
    assert kept.enlarged is not None
    monkeypatch.setattr(opening, "_ENLARGED_LIMIT", 1000)
    images = open_images(dataset.train, config, crop_scale=1.125)
    assert images.enlarged is None
    assert np.array_equal(images.images, kept.images)


def test_damaged_images(dataset, config, tmp_path, caplog):
    from dataclasses import replace

    bad = replace(dataset.train[0], path=tmp_path / "bad.png")
    bad.path.write_bytes(b"")
    samples = [bad, *dataset.train[1:4]]
    with pytest.raises(ImageFileError, match=r"bad\.png"):
        open_images(samples, config)
    images = open_images(samples, replace(config, skip_corrupt=True))
    assert len(images) == 3
    assert "left out: 1" in caplog.text
