"""Readers on miniatures: labels, order, notes, and what does not disturb them."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_core.data import (
    DATASET_NAMES,
    READERS,
    Sample,
    detect_datasets,
    find_dataset,
    fingerprint,
    load_dataset,
    pid2clothes,
)
from reid_core.data.layout import SplitCount
from reid_core.data.readers import read_dataset
from reid_core.data.readers.ccvid import Tracklet, split_test, split_train
from reid_core.data.readers.counts import CountDifference
from reid_core.errors import DatasetError
from reid_core.testing.miniatures import MINIATURES, write_images, write_miniature

PUBLISHED = tuple(READERS)
# The miniature that a reader reads.
MINIATURE_OF = {name: name if name in MINIATURES else name.split("_")[0] for name in PUBLISHED}


def labels(samples: list[Sample]) -> list[tuple[str, int, int, int]]:
    return [(s.path.name, s.pid, s.camid, s.clothes_id) for s in samples]


def split_labels(name: str, root: Path, split: str) -> list[tuple[str, int, int, int]]:
    return labels(list(load_dataset(name, root).splits[split]))


def test_ltcc_labels(tmp_path: Path) -> None:
    write_miniature("ltcc", tmp_path)
    assert split_labels("ltcc", tmp_path, "train") == [
        ("001_1_c1_000001.png", 0, 0, 0),
        ("001_2_c2_000002.png", 0, 1, 1),
        ("003_1_c3_000003.png", 1, 2, 2),
    ]
    assert split_labels("ltcc", tmp_path, "query") == [
        ("010_1_c1_000004.png", 10, 0, 0),
        ("010_2_c2_000005.png", 10, 1, 1),
    ]
    assert split_labels("ltcc", tmp_path, "gallery") == [
        ("010_1_c2_000006.png", 10, 1, 0),
        ("010_2_c12_000007.png", 10, 11, 1),
        ("011_1_c1_000008.png", 11, 0, 2),
    ]


def test_outfits_sort_as_text_and_identities_as_numbers(tmp_path: Path) -> None:
    write_miniature("ltcc", tmp_path)
    train = [f"LTCC_ReID/train/{name}_c1_1.png" for name in ("9_1", "10_2", "10_10")]
    write_images(tmp_path, train)
    (tmp_path / "LTCC_ReID/train/001_1_c1_000001.png").unlink()
    (tmp_path / "LTCC_ReID/train/001_2_c2_000002.png").unlink()
    (tmp_path / "LTCC_ReID/train/003_1_c3_000003.png").unlink()
    assert split_labels("ltcc", tmp_path, "train") == [
        ("10_10_c1_1.png", 1, 0, 0),
        ("10_2_c1_1.png", 1, 0, 1),
        ("9_1_c1_1.png", 0, 0, 2),
    ]


def test_prcc_labels(tmp_path: Path) -> None:
    write_miniature("prcc", tmp_path)
    assert split_labels("prcc", tmp_path, "train") == [
        ("A_cropped_rgb001.jpg", 0, 0, 0),
        ("B_cropped_rgb002.jpg", 0, 1, 0),
        ("C_cropped_rgb003.jpg", 0, 2, 1),
        ("A_cropped_rgb001.jpg", 1, 0, 2),
        ("C_cropped_rgb002.jpg", 1, 2, 3),
    ]
    assert split_labels("prcc", tmp_path, "val") == [
        ("A_cropped_rgb004.jpg", 0, 0, 0),
        ("C_cropped_rgb005.jpg", 1, 2, 1),
    ]
    assert split_labels("prcc", tmp_path, "gallery") == [
        ("cropped_rgb001.jpg", 5, 0, 0),
        ("cropped_rgb002.jpg", 18, 0, 2),
    ]
    assert split_labels("prcc", tmp_path, "query_diff") == [
        ("cropped_rgb005.jpg", 5, 2, 1),
        ("cropped_rgb006.jpg", 18, 2, 3),
    ]


def test_last_gives_every_image_its_own_camera(tmp_path: Path) -> None:
    write_miniature("last", tmp_path)
    assert split_labels("last", tmp_path, "query") == [
        ("008001_mv005_00311.jpg", 8001, 0, 8001),
        ("008003_mv003_00166.jpg", 8003, 1, 8003),
    ]
    assert split_labels("last", tmp_path, "gallery") == [
        ("008001_mv002_00001.jpg", 8001, 2, 8001),
        ("008003_mv006_00000.jpg", 8003, 3, 8003),
    ]


def test_ltcc_gallery_may_be_called_gallery(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    expected = split_labels("ltcc", tmp_path, "gallery")
    (own / "test").rename(own / "gallery")
    assert split_labels("ltcc", tmp_path, "gallery") == expected
    assert detect_datasets(tmp_path) == ["ltcc"]
    # Where both are there, `test` is the one.
    write_images(own, ["test/012_1_c1_000009.png"])
    assert [label[1] for label in split_labels("ltcc", tmp_path, "gallery")] == [12]


def test_celeb_gives_every_image_its_own_camera_and_no_outfit(tmp_path: Path) -> None:
    write_miniature("celeb", tmp_path)
    assert split_labels("celeb", tmp_path, "train") == [
        ("10_1_0.jpg", 2, 0, -1),
        ("1_1_0.jpg", 0, 1, -1),
        ("1_2_0.jpg", 0, 2, -1),
        ("2_1_0.jpg", 1, 3, -1),
    ]
    assert split_labels("celeb", tmp_path, "query") == [
        ("1_1_0.jpg", 1, 0, -1),
        ("632_1_2.jpg", 632, 1, -1),
    ]
    assert split_labels("celeb", tmp_path, "gallery") == [
        ("1_2_0.jpg", 1, 2, -1),
        ("1_3_1.jpg", 1, 3, -1),
        ("632_2_0.jpg", 632, 4, -1),
    ]


@pytest.mark.parametrize("name", ["633_1_0.jpg", "0_1_0.jpg", "-1_1_0.jpg", "1000_1_0.jpg"])
@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_celeb_knows_632_people(split: str, name: str, tmp_path: Path) -> None:
    own = write_miniature("celeb", tmp_path)
    before = fingerprint_like(load_dataset("celeb", tmp_path))
    write_images(own, [f"{split}/{name}"])
    with pytest.raises(DatasetError, match=rf"{split}/{name} .*<person, 1 to 632>_<image>_"):
        load_dataset("celeb", tmp_path)
    assert fingerprint_like(load_dataset("celeb", tmp_path, skip_misnamed=True)) == before


def test_vc_clothes_modes_keep_their_cameras_in_test_splits_only(tmp_path: Path) -> None:
    write_miniature("vcclothes", tmp_path)
    cameras = {
        name: [
            sorted({sample.camid + 1 for sample in load_dataset(name, tmp_path).splits[split]})
            for split in ("train", "query", "gallery")
        ]
        for name in ("vcclothes", "vcclothes_sc", "vcclothes_cc")
    }
    assert cameras == {
        "vcclothes": [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]],
        "vcclothes_sc": [[1, 2, 3], [2, 3], [2, 3]],
        "vcclothes_cc": [[1, 2, 3], [3, 4], [3, 4]],
    }


def test_deepchange_keeps_list_order_and_holds_tracklets(tmp_path: Path) -> None:
    own = write_miniature("deepchange", tmp_path)
    write_images(own, ["train-set/P3_C1_S1_1.jpg"])
    dataset = load_dataset("deepchange", tmp_path)
    assert labels(list(dataset.train)) == [
        ("P2_C2_S1_7823.jpg", 1, 777, 1),
        ("P1_C1_S3_2470.jpg", 0, 1512, 0),
    ]
    assert any("train-set: 1 of 3 images are not in train-set-bbox.txt" in n for n in dataset.notes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_root_may_be_own_folder_parent_or_renamed_folder(name: str, tmp_path: Path) -> None:
    own = write_miniature(MINIATURE_OF[name], tmp_path / "data")
    renamed = tmp_path / "my copy"
    from_parent = load_dataset(name, tmp_path / "data")
    from_own = load_dataset(name, str(own))
    assert from_parent == from_own
    assert tuple(from_own.splits) == READERS[name].info.splits
    own.rename(renamed)
    moved = load_dataset(name, renamed)
    assert moved.root == renamed
    assert fingerprint_like(moved) == fingerprint_like(from_own)


def fingerprint_like(dataset) -> list[tuple[str, str, int, int, int]]:
    return [
        (split, s.path.relative_to(dataset.root).as_posix(), s.pid, s.camid, s.clothes_id)
        for split, samples in dataset.splits.items()
        for s in samples
    ]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    "parent",
    [
        "001_1_c4_x",
        "query",
        "my_code/P7_C2_S1_x",
        "0300-01-03-01.jpg",
        "with space",
        "K\xe4se \u65e5\u672c",
    ],
)
def test_parent_folders_do_not_matter(name: str, parent: str, tmp_path: Path) -> None:
    write_miniature(MINIATURE_OF[name], tmp_path / "plain")
    write_miniature(MINIATURE_OF[name], tmp_path / parent)
    expected = fingerprint_like(load_dataset(name, tmp_path / "plain"))
    assert fingerprint_like(load_dataset(name, tmp_path / parent)) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_that_are_no_images_and_hidden_files_are_ignored(name: str, tmp_path: Path) -> None:
    own = write_miniature(MINIATURE_OF[name], tmp_path)
    before = fingerprint_like(load_dataset(name, tmp_path))
    folders = {path.parent for path in own.rglob("*.*g")}
    for folder in folders:
        for stray in ("readme.txt", ".DS_Store", "._001_1_c4_x.png", "Thumbs.db"):
            (folder / stray).touch()
    (own / "info").mkdir()
    assert fingerprint_like(load_dataset(name, tmp_path)) == before


def test_other_image_suffixes_are_accepted_in_any_case(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    train = own / "train"
    (train / "001_1_c1_000001.png").rename(train / "001_1_c1_000001.JPG")
    (train / "001_2_c2_000002.png").rename(train / "001_2_c2_000002.Jpeg")
    assert [row[1:] for row in split_labels("ltcc", tmp_path, "train")] == [
        (0, 0, 0),
        (0, 1, 1),
        (1, 2, 2),
    ]


def test_own_folder_is_found_with_other_capitals(tmp_path: Path) -> None:
    write_miniature("last", tmp_path).rename(tmp_path / "LaST")
    assert load_dataset("last", tmp_path).root.name == "LaST"


@pytest.mark.parametrize(
    ("name", "validation"),
    [("prcc", "rgb/val"), ("last", "val"), ("deepchange", "val-set-query")],
)
def test_validation_split_may_be_absent(name: str, validation: str, tmp_path: Path) -> None:
    own = write_miniature(name, tmp_path)
    for path in sorted((own / validation).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (own / validation).rmdir()
    dataset = load_dataset(name, tmp_path)
    assert not [split for split in dataset.splits if split.startswith("val")]
    assert any(note.startswith("val") and "absent" in note for note in dataset.notes)


def test_counts_that_are_not_the_published_ones_are_noted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_miniature("ltcc", tmp_path)
    with caplog.at_level(logging.WARNING):
        notes = load_dataset("ltcc", tmp_path).notes
    assert "train: images 3, published 9,576 (9,573 missing)" in notes
    assert "train: identities 2, published 77 (75 missing)" in notes
    assert [record.args for record in caplog.records] == [("ltcc", note) for note in notes]


def test_difference_sentences() -> None:
    def sentence(found: int, published: int) -> str:
        return CountDifference("query", "images", found, published).sentence

    assert sentence(5, 3) == "query: images 5, published 3 (2 too many)"
    assert sentence(0, 1000) == "query: absent (published: 1,000 images)"


def test_equal_counts_give_no_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_miniature("ltcc", tmp_path)
    counts = {"train": SplitCount(2, 3, 3), "query+gallery": SplitCount(2, 5, 3)}
    monkeypatch.setattr(
        "reid_core.data.readers.compare_counts",
        lambda info, splits: _compare(counts, splits),
    )
    assert load_dataset("ltcc", tmp_path).notes == ()


def _compare(counts, splits):
    from dataclasses import replace

    from reid_core.data.readers.counts import compare_counts

    return compare_counts(replace(READERS["ltcc"].info, counts=counts), splits)


def test_synthetic_marker_is_kept_and_silences_counts(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    (own / "synthetic.json").write_text("{}")
    dataset = load_dataset("ltcc", tmp_path)
    assert dataset.synthetic
    assert dataset.notes == ()


def test_misnamed_files_can_be_left_out(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    write_images(own, ["train/copy of 001_1_c1_000001.png"])
    dataset = load_dataset("ltcc", tmp_path, skip_misnamed=True)
    assert len(dataset.train) == 3
    assert dataset.notes[-1] == "misnamed image files left out: 1"
    reading = read_dataset("ltcc", tmp_path)
    assert [path.name for path in reading.misnamed] == ["copy of 001_1_c1_000001.png"]


def test_samples_can_be_pickled(tmp_path: Path) -> None:
    write_miniature("ltcc", tmp_path)
    dataset = load_dataset("ltcc", tmp_path)
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_pid2clothes_marks_worn_outfits() -> None:
    path = Path("x.jpg")
    samples = [Sample(path, 0, 0, 2), Sample(path, 1, 0, 0), Sample(path, 1, 1, 1)]
    expected = np.array([[False, False, True], [True, True, False]])
    np.testing.assert_array_equal(pid2clothes(samples), expected)
    assert pid2clothes([Sample(path, 1, 0)]).shape == (2, 0)
    assert pid2clothes([]).shape == (0, 0)


def test_fingerprint_depends_on_files_and_labels_only(tmp_path: Path) -> None:
    first = write_miniature("ltcc", tmp_path / "a")
    second = write_miniature("ltcc", tmp_path / "b \xe9")
    digest = fingerprint(load_dataset("ltcc", first))
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert fingerprint(load_dataset("ltcc", second)) == digest
    (second / "test/010_1_c2_000006.png").write_bytes(b"x")
    changed = fingerprint(load_dataset("ltcc", second))
    assert changed != digest
    (second / "test/010_1_c2_000006.png").rename(second / "test/010_1_c3_000006.png")
    assert fingerprint(load_dataset("ltcc", second)) not in (digest, changed)


@pytest.mark.parametrize("name", [*MINIATURES])
def test_data_set_is_found_without_its_name(name: str, tmp_path: Path) -> None:
    own = write_miniature(name, tmp_path)
    assert detect_datasets(own) == [name]
    assert find_dataset(tmp_path) == name


def test_detection_wants_names_that_look_right(tmp_path: Path) -> None:
    write_images(tmp_path, [f"{split}/anna/1.jpg" for split in ("train", "query", "test")])
    assert detect_datasets(tmp_path) == ["folder"]
    write_images(tmp_path / "x", ["train/1.jpg", "query/1.jpg", "gallery/1.jpg"])
    assert detect_datasets(tmp_path / "x") == []
    (tmp_path / "table.csv").touch()
    assert detect_datasets(tmp_path / "table.csv") == ["csv"]


def test_several_data_sets_below_one_root(tmp_path: Path) -> None:
    write_miniature("ltcc", tmp_path)
    write_miniature("prcc", tmp_path)
    assert detect_datasets(tmp_path) == ["ltcc", "prcc"]


def test_reading_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, reid_core.data, reid_core.data.readers, reid_core.errors;"
        "sys.exit(bool({'torch', 'numpy', 'PIL', 'tyro'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dataset_names_cover_readers_and_custom() -> None:
    assert (*PUBLISHED, "folder", "csv") == DATASET_NAMES


def tracklet(num_frames: int) -> Tracklet:
    return Tracklet(tuple(Path(str(index)) for index in range(num_frames)), 0, 0, 0)


@pytest.mark.parametrize(
    ("num_frames", "lengths"),
    [(5, [5]), (64, [64]), (127, [127]), (128, [64, 64]), (200, [64, 64, 72])],
)
def test_training_clips_of_videos(num_frames: int, lengths: list[int]) -> None:
    pieces = split_train([tracklet(num_frames)])
    assert [len(piece.frames) for piece in pieces] == lengths
    assert sum((piece.frames for piece in pieces), ()) == tracklet(num_frames).frames


@pytest.mark.parametrize("num_frames", [1, 15, 16, 17, 40, 63, 64, 65, 150])
def test_test_clips_of_videos_show_every_frame(num_frames: int) -> None:
    video = tracklet(num_frames)
    clips, ranges = split_test([video, video])
    count = -(-num_frames // 16)
    assert ranges == [range(count), range(count, 2 * count)]
    assert {len(clip.frames) for clip in clips} == {16}
    assert {frame for clip in clips[:count] for frame in clip.frames} == set(video.frames)
    rest = num_frames % 16
    if rest:
        tail = video.frames[num_frames - rest :]
        assert clips[count - 1].frames == tuple(tail[index % rest] for index in range(16))
