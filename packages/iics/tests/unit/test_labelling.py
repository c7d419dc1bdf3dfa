"""From images to the labels of a stage."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.cache import ImageCache
from reid_core.data.sample import Sample
from reid_core.errors import ConfigError
from reid_core.memory import MemoryPlan
from reid_iics import labelling
from reid_iics.config import IICSConfig, InterConfig, IntraConfig
from reid_iics.cycle import Place
from reid_iics.labelling import Labeller, add_labelling
from reid_iics.model import IICS
from reid_iics.stage import Stage

CAMERAS = (0,) * 9 + (3,) * 8 + (5,) * 3  # the last has too few images for a batch
BATCH = 4
BASE = IICSConfig()
CONFIG = replace(
    BASE,
    data=replace(BASE.data, height=64, width=32, test_batch_size=8),
    variant="fixed",
    intra=IntraConfig(batch_size=BATCH, clusters=5),
    inter=InterConfig(batch_size=8, num_instances=2, clusters=6),
)
INTRA, INTER = Place(2, "intra", 8, False), Place(2, "inter", 10, False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = []
    for number in range(len(CAMERAS)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (64, 32, 3), np.uint8)).save(paths[-1])
    return ImageCache.build(paths, height=64, width=32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return IICS(backbone="resnet10").train()


@pytest.fixture
def run():
    records = []
    return SimpleNamespace(
        device=torch.device("cpu"),
        rank=0,
        world_size=1,
        is_main=True,
        main_first=nullcontext,
        records=records,
        log=lambda kind, epoch, values: records.append((kind, epoch, values)),
    )


def samples_of(images, pids=None):
    pids = [number % 4 for number in range(len(CAMERAS))] if pids is None else pids
    found = zip(images.paths, pids, CAMERAS, strict=True)
    return [Sample(path, pid, camid) for path, pid, camid in found]


def test_each_camera_with_enough_images_is_clustered(images, model, run, caplog):
    with caplog.at_level(logging.WARNING):
        labeller = Labeller(run, CONFIG, images, samples_of(images))
    assert "fewer than 4 training images are left out of stage 1: 5 (3)" in caplog.text
    labels = labeller(model, Stage(model, CONFIG), INTRA)
    assert [part.camid for part in labels] == [0, 3]
    for part in labels:
        assert np.array_equal(part.images, np.flatnonzero(np.array(CAMERAS) == part.camid))
        assert part.num_clusters == 5
    assert model.training, "the network was left in evaluation mode"
    ((kind, epoch, values),) = run.records
    assert (kind, epoch, values["cycle"]) == ("clusters", 8, 2)
    assert values["intra"]["num_clusters"] == 10
    assert 0 < values["intra"]["purity"] <= 1
    assert "cross_camera_recall" not in values["intra"]


def test_features_do_not_depend_on_what_a_continued_run_may_change(images, model, run, monkeypatch):
    config = replace(CONFIG, data=replace(CONFIG.data, test_batch_size=3))
    sizes = []
    original = labelling.evaluation_batches

    def watched(source, *, batch_size, **options):
        sizes.append(batch_size)
        return original(source, batch_size=batch_size, **options)

    monkeypatch.setattr(labelling, "evaluation_batches", watched)
    Labeller(run, config, images, samples_of(images))(model, Stage(model, config), INTRA)
    assert sizes == [config.inter.batch_size]


def test_all_images_are_clustered_by_what_all_heads_say(images, model, run, monkeypatch):
    labeller, stage = Labeller(run, CONFIG, images, samples_of(images)), Stage(model, CONFIG)
    stage.begin(INTRA, labeller(model, stage, INTRA), num_images=len(CAMERAS))
    given = {}
    original = labelling.inter_camera_labels

    def watched(*args, **options):
        given.update(options, features=args[0])
        return original(*args, **options)

    monkeypatch.setattr(labelling, "inter_camera_labels", watched)
    (labels,) = labeller(model, stage, INTER)
    assert (labels.num_clusters, labels.camid) == (6, None)
    assert np.array_equal(labels.images, np.arange(len(CAMERAS)))
    scores = given["scores"]
    assert (tuple(scores.shape), given["num_heads"]) == ((len(CAMERAS), 10), 2)
    torch.testing.assert_close(scores.sum(dim=1), torch.full((len(CAMERAS),), 2.0))
    assert given["mixing_rate"] == pytest.approx(0.02 * (1 - 2 / 40) ** 0.6)
    lengths = given["features"].norm(dim=1)
    assert (lengths - 1).abs().min() > 1e-3, "what is scored is normalised"
    assert "cross_camera_recall" in run.records[-1][2]["inter"]


@pytest.mark.parametrize("pids", [[0] * len(CAMERAS), [-1, *range(1, len(CAMERAS))]])
def test_no_quality_is_told_without_identities(pids, images, model, run):
    labeller = Labeller(run, CONFIG, images, samples_of(images, pids))
    labeller(model, Stage(model, CONFIG), INTRA)
    assert "purity" not in run.records[0][2]["intra"]


def test_too_few_clusters_are_refused(images, model, run):
    config = replace(CONFIG, variant="threshold", inter=replace(CONFIG.inter, share=0.9))
    labeller, stage = Labeller(run, config, images, samples_of(images)), Stage(model, config)
    stage.begin(INTRA, labeller(model, stage, INTRA), num_images=len(CAMERAS))
    with pytest.raises(ConfigError, match=r"form \d+ cluster.*holds 4 different.*smaller"):
        labeller(model, stage, INTER)


def test_a_single_camera_is_warned_of(images, run, caplog):
    samples = [replace(sample, camid=0) for sample in samples_of(images)]
    Labeller(run, CONFIG, images, samples)
    assert "all training images are of one camera" in caplog.text


def test_cameras_without_images_are_refused(images, run):
    config = replace(CONFIG, intra=replace(CONFIG.intra, batch_size=10))
    with pytest.raises(ConfigError, match=r"none of 3 cameras has the 10 .* has 9\)"):
        Labeller(run, config, images, samples_of(images))


def test_memory_is_counted_before_the_start():
    plan = MemoryPlan()
    add_labelling(plan, CONFIG, [0] * 40_000 + [1] * 3, 2048, torch.device("cpu"))
    found = {part.what: part.num_bytes for part in plan.parts}
    assert found["features of the training images (40,003 x 2,048)"] == 4 * 40_003 * 2048
    assert found["class scores of the training images (40,003 x about 8)"] == 4 * 40_003 * 8
    heads = "heads of both stages (about 14 classes), their gradients and momentum"
    assert found[heads] == 3 * 4 * (5 + 3 + 6) * 2048
    assert any(what.startswith("distances of all pairs of 40,003") for what in found)


def test_heads_on_another_device_are_not_counted():
    plan = MemoryPlan()
    add_labelling(plan, CONFIG, [0] * 40, 2048, torch.device("cuda"))
    assert not any(part.what.startswith("heads") for part in plan.parts)
