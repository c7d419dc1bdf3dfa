"""Synthetic data sets: labels, layouts, masks and sizes."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.data.readers import load_dataset
from reid_core.data.synthetic import LAYOUTS, SIZES, Part, synthesize
from reid_core.data.synthetic.files import Job
from reid_core.errors import ConfigError

TINY = SIZES["tiny"]
NAMES = {
    "ltcc": r"(train|query|test)/\d{3}_\d+_c\d+_\d{6}\.png",
    "prcc": r"rgb/((train|val)/\d{3}/[ABC]_cropped_rgb\d{3}"
    r"|test/[ABC]/\d{3}/cropped_rgb\d{3})\.jpg",
    "last": r"(train/(\d{6})/\2_mv\d{3}_\d{5}_\d{2}|(val|test)/query/\d{6}_mv\d{3}_\d{5}"
    r"|(val|test)/gallery/(\d{6})/\5_mv\d{3}_\d{5})\.jpg",
    "celeb": r"(train|query|gallery)/[1-9]\d*_[1-9]\d*_0\.jpg",
    "celeb_light": r"(train|query|gallery)/[1-9]\d*_[1-9]\d*_0\.jpg",
    "sysu": r"cam[1-6]/\d{4}/\d{4}\.jpg",
    "regdb": r"(Visible/(\d+)/\w+_v_\d{5}_\2|Thermal/(\d+)/\w+_t_\d{5}_\3)\.bmp",
    "market1501": r"(bounding_box_(train|test)|query)/(-1|\d{4})_c[1-6]s1_\d{6}_01\.jpg",
    "dukemtmc": r"(bounding_box_(train|test)|query)/\d{4}_c[1-8]_f\d{7}\.jpg",
    "msmt17": r"mask_(train|test)_v2/(\d{4})/\2_\d{3}_(0[1-9]|1[0-5])_0303[a-z]+_\d{5}_0\.jpg",
    "llcm": r"(vis|nir|test_(vis|nir)/cam[1-9])/(\d{4})/\3_c0[1-9]_s\d+_f\d+_(vis|nir)\.jpg",
}
# Layouts whose reader finds no cameras, and those where it finds outfits in no or few splits.
NO_CAMERAS = ("last", "celeb", "celeb_light")
NO_OUTFITS = ("celeb", "celeb_light", "sysu", "llcm", "market1501", "dukemtmc", "msmt17")
OUTFITS = {"last": ("train",), **dict.fromkeys(NO_OUTFITS, ())}
# What readers leave out: Market-1501's junk, the second list of MSMT17's training images.
NOT_READ = {"market1501": {"junk"}, "msmt17": {"val"}}
# One split for training and one for each of query and gallery; everybody changes clothes.
BY_DAYLIGHT = ("ltcc", "prcc", "last", "celeb", "celeb_light")
# Everybody is in some training and in some test split, so that the images belong to none.
ONE_DIVISION = [layout for layout in LAYOUTS if layout != "regdb"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with all layouts, masks included."""
    folder = tmp_path_factory.mktemp("synthetic")
    for layout in LAYOUTS:
        synthesize(layout, folder, size="tiny", write_masks=True)
    return folder


