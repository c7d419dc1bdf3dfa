"""One's own images: folders of people and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.data import fingerprint, load_dataset
from reid_core.testing.miniatures import write_images, write_miniature


def labels(samples) -> list[tuple[int, int, int]]:
    return [(s.pid, s.camid, s.clothes_id) for s in samples]


def test_folder_with_splits_and_cameras(tmp_path: Path) -> None:
    write_miniature("folder", tmp_path)
    dataset = load_dataset("folder", tmp_path)
    assert {split: labels(samples) for split, samples in dataset.splits.items()} == {
        "train": [(0, 1, -1), (1, 2, -1)],
        "query": [(7, 1, -1)],
        "gallery": [(7, 2, -1), (9, 1, -1)],
    }
    assert dataset.notes == ()
    assert len(fingerprint(dataset)) == 16


def test_folder_without_splits_is_training_data(tmp_path: Path) -> None:
    write_images(tmp_path, ["anna/1.jpg", "bob/1.webp", "bob/2.PNG"])
    dataset = load_dataset("folder", tmp_path)
    assert [s.path.relative_to(tmp_path).as_posix() for s in dataset.train] == [
        "anna/1.jpg",
        "bob/1.webp",
        "bob/2.PNG",
    ]
    assert [s.pid for s in dataset.train] == [0, 1, 1]


def test_folder_names_are_shared_by_query_and_gallery(tmp_path: Path) -> None:
    write_images(tmp_path, ["query/zoe/1.jpg", "gallery/anna/1.jpg", "gallery/zoe/2.jpg"])
    splits = load_dataset("folder", tmp_path).splits
    assert [s.pid for s in splits["query"]] == [1]
    assert [s.pid for s in splits["gallery"]] == [0, 1]


def test_images_without_cameras_never_share_one(tmp_path: Path) -> None:
    write_images(tmp_path, ["query/1/a.jpg", "gallery/1/b.jpg", "gallery/2/c1_c.jpg"])
    dataset = load_dataset("folder", tmp_path)
    camids = [s.camid for samples in dataset.splits.values() for s in samples]
    assert len(set(camids)) == 3
    assert "same-camera rule is off" in dataset.notes[0]
    assert "only 1 of 3 images name a camera" in dataset.notes[0]


@pytest.mark.parametrize(
    ("name", "camid"),
    [("0002_c1s1_000451_03.jpg", 1), ("cam3-12.png", 3), ("001_1_C12_7.png", 12), ("x-c0.jpg", 0)],
)
def test_camera_in_a_file_name(name: str, camid: int, tmp_path: Path) -> None:
    write_images(tmp_path, [f"train/1/{name}", f"train/2/{name}"])
    assert {s.camid for s in load_dataset("folder", tmp_path).train} == {camid}


def test_outfit_folders(tmp_path: Path) -> None:
    names = ["train/1/coat/c1_a.jpg", "train/1/shirt/c1_b.jpg", "train/2/coat/c1_c.jpg"]
    write_images(tmp_path, names)
    dataset = load_dataset("folder", tmp_path)
    assert [s.clothes_id for s in dataset.train] == [0, 1, 2]
    assert dataset.num_clothes == 3
    write_images(tmp_path, ["train/2/c1_d.jpg"])
    mixed = load_dataset("folder", tmp_path)
    assert {s.clothes_id for s in mixed.train} == {-1}
    assert len(mixed.train) == 4
    assert mixed.notes == ("1 of 4 images lie in no outfit folder: outfits are not used",)


def write_table(folder: Path, text: str, images: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    write_images(folder, images)
    table = folder / "table.csv"
    table.write_text(text, encoding="utf-8")
    return table


def test_csv_with_all_columns(tmp_path: Path) -> None:
    text = (
        "split,path,pid,camid,clothes_id,modality\n"
        "gallery,b.jpg,12,2,1,infrared\n"
        "query,a.jpg,12,1,1,visible\n"
        "gallery,a.jpg,13,1,1,visible\n"
        "train,b.jpg,40,1,,visible\n"
    )
    dataset = load_dataset("csv", write_table(tmp_path, text))
    assert tuple(dataset.splits) == ("train", "query", "gallery")
    assert labels(dataset.train) == [(0, 1, -1)]
    assert labels(dataset.splits["query"]) == [(12, 1, 0)]
    assert labels(dataset.splits["gallery"]) == [(12, 2, 0), (13, 1, 1)]
    assert [s.modality for s in dataset.splits["gallery"]] == ["infrared", "visible"]
    assert dataset.root == tmp_path


def test_csv_with_least_columns_and_byte_order_mark(tmp_path: Path) -> None:
    table = write_table(tmp_path, "\ufeffpath, pid ,age\n a.jpg , anna ,7\nb.jpg,bob,8\n")
    dataset = load_dataset("csv", table)
    assert [s.pid for s in dataset.train] == [0, 1]
    assert dataset.notes == (
        "no camera labels: the same-camera rule is off (each image is its own camera)",
        "columns not used: age",
    )


def test_the_modality_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    plain, visible, infrared = (
        fingerprint(load_dataset("csv", write_table(tmp_path, text)))
        for text in (
            "path,pid\na.jpg,1\nb.jpg,1\n",
            "path,pid,modality\na.jpg,1,visible\nb.jpg,1,visible\n",
            "path,pid,modality\na.jpg,1,visible\nb.jpg,1,infrared\n",
        )
    )
    assert plain == visible != infrared


def test_numbers_too_long_for_an_array_are_names(tmp_path: Path) -> None:
    text = f"path,pid,split\na.jpg,{9 * 10**18},query\nb.jpg,{10**20},gallery\n"
    dataset = load_dataset("csv", write_table(tmp_path, text))
    assert [s.pid for split in ("query", "gallery") for s in dataset.splits[split]] == [1, 0]


def test_csv_paths_may_be_absolute_and_unusual(tmp_path: Path) -> None:
    image = tmp_path / "elsewhere \xfc" / "x, y.jpg"
    write_images(image.parent, [image.name])
    table = write_table(tmp_path / "tables", f'path,pid\n"{image}",1\na.jpg,2\n')
    dataset = load_dataset("csv", table)
    assert dataset.train[0].path == image
    assert len(fingerprint(dataset)) == 16
