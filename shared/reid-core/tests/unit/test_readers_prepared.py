"""Celeb-reID-light, the archives with faces and masks, and how data sets in one form are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reid_core.data import READERS, ReIDDataset, Sample, detect_datasets, find_dataset, load_dataset
from reid_core.data.companions import COMPANION_KINDS, companions_of, has_companions
from reid_core.data.requirements import require_trainable
from reid_core.errors import DatasetError, DatasetNotFoundError
from reid_core.evaluation.protocols.lookup import choose_protocols
from reid_core.testing.miniatures import write_images, write_miniature

ARCHIVES = ("celeb_lr_hr_mask", "celeb_light_lr_hr_mask", "prcc_lr_hr_mask")


def rows(dataset: ReIDDataset, split: str) -> list[tuple[str, int, int]]:
    return [(s.path.name, s.pid, s.camid) for s in dataset.splits[split]]


def identities(samples: list[Sample]) -> list[str]:
    return [sample.extra["identity"] for sample in samples]


def spoilt(name: str, root: Path, missing: list[str]) -> ReIDDataset:
    own = write_miniature(name, root)
    for file in missing:
        (own / file).unlink()
    return load_dataset(name, root)


class TestCelebLight:
    def test_labels(self, tmp_path: Path) -> None:
        write_miniature("celeb_light", tmp_path)
        dataset = load_dataset("celeb_light", tmp_path)
        assert rows(dataset, "train") == [
            ("10_1_0.jpg", 2, 1),
            ("1_1_0.jpg", 0, 1),
            ("1_2_0.jpg", 0, 2),
            ("2_1_0.jpg", 1, 1),
        ]
        assert rows(dataset, "query") == [("1_5_0.jpg", 1, 5), ("590_1_2.jpg", 590, 1)]
        assert rows(dataset, "gallery") == [("1_2_0.jpg", 1, 2), ("590_2_0.jpg", 590, 2)]
        assert identities(list(dataset.train)) == ["10", "1", "1", "2"]
        assert all(s.clothes_id == -1 for split in dataset.splits.values() for s in split)
        assert not any("image numbers" in note for note in dataset.notes)

    def test_published_sizes(self) -> None:
        counts = READERS["celeb_light"].info.counts
        assert {split: tuple(count)[:2] for split, count in counts.items()} == {
            "train": (490, 9021),
            "query": (100, 887),
            "gallery": (100, 934),
        }

    def test_a_shared_image_number_is_noted(self, tmp_path: Path) -> None:
        own = write_miniature("celeb_light", tmp_path)
        write_images(own, ["query/590_2_7.jpg"])
        notes = load_dataset("celeb_light", tmp_path).notes
        (note,) = (note for note in notes if "image numbers" in note)
        assert "1 queries" in note
        assert "such as 590_2_7.jpg" in note

    def test_protocols(self, tmp_path: Path) -> None:
        write_miniature("celeb_light", tmp_path)
        dataset = load_dataset("celeb_light", tmp_path)
        (standard,) = choose_protocols(dataset)
        (official,) = choose_protocols(dataset, ["official_cameras"])
        assert (standard.name, standard.match) == ("celeb_light/standard", "any_camera")
        assert (official.match, official.cameras) == ("standard", "labels")
        assert standard.citation == official.citation == READERS["celeb_light"].info.paper


@pytest.mark.parametrize(
    ("name", "labels", "missing"),
    [
        # Text order: "10" before "2"; identity 1 loses its only image, and its label with it.
        ("celeb_lr_hr_mask", {"10": 0, "2": 1}, "lr_face/bounding_box_train/1_c1_0.jpg"),
        ("celeb_light_lr_hr_mask", {"10": 0, "2": 1}, "mask/bounding_box_train/1_1_0.jpg"),
        ("prcc_lr_hr_mask", {"001": 0, "014": 1}, "hr_face/bounding_box_train/014_c1_001.jpg"),
    ],
)
def test_training_keeps_images_with_all_companions(
    name: str, labels: dict[str, int], missing: str, tmp_path: Path
) -> None:
    whole = load_dataset(name, write_miniature(name, tmp_path / "whole"))
    assert len(whole.train) == 4
    assert not any("companions" in note for note in whole.notes)
    dataset = spoilt(name, tmp_path / "spoilt", [missing])
    assert len(dataset.train) == 3
    assert all(has_companions(sample) for sample in dataset.train)
    assert {s.extra["identity"]: s.pid for s in dataset.train} == labels
    (note,) = (note for note in dataset.notes if "companions" in note)
    kind = missing.partition("/")[0]
    assert "3 of 4 images" in note
    assert f"{kind} of 1" in note
    assert f"lost with them: {whole.num_pids - dataset.num_pids})" in note


@pytest.mark.parametrize("name", ARCHIVES)
def test_test_images_are_never_left_out(name: str, tmp_path: Path) -> None:
    whole = load_dataset(name, write_miniature(name, tmp_path / "whole"))
    own = write_miniature(name, tmp_path / "bare")
    for kind in ("hr_face", "mask"):
        shutil.rmtree(own / kind)
    dataset = load_dataset(name, own)
    # Nobody needs masks and restored faces for evaluation.
    assert set(dataset.splits) == set(whole.splits) - {"train"}
    for split, samples in dataset.splits.items():
        assert rows(dataset, split) == rows(whole, split)
        assert all(set(companions_of(sample)) == {"lr_face"} for sample in samples)
    with pytest.raises(DatasetError, match="has no training images"):
        require_trainable(dataset)
    assert choose_protocols(dataset)


def test_png_companions_go_before_jpeg(tmp_path: Path) -> None:
    own = write_miniature("celeb_lr_hr_mask", tmp_path)
    write_images(own, ["mask/query/1_c5_0.png"])
    first, second = load_dataset("celeb_lr_hr_mask", own).splits["query"]
    assert first.extra["mask"] == own / "mask/query/1_c5_0.png"
    assert second.extra["mask"] == own / "mask/query/7_c2_0.jpg"


def test_prcc_archive_has_the_outfits_and_protocols_of_prcc(tmp_path: Path) -> None:
    own = write_miniature("prcc_lr_hr_mask", tmp_path)
    dataset = load_dataset("prcc_lr_hr_mask", own)
    outfits = {
        split: [(s.pid, s.camid, s.clothes_id) for s in samples]
        for split, samples in dataset.splits.items()
    }
    assert outfits == {
        "train": [(0, 0, 0), (0, 2, 1), (1, 0, 2), (1, 1, 2)],
        "query_same": [(3, 1, 0), (21, 1, 2)],
        "query_diff": [(3, 2, 1), (21, 2, 3)],
        "gallery": [(3, 0, 0), (21, 0, 2)],
    }
    (chosen,) = choose_protocols(dataset)
    assert chosen.name == "prcc_lr_hr_mask/cloth_changing"
    assert choose_protocols(dataset, ["same_clothes"])
    for kind in ("imgs", *COMPANION_KINDS):
        shutil.rmtree(own / kind / "query_same")
    assert set(load_dataset("prcc_lr_hr_mask", own).splits) == {"train", "query_diff", "gallery"}


def test_a_camera_that_prcc_does_not_have_is_a_misnamed_file(tmp_path: Path) -> None:
    own = write_miniature("prcc_lr_hr_mask", tmp_path)
    write_images(own, ["imgs/query/003_c4_001.jpg"])
    with pytest.raises(DatasetError, match=r"query/003_c4_001\.jpg .*camera, 1 to 3"):
        load_dataset("prcc_lr_hr_mask", own)


def test_an_archive_without_images_is_explained(tmp_path: Path) -> None:
    own = write_miniature("celeb_lr_hr_mask", tmp_path)
    shutil.rmtree(own / "imgs" / "query")
    with pytest.raises(DatasetNotFoundError) as caught:
        load_dataset("celeb_lr_hr_mask", tmp_path)
    for part in ("it lacks imgs/query", "deskpro-prepare --official-layout", "lr_face/"):
        assert part in str(caught.value)


class TestRecognition:
    """Celeb-reID and its light version are in one form, as are the archives of two data sets."""

    @pytest.mark.parametrize("name", ["celeb", "celeb_light", *ARCHIVES])
    def test_by_the_name_of_the_folder(self, name: str, tmp_path: Path) -> None:
        own = write_miniature(name, tmp_path)
        assert detect_datasets(tmp_path) == [name]
        assert find_dataset(own) == name

    def test_both_versions_in_one_folder(self, tmp_path: Path) -> None:
        for name in ("celeb", "celeb_light"):
            write_miniature(name, tmp_path)
        assert detect_datasets(tmp_path) == ["celeb", "celeb_light"]
        for name in ("celeb", "celeb_light"):
            assert load_dataset(name, tmp_path).root.name == READERS[name].info.folder

    @pytest.mark.parametrize(
        ("name", "first", "num_images"),
        [("celeb_light", "celeb", 900), ("prcc_lr_hr_mask", "celeb_lr_hr_mask", 3300)],
    )
    def test_by_the_size_of_the_gallery(
        self, name: str, first: str, num_images: int, tmp_path: Path
    ) -> None:
        own = write_miniature(first, tmp_path).rename(tmp_path / "my copy")
        assert find_dataset(own) == first
        gallery = own / READERS[name].info.required[-1]
        write_images(gallery, (f"1_c1_{number}.jpg" for number in range(num_images)))
        assert find_dataset(own) == name

    @pytest.mark.parametrize(
        ("miniature", "layout", "found"),
        [
            ("celeb", "celeb_light", "celeb_light"),
            ("celeb_light", "celeb", "celeb"),
            ("celeb_lr_hr_mask", "prcc", "prcc_lr_hr_mask"),
            ("celeb", "atlantis", "celeb"),
        ],
    )
    def test_by_the_marker_of_generated_images(
        self, miniature: str, layout: str, found: str, tmp_path: Path
    ) -> None:
        own = write_miniature(miniature, tmp_path)
        (own / "synthetic.json").write_text(json.dumps({"layout": layout}))
        assert find_dataset(own) == found

    @pytest.mark.parametrize("text", ["[]", "{", '{"layout": 3}'])
    def test_a_damaged_marker_says_nothing(self, text: str, tmp_path: Path) -> None:
        own = write_miniature("celeb_light", tmp_path)
        (own / "synthetic.json").write_text(text)
        assert find_dataset(own) == "celeb_light"

    @pytest.mark.parametrize(
        ("wanted", "there", "hint"),
        [
            ("celeb_light", "celeb", "What lies there looks like celeb:"),
            ("celeb", "celeb_light", "What lies there looks like celeb_light:"),
            ("prcc", "prcc_lr_hr_mask", "What lies there looks like prcc_lr_hr_mask:"),
        ],
    )
    def test_the_other_one_is_named_where_it_is_there_instead(
        self, wanted: str, there: str, hint: str, tmp_path: Path
    ) -> None:
        write_miniature(there, tmp_path)
        with pytest.raises(DatasetNotFoundError) as caught:
            load_dataset(wanted, tmp_path)
        assert hint in str(caught.value)
        assert "one level too high" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("celeb", lambda own: own.name.partition("_")[0]),
        ("celeb_light", lambda own: own.name.partition("_")[0]),
        ("prcc", lambda own: own.parent.name),
        ("prcc_lr_hr_mask", lambda own: own.name.partition("_")[0]),
    ],
)
def test_identities_stand_as_in_the_names(
    name: str, expected: Callable[[Path], str], tmp_path: Path
) -> None:
    own = write_miniature(name, tmp_path)
    if name.startswith("celeb"):
        write_images(own, ["train/007_1_0.jpg"])
    train = load_dataset(name, tmp_path).train
    assert identities(list(train)) == [expected(sample.path) for sample in train]
