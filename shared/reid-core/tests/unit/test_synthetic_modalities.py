"""Synthetic data sets of two modalities: their layouts, and what helps to match across them."""

from __future__ import annotations

import csv
import hashlib
import zlib
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from reid_core.data.readers import load_dataset
from reid_core.data.synthetic import SIZES, synthesize
from reid_core.data.synthetic.files import Job
from reid_core.evaluation import PROTOCOLS, Labels, Permutations, plan_searches

TINY = SIZES["tiny"]
SMALL = replace(
    TINY, train_pids=2, val_pids=1, test_pids=2, train_images=1, gallery_images=1, height=32
)
CROSS_MODAL = ("sysu", "regdb", "llcm")


def job_of(layout, size="tiny"):
    return Job(layout, 1, SIZES[size] if isinstance(size, str) else size, write_masks=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the three layouts."""
    folder = tmp_path_factory.mktemp("synthetic")
    for layout in CROSS_MODAL:
        synthesize(layout, folder, size="tiny")
    return folder


def own_folder(root, layout):
    return root / job_of(layout).layout.folder


def read_labels(folder):
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestFiles:
    @pytest.mark.parametrize("layout", CROSS_MODAL)
    def test_the_seed_decides_every_byte(self, layout, tmp_path):
        first, again, other = (
            files_of(synthesize(layout, tmp_path / name, size=SMALL, seed=seed))
            for name, seed in (("first", 1), ("again", 1), ("other", 2))
        )
        assert first == again
        images = [name for name in first if name.endswith((".jpg", ".bmp"))]
        assert {first[name] for name in images}.isdisjoint(other.values())

    @pytest.mark.parametrize("layout", CROSS_MODAL)
    def test_a_lost_list_is_made_again(self, layout, tmp_path, caplog):
        folder = synthesize(layout, tmp_path, size=SMALL)
        before = files_of(folder)
        lost = next(iter(job_of(layout, SMALL).lists(job_of(layout, SMALL).shots())))
        (folder / lost).unlink()
        synthesize(layout, tmp_path, size=SMALL)
        assert f"lost 1 of its files, such as {lost}" in caplog.text
        assert files_of(folder) == before

    @pytest.mark.parametrize("layout", CROSS_MODAL)
    def test_the_labels_tell_what_each_image_was_seen_by(self, layout, root):
        folder = own_folder(root, layout)
        spectra = defaultdict(set)
        for label in read_labels(folder):
            with Image.open(folder / label["path"]) as image:
                pixels = np.asarray(image.convert("RGB")).astype(int)
            colourful = np.ptp(pixels, axis=2).mean() > 3
            assert colourful == (label["spectrum"] == "visible"), label["path"]
            spectra[label["spectrum"]].add(label["path"])
        night = "thermal" if layout == "regdb" else "infrared"
        assert set(spectra) == {"visible", night}

    def test_by_daylight_alone_there_is_nothing_to_tell(self, tmp_path):
        assert "spectrum" not in read_labels(synthesize("ltcc", tmp_path, size=SMALL))[0]


class TestReading:
    @pytest.mark.parametrize("layout", CROSS_MODAL)
    def test_modalities_are_those_of_the_labels_and_balanced(self, layout, root):
        folder = own_folder(root, layout)
        labels = {folder / label["path"]: label for label in read_labels(folder)}
        for name, samples in load_dataset(layout, root).splits.items():
            counts = Counter()
            people = defaultdict(set)
            for sample in samples:
                label = labels[sample.path]
                night = "thermal" if layout == "regdb" else "infrared"
                spectrum = "visible" if sample.modality == "visible" else night
                assert label["spectrum"] == spectrum
                assert sample.camid == int(label["camera"])
                counts[sample.modality] += 1
                people[sample.pid].add(sample.modality)
            assert all(len(modalities) == 2 for modalities in people.values()), name
            assert 0.5 < counts["infrared"] / counts["visible"] <= 1.0

    @pytest.mark.parametrize("layout", CROSS_MODAL)
    def test_people_wear_the_same_in_all_images(self, layout, root):
        worn = defaultdict(set)
        for label in read_labels(own_folder(root, layout)):
            worn[label["pid"]].add(label["appearance"])
        assert len(worn) > 10
        assert {len(looks) for looks in worn.values()} == {1}

    @pytest.mark.parametrize("layout", CROSS_MODAL)
    def test_test_people_are_strangers(self, layout, root):
        folder = own_folder(root, layout)
        pids = {folder / label["path"]: label["pid"] for label in read_labels(folder)}
        splits = load_dataset(layout, root).splits
        for name in splits:
            if name.startswith("train"):
                train, test = (
                    {pids[sample.path] for sample in splits[split]}
                    for split in (name, name.replace("train", "test"))
                )
                assert train
                assert test
                assert not train & test


class TestSYSU:
    def test_some_test_people_were_never_seen_indoors_by_day(self):
        for size in SIZES:
            seen = defaultdict(set)
            for shot in job_of("sysu", size).shots():
                if shot.split == "test":
                    seen[shot.pid].add(shot.camera)
            assert {frozenset(cameras) for cameras in seen.values()} == {
                frozenset({0, 1, 2, 3, 4, 5}),
                frozenset({2, 3, 4, 5}),
            }

    def test_lists_are_one_line_each_and_name_everybody(self, root):
        folder = own_folder(root, "sysu")
        listed = []
        for name in ("train", "val", "test"):
            (line,) = (folder / "exp" / f"{name}_id.txt").read_text().splitlines()
            listed.append([int(pid) for pid in line.split(",")])
        assert list(map(len, listed)) == [TINY.train_pids, TINY.val_pids, TINY.test_pids]
        assert sorted(pid for pids in listed for pid in pids) == sorted(
            {s.pid for s in job_of("sysu").shots()}
        )

    def test_the_official_draws_find_their_table(self, root):
        folder = own_folder(root, "sysu")
        table = Permutations.read(folder / "exp" / "rand_perm_cam.mat")
        counts = Counter((shot.camera, shot.pid) for shot in job_of("sysu").shots())
        assert {key: orders.shape for key, orders in table.cells.items()} == {
            key: (10, count) for key, count in counts.items()
        }
        labels = Labels.of(load_dataset("sysu", root).splits["test"])
        for name in ("all_search_official", "indoor_search_multi_shot_official"):
            drawn = [
                plan_searches(PROTOCOLS[f"sysu/{name}"], labels, labels, trial, table)
                for trial in range(10)
            ]
            galleries = {np.concatenate([s.gallery for s in plan]).tobytes() for plan in drawn}
            # Ten images per folder are all that there are.
            assert len(galleries) == (1 if "multi" in name else 10)

    def test_the_table_carries_no_time(self, root):
        content = (own_folder(root, "sysu") / "exp" / "rand_perm_cam.mat").read_bytes()
        assert content[:116] == b"MATLAB 5.0 MAT-file".ljust(116)

    def test_cameras_2_and_3_look_at_one_room(self):
        world = job_of("sysu").world()
        kinds = ["infrared" if camera in (2, 5) else "visible" for camera in range(6)]
        views = [world.camera(camera, kind) for camera, kind in enumerate(kinds)]
        places = [(view.place, view.seed, view.pitch) for view in views]
        assert places[1] == places[2]
        assert len(set(places)) == 5


class TestRegDB:
    @pytest.mark.parametrize(("size", "trials"), [("tiny", 2), ("demo", 10), ("full", 10)])
    def test_each_trial_divides_the_people_anew(self, size, trials):
        job = job_of("regdb", size)
        lists = job.lists(job.shots())
        assert len(lists) == 4 * trials
        divisions = set()
        for trial in range(1, trials + 1):
            people = {}
            for split in ("train", "test"):
                for kind in ("visible", "thermal"):
                    lines = lists[f"idx/{split}_{kind}_{trial}.txt"].decode().splitlines()
                    pairs = {(line.split("/")[1], int(line.split(" ")[1])) for line in lines}
                    assert len({label for _, label in pairs}) == len(pairs)
                    assert {label for _, label in pairs} == set(range(len(pairs)))
                    assert people.setdefault(split, pairs) == pairs
            train, test = ({pid for pid, _ in people[split]} for split in ("train", "test"))
            assert (len(train), len(test)) == (job.spec.train_pids, job.spec.test_pids)
            assert not train & test
            divisions.add(frozenset(test))
        assert len(divisions) == trials

    def test_both_cameras_look_the_same_way(self):
        world = job_of("regdb").world()
        visible, thermal = world.camera(0), world.camera(1, "thermal")
        for name in ("place", "seed", "pitch", "heading"):
            assert getattr(visible, name) == getattr(thermal, name)

    def test_images_have_one_size(self, root):
        sizes = set()
        for path in own_folder(root, "regdb").rglob("*.bmp"):
            with Image.open(path) as image:
                sizes.add((image.format, image.size))
        assert sizes == {("BMP", (TINY.height // 2, TINY.height))}


class TestLLCM:
    def test_each_camera_but_the_third_takes_both_kinds(self):
        kinds = defaultdict(set)
        for shot in job_of("llcm", "demo").shots():
            kinds[shot.camera].add(shot.spectrum)
        assert kinds.pop(2) == {"visible"}
        assert kinds == {camera: {"visible", "infrared"} for camera in (0, 1, 3, 4, 5, 6, 7, 8)}

    @pytest.mark.parametrize("size", SIZES)
    def test_every_query_has_a_match_before_another_camera(self, size):
        cameras = defaultdict(set)
        for shot in job_of("llcm", size).shots():
            cameras[shot.person, shot.spectrum].add(shot.camera)
        for person, spectrum in cameras:
            other = "infrared" if spectrum == "visible" else "visible"
            assert len(cameras[person, other]) >= 2

    def test_day_and_night_of_a_camera_are_one_view_in_low_light(self):
        world = job_of("llcm").world()
        for number in range(9):
            day, night = world.camera(number), world.camera(number, "infrared")
            assert (day.place, day.seed, day.pitch) == (night.place, night.seed, night.pitch)
            assert max(day.gain) < 0.75 < min(night.gain)

    def test_lists_hold_all_images(self, root):
        folder = own_folder(root, "llcm")
        for split in ("train", "test"):
            for kind, spectrum in (("vis", "visible"), ("nir", "infrared")):
                lines = (folder / "idx" / f"{split}_{kind}.txt").read_text().splitlines()
                assert [line.split(" ")[0] for line in lines] == [
                    shot.path
                    for shot in job_of("llcm").shots()
                    if (shot.split, shot.spectrum) == (split, spectrum)
                ]


def colours(rendered):
    """Counts of 64 colours in each third of the image."""
    small = np.asarray(Image.fromarray(rendered.image).resize((32, 66))) // 64
    codes = small @ np.array([16, 4, 1], np.int64)
    thirds = [np.bincount(third.ravel(), minlength=64) for third in np.split(codes, 3)]
    return np.sqrt(np.concatenate(thirds))


def shape(rendered):
    """Where the person is in the image."""
    mask = Image.fromarray(np.uint8(255) * (rendered.mask > 0))
    return np.asarray(mask.resize((12, 24), Image.Resampling.BOX), np.float64).ravel()


def untrained(images):
    """Features of a network with random weights."""
    torch.manual_seed(0)
    network = resnet18()
    network.fc = torch.nn.Identity()
    batch = [np.asarray(Image.fromarray(image.image).resize((32, 64))) for image in images]
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255 - 0.45
        return network.eval()(4 * pixels).numpy()


def matching_power(features, people, infrared):
    """Chance that a match across modalities scores higher than a stranger; 0.5 is none."""
    features = np.array(features, np.float64)
    for side in (infrared, ~infrared):  # else the modality is what differs most
        features[side] -= features[side].mean(axis=0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    scores = features[infrared] @ features[~infrared].T
    same = people[infrared][:, None] == people[~infrared][None, :]
    matches, strangers = scores[same], np.sort(scores[~same])
    return float(np.searchsorted(strangers, matches).mean() / len(strangers))


@pytest.mark.parametrize("layout", CROSS_MODAL)
def test_body_shape_helps_across_modalities_and_colours_and_random_networks_do_not(layout):
    job = job_of(layout, "demo")
    world = job.world()
    chosen = defaultdict(list)
    for shot in job.shots():
        if shot.person < 40:
            chosen[shot.person, shot.spectrum != "visible"].append(shot)
    keys = [key for key, shots in chosen.items() for _ in shots[::4][:2]]
    images = [
        world.photograph(shot, 48, fixed_aspect=0.5)
        for shots in chosen.values()
        for shot in shots[::4][:2]
    ]
    people, infrared = (np.array(column) for column in zip(*keys, strict=True))
    power = {
        "colours": matching_power([colours(image) for image in images], people, infrared),
        "untrained": matching_power(untrained(images), people, infrared),
        "shape": matching_power([shape(image) for image in images], people, infrared),
    }
    assert abs(power["colours"] - 0.5) < 0.1, power
    assert abs(power["untrained"] - 0.5) < 0.1, power
    assert power["shape"] > 0.63, power


# Tiny ones of seed 1: a checksum of the plan, and mean levels of three bands of an image.
PINNED = {
    "ltcc": (3423072893, (131.8, 125.5, 126.3)),
    "prcc": (2052574527, (144.2, 125.8, 112.8)),
    "last": (3050623835, (130.1, 118.2, 152.0)),
    "celeb": (764051368, (172.3, 157.9, 152.6)),
}


@pytest.mark.parametrize("layout", PINNED)
def test_layouts_by_daylight_are_what_they_were(layout):
    job = job_of(layout)
    shots = job.shots()
    plan = "\n".join(
        f"{s.path} {s.split} {s.pid} {s.person} {s.outfit} {s.is_shared:d} {s.camera} {s.take}"
        for s in shots
    )
    rendered = job.world().photograph(shots[5], 64, fixed_aspect=job.layout.fixed_aspect)
    levels = [rendered.image[top : top + 16].mean() for top in range(0, 48, 16)]
    checksum, expected = PINNED[layout]
    assert zlib.crc32(plan.encode()) == checksum
    assert levels == pytest.approx(expected, abs=0.3)
