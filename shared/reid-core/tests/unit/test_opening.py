"""What ``--data`` opens, and where decoded images are kept."""

from dataclasses import replace

import numpy as np
import pytest

from reid_core import memory
from reid_core.config import DataConfig
from reid_core.data import opening
from reid_core.data.naming import dataset_title, is_synthetic, name_dataset
from reid_core.data.opening import open_dataset, open_images, place_images
from reid_core.errors import (
    ConfigError,
    DatasetNotFoundError,
    ImageFileError,
    MemoryLimitError,
)
from reid_core.memory import MemoryPlan


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


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("regdb", "RegDB"),
        ("market1501", "Market-1501"),
        ("sysu", "SYSU-MM01"),
        ("celeb_light", "Celeb-reID-light"),
        ("folder", "your own images (folder)"),
        ("custom", "your own images"),
    ],
)
def test_titles_are_those_that_people_use(name, title):
    assert dataset_title(name) == title


def test_a_trial_that_no_copy_has_is_refused_before_images_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    for name, says in (("regdb", "the trials 1 to 10"), ("ltcc", "one division into")):
        with pytest.raises(ConfigError, match=f"data.trial=11: {name} has {says}"):
            open_dataset(DataConfig(root="synthetic", dataset=name, trial=11))
    assert not list(tmp_path.iterdir())


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


def test_trials_count_from_one():
    with pytest.raises(ConfigError, match=r"data\.trial=0 must be at least 1"):
        DataConfig(trial=0)


@pytest.mark.parametrize(("cache", "in_file"), [("memory", False), ("disk", True), ("auto", False)])
def test_place_of_the_cache(dataset, config, cache, in_file):
    images = open_images(dataset.train, replace(config, cache=cache))
    assert (images.file is not None) == in_file
    assert len(images) == len(dataset.train)


def test_several_processes_share_a_file(dataset, config):
    assert open_images(dataset.train, config, num_processes=2).file is not None


def test_little_memory_means_a_file(dataset, config, monkeypatch):
    monkeypatch.setattr(opening, "available_memory", lambda: 1000)
    assert open_images(dataset.train, config).file is not None


@pytest.fixture
def plan(monkeypatch):
    """Return a function that makes a plan with so many bytes in all and so many free."""

    def make(allowed, room):
        monkeypatch.setattr(memory, "resident_memory", lambda: allowed - room)
        monkeypatch.setattr(memory, "available_memory", lambda: allowed)
        return MemoryPlan(reserve=0)

    return make


@pytest.mark.parametrize(
    ("allowed", "room", "processes", "place"),
    [
        (8.1, 2.1, 1, "memory"),
        (8.1, 1.9, 1, "disk"),  # no room beside what else there is
        (7.9, 2.1, 1, "disk"),  # more than a quarter of all
        (80.0, 70.0, 2, "disk"),  # a file is shared, memory is not
    ],
)
def test_place_is_chosen_by_what_is_left(config, plan, allowed, room, processes, place):
    image = 3 * 64 * 32
    budget = plan(int(allowed * 10 * image), int(room * 10 * image))
    counts = {"query": 5, "gallery": 15}
    found = place_images(config, budget, counts, num_processes=processes)
    assert found == replace(config, cache=place)
    assert [part.num_bytes for part in budget.parts[2:]] == (
        [5 * image, 15 * image] if place == "memory" else []
    )
    budget.require("it")


def test_memory_that_was_asked_for_is_counted_not_changed(config, plan):
    budget = plan(10**9, 100_000)
    found = place_images(
        replace(config, cache="memory"), budget, {"gallery": 100}, option="--cache"
    )
    assert found.cache == "memory"
    with pytest.raises(
        MemoryLimitError, match=r"decoded images of gallery \(100, 64 x 32\)"
    ) as why:
        budget.require("it")
    assert "images in a file (--cache disk)" in str(why.value)


def test_a_file_costs_no_memory(config, plan):
    budget = plan(10**9, 0)
    assert place_images(replace(config, cache="disk"), budget, {"gallery": 10**6}).cache == "disk"
    budget.require("it")


def test_enlarged_copies_are_counted(config, plan):
    budget = plan(10**9, 10**9)
    place_images(replace(config, cache="memory"), budget, {"train": 10}, crop_scale=1.125)
    assert budget.parts[-1].num_bytes == 10 * 3 * (64 * 32 + 72 * 36)


def test_enlarged_copies_are_left_out_of_huge_caches(dataset, config, monkeypatch):
    kept = open_images(dataset.train, config, crop_scale=1.125)
    assert kept.enlarged is not None
    monkeypatch.setattr(opening, "_ENLARGED_LIMIT", 1000)
    images = open_images(dataset.train, config, crop_scale=1.125)
    assert images.enlarged is None
    assert np.array_equal(images.images, kept.images)


def test_damaged_images(dataset, config, tmp_path, caplog):
    bad = replace(dataset.train[0], path=tmp_path / "bad.png")
    bad.path.write_bytes(b"")
    samples = [bad, *dataset.train[1:4]]
    with pytest.raises(ImageFileError, match=r"bad\.png"):
        open_images(samples, config)
    images = open_images(samples, replace(config, skip_corrupt=True))
    assert len(images) == 3
    assert "left out: 1" in caplog.text
