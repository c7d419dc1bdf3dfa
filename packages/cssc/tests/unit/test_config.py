"""Presets, their round trip through JSON, and the published figures."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from reid_core.config import DataConfig, from_dict, to_dict
from reid_core.data.layout import PREPARED_SUFFIX
from reid_core.data.readers import DATASET_NAMES
from reid_core.errors import ConfigError
from reid_core.evaluation.protocols.lookup import PROTOCOLS
from reid_cssc.config import DATASETS, PRESETS, PUBLISHED, CSSCConfig, LossConfig, ModelConfig

MATRIX = Path(__file__).parents[4] / "benchmarks" / "matrix.toml"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]("prcc")
    assert config.data.dataset == "prcc"
    assert from_dict(CSSCConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(("dataset", "num_instances"), [("ltcc", 8), ("prcc", 8), ("celeb", 4)])
def test_paper_settings(dataset, num_instances):
    config = PRESETS["paper"](dataset)
    assert config == PRESETS[dataset](dataset)
    assert (config.data.height, config.data.width, config.data.test_batch_size) == (384, 192, 128)
    assert (config.batch_size, config.num_instances, config.epochs) == (32, num_instances, 120)
    optim = config.optim
    assert (optim.name, optim.lr, optim.weight_decay, optim.gamma) == ("adam", 3e-4, 5e-4, 0.1)
    assert optim.milestones == (30, 60)
    assert (optim.warmup_epochs, optim.warmup_factor, optim.warmup_method) == (10, 0.1, "linear")
    assert (config.loss.label_smoothing, config.loss.triplet_margin) == (0.1, 0.3)
    assert config.loss.start_epoch_triplet == 35  # from 0; the 36th epoch
    augment = config.augment
    assert (augment.crop_prob, augment.flip_prob, augment.pad) == (0, 0.5, 10)
    assert (augment.erase_prob, augment.erase_area, augment.erase_min_ratio) == (
        *(0.5, (0.02, 0.4), 0.3),
    )
    assert augment.erase_fill == (0, 0, 0)
    assert (config.model.backbone, config.model.last_stride) == ("resnet50", 1)


def test_a_file_with_a_few_settings_leaves_the_others_published():
    found = from_dict(CSSCConfig, {"optim": {"lr": 1e-4}, "epochs": 7})
    config = PRESETS["paper"]("ltcc")
    assert found == replace(config, optim=replace(config.optim, lr=1e-4), epochs=7)


def test_the_demo_has_every_stage_of_the_paper():
    config = PRESETS["demo"]("ltcc")
    start = config.loss.start_epoch_triplet
    assert 0 < config.optim.warmup_epochs < start < config.epochs
    assert 0 < max(config.optim.milestones) < config.epochs


def test_every_data_set_of_one_modality_can_be_trained_on():
    across_modalities = {"sysu", "regdb", "llcm"}
    prepared = {name for name in DATASET_NAMES if name.endswith(PREPARED_SUFFIX)}
    assert set(DATASETS) == set(DATASET_NAMES) - across_modalities - prepared


def test_published_figures_belong_to_protocols_and_stand_in_the_matrix():
    assert set(PUBLISHED) <= set(PROTOCOLS)
    rows = tomllib.loads(MATRIX.read_text(encoding="utf-8"))["rows"]
    printed = {
        protocol: {name: pytest.approx(value / 100) for name, value in figures.items()}
        for row in rows
        if row["method"] == "cssc"
        for protocol, figures in row.get("published", {}).items()
        if protocol != "source"
    }
    assert printed == {protocol: dict(figures) for protocol, figures in PUBLISHED.items()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CSSCConfig(batch_size=30), "batch_size=30 is not a multiple of num_instances=8"),
        (lambda: CSSCConfig(epochs=0), "epochs=0"),
        (lambda: CSSCConfig(data=DataConfig(height=112)), "the SMR blocks .* use 128 or more"),
        (
            lambda: CSSCConfig(data=DataConfig(height=128), model=ModelConfig(last_stride=2)),
            "use 256 or more",
        ),
        (lambda: LossConfig(label_smoothing=1), "label_smoothing=1"),
        (lambda: LossConfig(triplet_margin=-0.1), "triplet_margin=-0.1"),
        (lambda: LossConfig(start_epoch_triplet=-1), "start_epoch_triplet=-1"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