def own_folder(root, layout):
    return root / Job(layout, 1, TINY, write_masks=False).layout.folder


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def read_labels(folder):
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestLabels:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_names_are_those_of_the_authors(self, root, layout):
        labels = read_labels(own_folder(root, layout))
        assert labels
        for label in labels:
            assert re.fullmatch(NAMES[layout], label["path"]), label["path"]
            assert (own_folder(root, layout) / label["path"]).is_file()

    @pytest.mark.parametrize("layout", ONE_DIVISION)
    def test_the_reader_finds_what_was_written(self, root, layout):
        folder = own_folder(root, layout)
        marker = json.loads((folder / "synthetic.json").read_text(encoding="utf-8"))
        dataset = load_dataset(layout, root)
        assert dataset.synthetic
        labels = {folder / label["path"]: label for label in read_labels(folder)}
        assert set(marker["counts"]) - NOT_READ.get(layout, set()) == set(dataset.splits)
        for split, samples in dataset.splits.items():
            count = marker["counts"][split]
            assert len(samples) == count["images"]
            assert len({sample.pid for sample in samples}) == count["pids"]
            mine = [labels[sample.path] for sample in samples]
            assert {label["split"] for label in mine} == {split}
            if layout not in NO_CAMERAS:
                assert [sample.camid for sample in samples] == [int(x["camera"]) for x in mine]
            if split in OUTFITS.get(layout, dataset.splits):
                outfits = {(label["pid"], label["outfit"]) for label in mine}
                pairs = {
                    (sample.clothes_id, label["pid"], label["outfit"])
                    for sample, label in zip(samples, mine, strict=True)
                }
                assert len(pairs) == len(outfits) == len({s.clothes_id for s in samples})
            if split != "train" and (layout, split) != ("prcc", "val"):
                assert [sample.pid for sample in samples] == [int(label["pid"]) for label in mine]

    @pytest.mark.parametrize("layout", BY_DAYLIGHT)
    def test_test_people_are_strangers(self, layout):
        shots = Job(layout, 1, SIZES["demo"], write_masks=False).shots()
        people = {}
        for shot in shots:
            people.setdefault(shot.split, set()).add(shot.person)
        queries = set().union(*(people[split] for split in people if split.startswith("query")))
        assert not people["train"] & queries
        assert queries == people["gallery"]
        assert len({shot.path for shot in shots}) == len(shots)
        assert len({(shot.person, shot.take) for shot in shots}) == len(shots)

    def test_ltcc_has_people_who_never_change(self):
        shots = Job("ltcc", 1, SIZES["demo"], write_masks=False).shots()
        outfits = {}
        for shot in shots:
            if shot.split == "gallery":
                outfits.setdefault(shot.pid, set()).add(shot.outfit)
        numbers = [len(worn) for worn in outfits.values()]
        assert 0 < numbers.count(1) < 0.3 * len(numbers)
        assert max(numbers) == 4

    def test_ltcc_queries_have_changed_clothes_before_another_camera(self):
        shots = Job("ltcc", 1, SIZES["demo"], write_masks=False).shots()
        gallery = [shot for shot in shots if shot.split == "gallery"]
        queries = [shot for shot in shots if shot.split == "query"]
        valid = [
            query
            for query in queries
            if any(
                other.pid == query.pid
                and other.outfit != query.outfit
                and other.camera != query.camera
                for other in gallery
            )
        ]
        assert len(valid) > 0.85 * len(queries)

    def test_prcc_changes_clothes_before_camera_c(self):
        for shot in Job("prcc", 1, TINY, write_masks=False).shots():
            assert shot.outfit == (1 if shot.camera == 2 else 0)

    @pytest.mark.parametrize("layout", ["last", "celeb", "celeb_light"])
    def test_queries_wear_what_the_gallery_lacks(self, layout):
        shots = Job(layout, 1, SIZES["demo"], write_masks=False).shots()
        seen = {(shot.pid, shot.outfit) for shot in shots if shot.split == "gallery"}
        queries = {(shot.pid, shot.outfit) for shot in shots if shot.split == "query"}
        assert queries
        assert not queries & seen

    def test_celeb_numbers_training_and_test_people_alike(self, root):
        job = Job("celeb", 1, TINY, write_masks=False)
        people = {}
        for shot in job.shots():
            people.setdefault(shot.pid, {}).setdefault(shot.split, set()).add(shot.person)
        assert {len(who) for splits in people.values() for who in splits.values()} == {1}
        both = [splits for splits in people.values() if len(splits) == 3]
        assert len(both) == TINY.test_pids
        world = job.world()
        for splits in both:
            assert splits["query"] == splits["gallery"]
            heights = {world.person(*splits[split]).height for split in ("train", "query")}
            assert len(heights) == 2

    def test_celeb_clothes_change_from_image_to_image(self):
        last = {}
        for shot in Job("celeb", 1, SIZES["demo"], write_masks=False).shots():
            if shot.split == "train":
                assert last.get(shot.pid) != shot.outfit
                last[shot.pid] = shot.outfit

    def test_celeb_images_have_one_size_with_height_twice_the_width(self, root):
        shapes = {load(path).shape for path in (own_folder(root, "celeb") / "train").iterdir()}
        assert shapes == {(TINY.height, TINY.height // 2, 3)}

    def test_celeb_names_have_an_end(self):
        with pytest.raises(ConfigError, match=r"633 people in one split do not fit .* to 632"):
            Job("celeb", 1, replace(TINY, train_pids=633), write_masks=False).shots()

    def test_looks_are_shared_between_people_and_never_worn_twice(self):
        job = Job("ltcc", 1, SIZES["demo"], write_masks=False)
        world = job.world()
        looks = {
            (shot.pid, shot.outfit): world.outfit(shot.pid, shot.outfit, is_shared=shot.is_shared)
            for shot in job.shots()
            if shot.split == "train"
        }
        wearers, wardrobe = {}, {}
        for (pid, _), worn in looks.items():
            wearers.setdefault(worn.appearance, []).append((pid, worn.outfit))
            wardrobe.setdefault(pid, []).append(worn.appearance)
        assert all(len(set(worn)) == len(worn) for worn in wardrobe.values())
        shared = [people for name, people in wearers.items() if name.startswith("shop")]
        assert sum(map(len, shared)) > 0.8 * len(looks)
        assert np.mean([len(people) for people in shared]) > 5
        for people in shared:
            assert len({outfit for _, outfit in people}) == 1


class TestMasks:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_masks_and_faces_mirror_the_images(self, root, layout):
        folder = own_folder(root, layout)
        labels = read_labels(folder)
        stems = {Path(label["path"]).with_suffix("").as_posix() for label in labels}
        masks = {
            path.relative_to(folder / "masks").with_suffix("").as_posix()
            for path in (folder / "masks").rglob("*.png")
        }
        assert masks == stems
        for label in labels[::9]:
            image = load(folder / label["path"])
            mask = load((folder / "masks" / label["path"]).with_suffix(".png"))
            assert mask.shape == image.shape[:2]
            assert set(np.unique(mask)) <= {part.value for part in Part}

    def test_face_crops_are_the_boxes_of_the_labels(self, root):
        folder = own_folder(root, "ltcc")
        visible = 0
        for label in read_labels(folder):
            path = folder / "faces" / label["path"]
            assert path.is_file() == bool(label["face_left"])
            if path.is_file():
                visible += 1
                sides = ("left", "top", "right", "bottom")
                box = [int(label[f"face_{side}"]) for side in sides]
                left, top, right, bottom = box
                crop = load(folder / label["path"])[top:bottom, left:right]
                assert np.array_equal(crop, load(path))
        assert visible > 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes_are_what_they_promise(layout):
    counts = {
        size: [shot.split for shot in Job(layout, 1, SIZES[size], write_masks=False).shots()]
        for size in SIZES
    }
    assert len(counts["tiny"]) < 200
    if layout in ONE_DIVISION:
        assert 900 <= counts["demo"].count("train") <= 1500
    assert len(counts["demo"]) < 2500
    assert 4000 < len(counts["full"]) < 12000


def test_demo_test_set_has_its_size():
    splits = [shot.split for shot in Job("ltcc", 1, SIZES["demo"], write_masks=False).shots()]
    assert 80 <= splits.count("query") <= 130
    assert 400 <= splits.count("gallery") <= 600
