"""Presets, their round trip through JSON, and the published figures."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from reid_agw.config import (
    DATASETS,
    PRESETS,
    PUBLISHED,
    SOURCES,
    AGWConfig,
    AGWOptimConfig,
    LossConfig,
    ModelConfig,
)
from reid_core.config import from_dict, to_dict
from reid_core.data.readers import DATASET_NAMES
from reid_core.errors import ConfigError
from reid_core.evaluation.protocols.lookup import PROTOCOLS

MATRIX = Path(__file__).parents[4] / "benchmarks" / "matrix.toml"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]("regdb")
    assert config.data.dataset == "regdb"
    assert from_dict(AGWConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(("dataset", "erase_prob"), [("sysu", 0), ("regdb", 0), ("llcm", 0.5)])
def test_paper_settings(dataset, erase_prob):
    config = PRESETS["paper"](dataset)
    data = config.data
    assert (data.height, data.width, data.interpolation, data.flip) == (288, 144, "lanczos", "none")
    assert (config.batch_size, config.num_instances, config.epochs) == (64, 4, 81)
    optim = config.optim
    assert (optim.name, optim.lr, optim.weight_decay, optim.gamma) == ("sgd", 0.1, 5e-4, 0.1)
    assert (optim.backbone_factor, optim.milestones) == (0.1, (20, 50))
    assert (config.loss.triplet, config.loss.margin) == ("wrt", 0.3)
    augment = config.augment
    assert (augment.crop_prob, augment.flip_prob, augment.pad) == (0, 0.5, 10)
    assert (augment.erase_prob, augment.erase_area, augment.erase_min_ratio) == (
        *(erase_prob, (0.02, 0.4), 0.3),
    )
    assert augment.erase_fill == (0, 0, 0)
    model = config.model
    assert (model.backbone, model.last_stride, model.weights) == ("resnet50", 1, "imagenet")
    assert (model.pooling, model.gem_p, model.learn_gem) == ("gem", 3, False)
    assert (model.non_local, model.nonlocal_ratio) == (True, None)


@pytest.mark.parametrize("dataset", ["sysu", "regdb", "llcm"])
def test_the_presets_differ_in_erasing_only(dataset):
    seed, survey = PRESETS[dataset](dataset), PRESETS["agw-survey"](dataset)
    assert (seed.augment.erase_prob, survey.augment.erase_prob) == (0.5, 0)
    assert replace(seed, augment=survey.augment) == survey
    assert PRESETS["paper"](dataset) == (seed if dataset == "llcm" else survey)


def test_a_file_with_a_few_settings_leaves_the_others_published():
    found = from_dict(AGWConfig, {"optim": {"lr": 0.03}, "data": {"dataset": "llcm"}})
    config = PRESETS["llcm"]("llcm")
    assert found == replace(config, optim=replace(config.optim, lr=0.03))


def test_the_demo_has_every_stage_of_the_paper():
    config, paper = PRESETS["demo"]("sysu"), PRESETS["paper"]("sysu")
    assert 0 < config.optim.warmup_epochs < min(config.optim.milestones)
    assert max(config.optim.milestones) < config.epochs
    assert config.loss == paper.loss
    assert (config.batch_size, config.num_instances) == (paper.batch_size, paper.num_instances)


def test_data_sets_are_known():
    assert set(DATASETS) <= set(DATASET_NAMES)
    assert {name.partition("/")[0] for name in PUBLISHED} < set(DATASETS)


def test_published_figures_belong_to_protocols_and_stand_in_the_matrix():
    assert set(SOURCES) <= set(PUBLISHED) <= set(PROTOCOLS)
    printed = {}
    for row in tomllib.loads(MATRIX.read_text(encoding="utf-8"))["rows"]:
        if row["method"] != "agw":
            continue
        for protocol, figures in row["published"].items():
            if protocol in ("source", "sources"):
                continue
            certainty = row["certainty"][protocol]
            assert set(certainty) == set(figures)
            assert set(certainty.values()) <= {"confirmed", "believed", "unsure"}
            printed[protocol] = {
                name: pytest.approx(value / 100)
                for name, value in figures.items()
                if certainty[name] != "unsure"
            }
    assert printed == {protocol: dict(figures) for protocol, figures in PUBLISHED.items()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AGWConfig(batch_size=27, num_instances=3), "must be 2, 3, .* use 24 or 30"),
        (lambda: AGWConfig(batch_size=8), "batch_size=8 must be .* use 16 or 24"),
        (lambda: AGWConfig(batch_size=20), "4 visible and 4 infrared .* use 16 or 24"),
        (lambda: AGWConfig(epochs=0), "epochs=0"),
        (lambda: AGWOptimConfig(backbone_factor=0), "backbone_factor=0 must be above 0"),
        (lambda: AGWOptimConfig(lr=0), "optim.lr=0"),
        (lambda: LossConfig(margin=-0.1), "margin=-0.1"),
        (lambda: ModelConfig(gem_p=0), "gem_p=0"),
        (lambda: ModelConfig(nonlocal_ratio=0), "nonlocal_ratio=0"),
        (lambda: ModelConfig(pooling="avg", learn_gem=True), "nothing to learn"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
