"""Synthetic Market-1501, DukeMTMC-reID and MSMT17: the same clothes before unlike cameras."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from reid_core.data.readers import load_dataset
from reid_core.data.synthetic import SIZES, Part, synthesize
from reid_core.data.synthetic.files import Job
from reid_core.data.synthetic.scene import Style, draw_camera, styled

TINY = SIZES["tiny"]
SMALL = replace(
    TINY, train_pids=2, val_pids=1, test_pids=2, train_images=1, gallery_images=1, height=32
)
CROSS_CAMERA = ("market1501", "dukemtmc", "msmt17")
MOST_CAMERAS = {"market1501": 6, "dukemtmc": 8, "msmt17": 15}


def job_of(layout, size="tiny"):
    return Job(layout, 1, SIZES[size] if isinstance(size, str) else size, write_masks=False)


def own_folder(root, layout):
    return root / job_of(layout).layout.folder


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with two layouts, masks included where there is junk."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize("market1501", folder, size="tiny", write_masks=True)
    synthesize("msmt17", folder, size="tiny")
    return folder


@pytest.mark.parametrize("layout", CROSS_CAMERA)
def test_the_seed_decides_every_byte(layout, tmp_path):
    first, again, other = (
        files_of(synthesize(layout, tmp_path / name, size=SMALL, seed=seed))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again
    images = [name for name in first if name.endswith(".jpg")]
    assert {first[name] for name in images}.isdisjoint(other.values())


@pytest.mark.parametrize("size", [*SIZES, "small"])
@pytest.mark.parametrize("layout", CROSS_CAMERA)
class TestPlan:
    @pytest.fixture
    def spec(self, size):
        return SMALL if size == "small" else SIZES[size]

    @pytest.fixture
    def splits(self, layout, spec):
        found = defaultdict(list)
        for shot in job_of(layout, spec).shots():
            found[shot.split].append(shot)
        return found

    def test_each_camera_has_enough_training_images(self, layout, spec, splits):
        counts = Counter(shot.camera for shot in splits["train"])
        assert min(counts.values()) >= 8
        if spec is not SMALL:
            assert len(counts) == min(spec.cameras, MOST_CAMERAS[layout])
            assert max(counts.values()) < 2 * min(counts.values())

    def test_people_pass_several_cameras_in_one_outfit(self, layout, spec, splits):
        for split in ("train", "query"):
            passed = defaultdict(set)
            for shot in splits[split]:
                passed[shot.person].add(shot.camera)
                assert shot.outfit == 0
            assert len(passed) == (spec.train_pids if split == "train" else spec.test_pids)
            assert min(map(len, passed.values())) >= 2
            assert max(map(len, passed.values())) <= 6

    def test_each_query_has_matches_before_both_kinds_of_cameras(self, layout, spec, splits):
        queries = Counter((shot.pid, shot.camera) for shot in splits["query"])
        assert set(queries.values()) == {1}
        gallery = defaultdict(set)
        for shot in splits["gallery"]:
            gallery[shot.pid].add(shot.camera)
        for pid, camera in queries:
            assert camera in gallery[pid]
            assert gallery[pid] - {camera}

    def test_test_people_are_strangers(self, layout, spec, splits):
        people = {split: {shot.person for shot in shots} for split, shots in splits.items()}
        assert not people["train"] & (people["query"] | people["gallery"])
        shots = [shot for split in splits.values() for shot in split]
        assert len({(shot.person, shot.take) for shot in shots}) == len(shots)
        assert len({shot.path for shot in shots}) == len(shots)


def test_market_has_distractors_and_junk():
    shots = job_of("market1501", "demo").shots()
    junk = [shot for shot in shots if shot.split == "junk"]
    distractors = [shot for shot in shots if shot.split == "gallery" and shot.pid == 0]
    queries = {shot.person for shot in shots if shot.split == "query"}
    assert {shot.pid for shot in junk} == {-1}
    assert {shot.person for shot in junk} <= queries
    assert len(junk) > 20
    assert not {shot.person for shot in distractors} & queries
    assert len(distractors) == 2 * (SIZES["demo"].test_pids // 3)
    assert [shot for shot in shots if shot.is_misframed] == junk


def test_duke_has_distractors_with_numbers_of_their_own():
    shots = job_of("dukemtmc", "demo").shots()
    pids = {split: {s.pid for s in shots if s.split == split} for split in ("query", "gallery")}
    strangers = pids["gallery"] - pids["query"]
    assert len(strangers) == SIZES["demo"].test_pids // 3
    cameras = defaultdict(set)
    for shot in shots:
        if shot.pid in strangers:
            cameras[shot.pid].add(shot.camera)
    assert {len(seen) for seen in cameras.values()} == {1}


def test_msmt_lists_hold_every_image_once(root):
    own = own_folder(root, "msmt17")
    listed = []
    for split in ("train", "val", "query", "gallery"):
        folder = "mask_train_v2" if split in ("train", "val") else "mask_test_v2"
        lines = (own / f"list_{split}.txt").read_text().splitlines()
        assert lines
        for line in lines:
            path, pid = line.split()
            assert int(path[:4]) == int(pid)
            listed.append(f"{folder}/{path}")
    images = [name for name in files_of(own) if name.startswith("mask_")]
    assert sorted(listed) == sorted(images)
    plain, both = (load_dataset(name, root) for name in ("msmt17", "msmt17_trainval"))
    assert both.synthetic
    assert len(both.train) == len(plain.train) + TINY.train_pids
    assert both.num_pids == plain.num_pids == TINY.train_pids


def test_msmt_numbers_training_and_test_people_alike():
    shots = job_of("msmt17").shots()
    train, test = ({s.pid for s in shots if s.split == split} for split in ("train", "query"))
    assert train == set(range(TINY.train_pids))
    assert test == set(range(TINY.test_pids))


def test_market_images_have_one_size(root):
    shapes = set()
    for path in own_folder(root, "market1501").glob("*/*.jpg"):
        with Image.open(path) as image:
            shapes.add(image.size)
    assert shapes == {(TINY.height // 2, TINY.height)}


def test_junk_misses_most_of_a_person(root):
    """Less of the picture shows the person, or much of the person is outside of it."""
    own = own_folder(root, "market1501")
    with (own / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    heads = defaultdict(list)
    for label in labels:
        path = own / "masks" / Path(label["path"]).with_suffix(".png")
        with Image.open(path) as image:
            mask = np.asarray(image)
        shown = {part.value for part in (Part.FACE, Part.HAIR)} & set(np.unique(mask).tolist())
        feet = bool((mask[-len(mask) // 5 :] > 0).any())
        heads[label["split"] == "junk"].append(bool(shown) and feet)
    assert np.mean(heads[True]) < 0.7
    assert np.mean(heads[False]) > 0.8


def test_neighbouring_cameras_look_unlike():
    """The mean colours of two cameras differ by more than those of a camera's images."""
    job = job_of("market1501", "demo")
    world = job.world()
    means = defaultdict(list)
    for shot in job.shots():
        if shot.split == "train" and len(means[shot.camera]) < 12:
            image = world.photograph(shot, 32, fixed_aspect=0.5).image
            means[shot.camera].append(image.mean(axis=(0, 1)))
    centres = np.array([np.mean(means[camera], axis=0) for camera in range(6)])
    spread = np.mean([np.std(means[camera], axis=0).mean() for camera in range(6)])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)[np.triu_indices(6, 1)]
    assert np.median(apart) > 3 * spread
    assert apart.min() > spread


