"""Readers of data sets with infrared cameras: labels, order and trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.config import DataConfig
from reid_core.data import Sample, load_dataset
from reid_core.data.opening import open_dataset, select_trial, trials_of
from reid_core.errors import ConfigError, DatasetError
from reid_core.testing.miniatures import write_images, write_miniature


def described(samples: list[Sample], root: Path) -> list[tuple[str, int, int, str]]:
    return [(s.path.relative_to(root).as_posix(), s.pid, s.camid, s.modality[0]) for s in samples]


def test_sysu_labels_and_order(tmp_path: Path) -> None:
    own = write_miniature("sysu", tmp_path)
    dataset = load_dataset("sysu", tmp_path)
    assert described(dataset.train, own) == [
        ("cam1/0001/0001.jpg", 0, 0, "v"),
        ("cam4/0001/0001.jpg", 0, 3, "v"),
        ("cam2/0002/0001.jpg", 1, 1, "v"),
        ("cam3/0001/0001.jpg", 0, 2, "i"),
        ("cam6/0001/0001.jpg", 0, 5, "i"),
        ("cam3/0002/0001.jpg", 1, 2, "i"),
    ]
    assert described(dataset.splits["test"], own) == [
        ("cam1/0006/0001.jpg", 6, 0, "v"),
        ("cam1/0006/0002.jpg", 6, 0, "v"),
        ("cam2/0006/0001.jpg", 6, 1, "v"),
        ("cam4/0010/0001.jpg", 10, 3, "v"),
        ("cam5/0010/0001.jpg", 10, 4, "v"),
        ("cam3/0006/0001.jpg", 6, 2, "i"),
        ("cam6/0010/0001.jpg", 10, 5, "i"),
    ]
    assert {sample.clothes_id for sample in dataset.train} == {-1}
    # Nobody else of the 533 people is in a split.
    write_images(own, ["cam1/0300/0001.jpg", "cam3/0300/0001.jpg"])
    assert load_dataset("sysu", tmp_path) == dataset


def test_llcm_labels_and_order(tmp_path: Path) -> None:
    own = write_miniature("llcm", tmp_path)
    dataset = load_dataset("llcm", tmp_path)
    assert described(dataset.train, own) == [
        ("vis/0003/0003_c09_s000001_f000001_vis.jpg", 1, 8, "v"),
        ("vis/0001/0001_c01_s000001_f000001_vis.jpg", 0, 0, "v"),
        ("nir/0001/0001_c02_s000001_f000001_nir.jpg", 0, 1, "i"),
        ("nir/0003/0003_c04_s000001_f000001_nir.jpg", 1, 3, "i"),
    ]
    assert described(dataset.splits["test"], own) == [
        ("test_vis/cam1/0002/0002_c01_s000001_f000001_vis.jpg", 2, 0, "v"),
        ("test_vis/cam3/0002/0002_c03_s000001_f000001_vis.jpg", 2, 2, "v"),
        ("test_vis/cam3/0010/0010_c03_s000001_f000001_vis.jpg", 10, 2, "v"),
        ("test_nir/cam1/0002/0002_c01_s000001_f000001_nir.jpg", 2, 0, "i"),
        ("test_nir/cam2/0010/0010_c02_s000001_f000001_nir.jpg", 10, 1, "i"),
    ]


def test_llcm_believes_its_lists(tmp_path: Path) -> None:
    """Not file names: identities stand in the lists, and names without a camera have none."""
    own = write_miniature("llcm", tmp_path)
    write_images(own, ["other place/a.jpg"])
    with (own / "idx/train_vis.txt").open("a") as table:
        table.write("\nother place/a.jpg 0\n")
    sample = load_dataset("llcm", own).train[2]
    assert described([sample], own) == [("other place/a.jpg", 0, -1, "v")]


def test_llcm_sorts_cameras_as_numbers(tmp_path: Path) -> None:
    own = write_miniature("llcm", tmp_path)
    write_images(own, ["test_nir/cam10/0002/a.jpg", "test_nir/cam2/0002/a.jpg"])
    infrared = [s for s in load_dataset("llcm", own).splits["test"] if s.modality == "infrared"]
    assert [(s.pid, s.camid) for s in infrared] == [(2, 0), (2, 1), (2, 9), (10, 1)]


def test_llcm_does_without_infrared_images_of_a_camera(tmp_path: Path) -> None:
    own = write_miniature("llcm", tmp_path)
    expected = load_dataset("llcm", own)
    (own / "test_nir" / "cam3").mkdir()
    assert load_dataset("llcm", own) == expected


def test_regdb_labels_and_order(tmp_path: Path) -> None:
    own = write_miniature("regdb", tmp_path)
    dataset = load_dataset("regdb", tmp_path)
    trials = range(1, 11)
    assert [*dataset.splits] == [f"{split}_{t}" for split in ("train", "test") for t in trials]
    people = {"train_3": ("1", "5"), "test_10": ("2", "9")}
    for split, names in people.items():
        assert described(dataset.splits[split], own) == [
            (f"{folder}/{name}/male_back_{folder[0].lower()}_{frame}_{name}.bmp", pid, camid, kind)
            for folder, camid, kind in (("Visible", 0, "v"), ("Thermal", 1, "i"))
            for pid, name in enumerate(names)
            for frame in ("00001", "00002")
        ]


def test_people_in_one_modality_are_left_out_of_training(tmp_path: Path) -> None:
    own = write_miniature("sysu", tmp_path)
    expected = load_dataset("sysu", own).train
    (own / "exp/val_id.txt").write_text("1, 3,4\n7\n")  # only the first line counts
    write_images(own, ["cam5/0003/0001.jpg", "cam6/0004/0001.jpg", "cam6/0007/0001.jpg"])
    dataset = load_dataset("sysu", own)
    assert dataset.train == expected
    assert "train: left out are 2 people (3, 4), seen in one modality only" in dataset.notes


def test_listed_people_without_images_are_noted(tmp_path: Path) -> None:
    sysu, llcm = (write_miniature(name, tmp_path) for name in ("sysu", "llcm"))
    (sysu / "exp/train_id.txt").write_text("2,5")
    (sysu / "exp/test_id.txt").write_text(",".join(map(str, [6, 10, *range(100, 107)])))
    notes = load_dataset("sysu", sysu).notes
    assert "train: 1 person (5) of the lists without any image" in notes
    many = "7 people (100, 101, 102, 103, 104, ...)"
    assert f"test: {many} of the lists without any image" in notes
    (llcm / "idx/test_id.txt").write_text("2,10,11")
    assert (
        "test: 1 person (11) of test_id.txt without any image" in load_dataset("llcm", llcm).notes
    )


def test_counts_of_each_modality_are_compared(tmp_path: Path) -> None:
    notes = load_dataset("llcm", write_miniature("llcm", tmp_path)).notes
    assert "train (infrared): images 2, published 13,975 (13,973 missing)" in notes
    assert "test (visible): images 3, published 8,680 (8,677 missing)" in notes


def keep_trials(own: Path, *trials: int) -> None:
    for table in (own / "idx").iterdir():
        if int(table.stem.rpartition("_")[2]) not in trials:
            table.unlink()


def config_of(own: Path, name: str = "regdb", **changes: object) -> DataConfig:
    return DataConfig(root=str(own), dataset=name, **changes)


def test_a_trial_is_chosen(tmp_path: Path) -> None:
    own = write_miniature("regdb", tmp_path)
    whole = load_dataset("regdb", own)
    dataset = open_dataset(config_of(own, trial=7))
    assert dataset.splits == {"train": whole.splits["train_7"], "test_7": whole.splits["test_7"]}
    assert dataset.num_pids == 2
    assert [*open_dataset(config_of(own)).splits] == ["train", "test_1"]
    assert trials_of(config_of(own)) == tuple(range(1, 11))


def test_a_copy_may_hold_some_trials(tmp_path: Path) -> None:
    own = write_miniature("regdb", tmp_path)
    keep_trials(own, 2, 10)
    dataset = load_dataset("regdb", own)
    assert [*dataset.splits] == ["train_2", "train_10", "test_2", "test_10"]
    assert "lists of 2 of 10 trials are there: 2, 10" in dataset.notes
    assert not any("absent" in note for note in dataset.notes)
    assert trials_of(config_of(own)) == (2, 10)
    assert "test_10" in open_dataset(config_of(own, trial=10)).splits
    with pytest.raises(DatasetError, match=r"no lists of trial 1, only of 2, 10; .*--data\.trial"):
        open_dataset(config_of(own))
    (own / "synthetic.json").write_text("{}")
    assert load_dataset("regdb", own).notes == ()


@pytest.mark.parametrize("trial", [0, 11])
def test_trials_that_do_not_exist(trial: int, tmp_path: Path) -> None:
    dataset = load_dataset("regdb", write_miniature("regdb", tmp_path))
    with pytest.raises(ConfigError, match=rf"data.trial={trial}: regdb has the trials 1 to 10"):
        select_trial(dataset, trial)


@pytest.mark.parametrize("name", ["ltcc", "sysu"])
def test_other_data_sets_have_one_trial(name: str, tmp_path: Path) -> None:
    own = write_miniature(name, tmp_path)
    dataset = load_dataset(name, own)
    assert trials_of(config_of(own, name)) == ()
    assert select_trial(dataset, 1) is dataset
    with pytest.raises(ConfigError, match=f"data.trial=2: {name} has one division"):
        open_dataset(config_of(own, name, trial=2))
