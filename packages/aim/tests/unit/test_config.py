"""Presets, their round trip through JSON, and the published figures."""

import json
import tomllib
from pathlib import Path

import pytest

from reid_aim.config import DATASETS, PRESETS, PUBLISHED, AIMConfig, LossConfig, ModelConfig
from reid_core.config import DataConfig, OptimConfig, RunConfig, from_dict, load_config, to_dict
from reid_core.data.layout import PREPARED_SUFFIX
from reid_core.data.readers import DATASET_NAMES, READERS
from reid_core.errors import ConfigError
from reid_core.evaluation.protocols.lookup import PROTOCOLS

MATRIX = Path(__file__).parents[4] / "benchmarks" / "matrix.toml"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]("prcc")
    assert config.data.dataset == "prcc"
    assert from_dict(AIMConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_paper_settings():
    config = PRESETS["paper"]("ltcc")
    assert (config.data.height, config.data.width) == (384, 192)
    assert (config.batch_size, config.num_instances, config.epochs) == (32, 8, 100)
    assert (config.optim.lr, config.optim.weight_decay) == (3.5e-4, 5e-4)
    assert config.optim.milestones == (20, 40)
    assert (config.loss.start_epoch_adv, config.loss.start_epoch_cc) == (25, 25)
    assert (config.loss.k_cal, config.loss.k_kl, config.loss.adv_weight) == (1, 1, 1)
    assert config.loss.pair_weight == 0
    assert (config.model.backbone, config.model.last_stride) == ("resnet50", 1)


def test_last_follows_the_authors_advice():
    config = PRESETS["paper"]("last")
    assert config.num_instances == 4
    assert config.loss.pair_weight == 1


def test_every_data_set_with_outfits_can_be_read():
    readers = READERS.values()
    without_outfits = {
        reader.info.name for reader in readers if reader.info.clothes_label == "none"
    }
    assert "celeb" in without_outfits
    prepared = {name for name in DATASET_NAMES if name.endswith(PREPARED_SUFFIX)}
    assert set(DATASETS) == set(DATASET_NAMES) - without_outfits - prepared


def test_published_figures_belong_to_protocols_and_stand_in_the_matrix():
    assert set(PUBLISHED) <= set(PROTOCOLS)
    rows = tomllib.loads(MATRIX.read_text(encoding="utf-8"))["rows"]
    printed = {
        protocol: {name: pytest.approx(value / 100) for name, value in figures.items()}
        for row in rows
        if row["method"] == "aim"
        for protocol, figures in row.get("published", {}).items()
        if protocol != "source"
    }
    assert printed == {protocol: dict(figures) for protocol, figures in PUBLISHED.items()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AIMConfig(batch_size=30), "batch_size=30 is not a multiple of num_instances=8"),
        (lambda: AIMConfig(batch_size=30), "use 24 or 32"),
        (lambda: AIMConfig(batch_size=4), "use 8 or 8|use 8"),
        (lambda: AIMConfig(epochs=0), "epochs=0"),
        (lambda: AIMConfig(num_instances=0), "num_instances=0"),
        (lambda: AIMConfig(batch_size=1, num_instances=1), "batch_size=1"),
        (lambda: AIMConfig(data=DataConfig(height=96)), "use 128 or more"),
        (
            lambda: AIMConfig(data=DataConfig(height=128), model=ModelConfig(last_stride=2)),
            "use 256 or more",
        ),
        (lambda: LossConfig(label_smoothing=1), "label_smoothing=1"),
        (lambda: LossConfig(adv_epsilon=-0.1), "adv_epsilon=-0.1"),
        (lambda: LossConfig(pair_scale=0), "pair_scale=0"),
        (lambda: LossConfig(start_epoch_cc=-1), "start_epoch_cc=-1"),
        (lambda: OptimConfig(lr=0), "optim.lr=0"),
        (lambda: OptimConfig(weight_decay=-1), "weight_decay=-1"),
        (lambda: OptimConfig(gamma=0), "gamma=0"),
        (lambda: OptimConfig(milestones=(20, 10)), "rising epochs"),
        (lambda: DataConfig(height=8), "data.height=8"),
        (lambda: DataConfig(width=8), "data.width=8"),
        (lambda: DataConfig(test_batch_size=0), "test_batch_size=0"),
        (lambda: RunConfig(seed=-1), "run.seed=-1"),
        (lambda: RunConfig(eval_every=-1), "run.eval_every=-1"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocs": 3}, "epocs"),
        ({"data": {"hight": 3}}, "hight"),
        ({"epochs": "many"}, "epochs"),
        ({"model": {"backbone": "vgg"}}, "backbone"),
    ],
)
def test_from_dict_names_what_does_not_fit(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(AIMConfig, values)


def test_load_config_of_a_run_folder(tmp_path):
    config = PRESETS["demo"]("ltcc")
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    assert load_config(AIMConfig, tmp_path) == config
