"""Readers of Market-1501, DukeMTMC-reID and MSMT17: labels, junk, distractors, lists."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from reid_core.data import READERS, Sample, detect_datasets, find_dataset, load_dataset
from reid_core.data.readers import read_dataset
from reid_core.errors import ConfigError, DatasetError, DatasetNotFoundError
from reid_core.evaluation import PROTOCOLS
from reid_core.testing.miniatures import write_images, write_miniature


def labels(samples: list[Sample]) -> list[tuple[str, int, int]]:
    assert {sample.clothes_id for sample in samples} == {-1}
    return [(sample.path.name, sample.pid, sample.camid) for sample in samples]


def test_market1501_labels(tmp_path: Path) -> None:
    write_miniature("market1501", tmp_path)
    dataset = load_dataset("market1501", tmp_path)
    assert labels(dataset.train) == [
        ("0002_c1s1_000451_03.jpg", 0, 0),
        ("0002_c2s1_000301_01.jpg", 0, 1),
        ("0010_c6s3_077427_01.jpg", 1, 5),
    ]
    assert labels(dataset.splits["query"]) == [
        ("0001_c1s1_001051_00.jpg", 1, 0),
        ("0003_c3s6_015971_00.jpg", 3, 2),
    ]
    # Without junk (-1), with distractors (0).
    assert labels(dataset.splits["gallery"]) == [
        ("0000_c4s6_000810_02.jpg", 0, 3),
        ("0001_c2s1_000301_00.jpg", 1, 1),
        ("0003_c4s6_015641_01.jpg", 3, 3),
    ]


def test_dukemtmc_labels(tmp_path: Path) -> None:
    write_miniature("dukemtmc", tmp_path)
    dataset = load_dataset("dukemtmc", tmp_path)
    assert labels(dataset.train) == [
        ("0001_c2_f0046182.jpg", 0, 1),
        ("0001_c5_f0046302.jpg", 0, 4),
        ("0020_c8_f0109334.jpg", 1, 7),
    ]
    assert labels(dataset.splits["gallery"]) == [
        ("0005_c1_f0044158.jpg", 5, 0),
        ("0033_c4_f0051521.jpg", 33, 3),
        ("4999_c7_f0222222.jpg", 4999, 6),
    ]


def test_msmt17_labels_are_in_the_order_of_the_lists(tmp_path: Path) -> None:
    own = write_miniature("msmt17", tmp_path)
    dataset = load_dataset("msmt17", tmp_path)
    assert labels(dataset.train) == [
        ("0003_000_15_0113noon_0444_0.jpg", 1, 14),
        ("0000_000_01_0303morning_0008_0.jpg", 0, 0),
        ("0003_001_02_0113noon_0500_0.jpg", 1, 1),
    ]
    assert dataset.train[0].path.parent == own / "mask_train_v2" / "0003"
    # Person 0 of the test is another one, so that its number stays as it is.
    assert labels(dataset.splits["query"]) == [
        ("0000_010_09_0302afternoon_0870_0.jpg", 0, 8),
        ("0002_007_14_0114morning_0000_1.jpg", 2, 13),
    ]
    assert labels(dataset.splits["gallery"]) == [
        ("0000_000_04_0302afternoon_0870_1.jpg", 0, 3),
        ("0002_005_03_0114morning_0000_1_ex.jpg", 2, 2),
    ]


def test_msmt17_can_be_trained_on_both_lists(tmp_path: Path) -> None:
    own = write_miniature("msmt17", tmp_path)
    plain, both = (load_dataset(name, own) for name in ("msmt17", "msmt17_trainval"))
    assert labels(both.train) == [
        *labels(plain.train),
        ("0000_001_12_0303morning_0010_1_ex.jpg", 0, 11),
    ]
    assert {split: both.splits[split] for split in ("query", "gallery")} == {
        split: plain.splits[split] for split in ("query", "gallery")
    }
    assert READERS["msmt17_trainval"].info.counts["train"].num_images == 32621
    assert detect_datasets(tmp_path) == ["msmt17"]
    # The second list is needed only where it is asked for.
    (own / "list_val.txt").unlink()
    assert load_dataset("msmt17", own) == plain
    with pytest.raises(DatasetNotFoundError, match=r"lacks list_val\.txt"):
        load_dataset("msmt17_trainval", own)


@pytest.mark.parametrize("folder", ["MSMT17_V2", "MSMT17_V1", "MSMT17", "msmt17", None])
@pytest.mark.parametrize("version", [1, 2])
def test_msmt17_of_both_versions_in_any_folder(
    version: int, folder: str | None, tmp_path: Path
) -> None:
    own = write_miniature("msmt17", tmp_path)
    expected = [labels(samples) for samples in load_dataset("msmt17", own).splits.values()]
    if version == 1:
        (own / "mask_train_v2").rename(own / "train")
        (own / "mask_test_v2").rename(own / "test")
    if folder is None:
        for entry in own.iterdir():
            entry.rename(tmp_path / entry.name)
        own.rmdir()
    else:
        own.rename(tmp_path / folder)
    dataset = load_dataset("msmt17", tmp_path)
    assert [labels(samples) for samples in dataset.splits.values()] == expected
    assert find_dataset(tmp_path) == "msmt17"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("market1501", "query/0001_c7s1_001051_00.jpg"),  # cameras 1 to 6
        ("market1501", "query/0001_c1_f0044158.jpg"),  # DukeMTMC-reID's
        ("market1501", "bounding_box_test/-2_c1s1_000401_03.jpg"),
        ("dukemtmc", "query/0001_c9_f0044158.jpg"),  # cameras 1 to 8
        ("dukemtmc", "query/0001_c1s1_001051_00.jpg"),  # Market-1501's
        ("dukemtmc", "bounding_box_test/-1_c1_f0044158.jpg"),
    ],
)
def test_names_without_labels_are_refused(name: str, file: str, tmp_path: Path) -> None:
    own = write_miniature(name, tmp_path)
    expected = load_dataset(name, own).splits
    write_images(own, [file])
    with pytest.raises(DatasetError, match=rf"{file}  \(expected <pid>_c<camera, 1 to "):
        load_dataset(name, own)
    found = load_dataset(name, own, skip_misnamed=True)
    assert found.splits == expected
    assert "misnamed image files left out: 1" in found.notes


@pytest.mark.parametrize("camera", ["00", "16", "1"])
def test_msmt17_has_fifteen_cameras(camera: str, tmp_path: Path) -> None:
    own = write_miniature("msmt17", tmp_path)
    image = f"0002/0002_009_{camera}_0114morning_0000_1.jpg"
    write_images(own, [f"mask_test_v2/{image}"])
    with (own / "list_query.txt").open("a") as table:
        table.write(f"{image} 2\n")
    with pytest.raises(DatasetError, match="<camera, 01 to 15>"):
        load_dataset("msmt17", own)


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ("list_train.txt", "0000/gone.jpg 0", r"lists images that are not in .*mask_train_v2 \(1"),
        ("list_gallery.txt", "0000/gone.jpg 0", r"lists images that are not in .*mask_test_v2 \(1"),
        ("list_query.txt", "0000/no_label.jpg", "with a number for the person"),
    ],
)
def test_lists_of_msmt17_that_are_wrong(
    table: str, line: str, message: str, tmp_path: Path
) -> None:
    own = write_miniature("msmt17", tmp_path)
    with (own / table).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DatasetError, match=message):
        load_dataset("msmt17", own)


@pytest.mark.parametrize(
    ("name", "file", "people"),
    [
        ("market1501", "bounding_box_test/0002_c4s1_000451_03.jpg", r"1 people .*: 2;"),
        ("dukemtmc", "query/0020_c3_f0109334.jpg", r"1 people .*: 20;"),
    ],
)
def test_training_and_test_people_differ(name: str, file: str, people: str, tmp_path: Path) -> None:
    own = write_miniature(name, tmp_path)
    write_images(own, [file])
    with pytest.raises(DatasetError, match=people):
        load_dataset(name, own)


def test_junk_alone_is_no_gallery(tmp_path: Path) -> None:
    own = write_miniature("market1501", tmp_path)
    for path in (own / "bounding_box_test").glob("[0-9]*.jpg"):
        path.unlink()
    with pytest.raises(DatasetError, match="no images for gallery"):
        load_dataset("market1501", own)


def test_both_bounding_box_data_sets_are_told_apart(tmp_path: Path) -> None:
    for name in ("market1501", "dukemtmc"):
        assert find_dataset(write_miniature(name, tmp_path)) == name
    with pytest.raises(ConfigError, match="holds market1501, dukemtmc; choose one"):
        find_dataset(tmp_path)


def test_sizes_are_those_of_the_publications(tmp_path: Path) -> None:
    """A copy with the published numbers of files has nothing to note."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    first = {"train": 1000, "query": 1, "gallery": 0}
    names = []
    for split, folder in folders.items():
        count = READERS["market1501"].info.counts[split]
        names += [
            f"{folder}/{first[split] + i % count.num_pids:04d}_c{1 + i % 6}s1_{i:06d}_01.jpg"
            for i in range(count.num_images)
        ]
    names += [f"bounding_box_test/-1_c1s1_{i:06d}_01.jpg" for i in range(3819)]
    archive = tmp_path / "Market-1501-v15.09.15.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.writestr(f"Market-1501-v15.09.15/{name}", b"")
    reading = read_dataset("market1501", archive)
    assert not reading.differences
    assert not reading.dataset.notes


def test_the_withdrawn_one_is_linked_to_nowhere(tmp_path: Path) -> None:
    info = READERS["dukemtmc"].info
    assert "withdrawn by its authors" in info.source
    assert "http" not in f"{info.source} {info.paper} {info.layout}"
    with pytest.raises(DatasetNotFoundError, match="nowhere: withdrawn by its authors"):
        load_dataset("dukemtmc", tmp_path)


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "msmt17", "msmt17_trainval"])
def test_each_has_its_protocol(name: str) -> None:
    protocol = PROTOCOLS[f"{name}/standard"]
    assert protocol.citation == READERS[name].info.paper
    assert protocol.splits == ("query", "gallery")