@pytest.mark.parametrize("layout", CROSS_CAMERA)
def test_an_untrained_network_finds_people_before_the_same_camera_alone(layout):
    job = job_of(layout, "demo")
    world = job.world()
    shots = [shot for shot in job.shots() if shot.split == "train" and shot.pid <= 40]
    images = np.stack(
        [world.photograph(shot, 64, fixed_aspect=0.5).image for shot in shots]
    )  # (N, 64, 32, 3)
    torch.manual_seed(0)
    network = resnet18()
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        features = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    similar = torch.nn.functional.normalize(features)
    similar = (similar @ similar.T).fill_diagonal_(-1)
    pids = torch.tensor([shot.pid for shot in shots])
    cameras = torch.tensor([shot.camera for shot in shots])
    own = cameras[:, None] == cameras
    found = {
        name: (pids[similar.masked_fill(hidden, -1).argmax(1)] == pids).double().mean().item()
        for name, hidden in (("same", ~own), ("other", own))
    }
    assert found["same"] > 0.55
    assert found["other"] < 0.7 * found["same"]
    # Next to all nearest neighbours are images of the same camera, whoever they show.
    assert (cameras[similar.argmax(1)] == cameras).double().mean() > 0.85


def test_a_plain_style_changes_nothing():
    camera = draw_camera(np.random.default_rng(0))
    assert styled(camera, Style()) == camera


def test_a_style_works_on_what_the_camera_has():
    camera = draw_camera(np.random.default_rng(0))
    style = Style(gain=(2.0, 1.0, 0.5), contrast=0.5, saturation=0.5, blur=0.01, noise=2.0)
    other = styled(camera, style)
    assert other.gain == (2.0 * camera.gain[0], camera.gain[1], 0.5 * camera.gain[2])
    assert other.blur == camera.blur + 0.01
    assert other.noise == 2.0 * camera.noise
    assert (other.place, other.seed, other.pitch) == (camera.place, camera.seed, camera.pitch)
