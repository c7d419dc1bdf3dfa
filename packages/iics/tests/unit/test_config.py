"""Presets, their round trip through JSON, and the published figures."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from reid_core.config import from_dict, to_dict
from reid_core.data.readers import DATASET_NAMES
from reid_core.errors import ConfigError
from reid_core.evaluation.protocols.lookup import PROTOCOLS
from reid_iics.config import (
    DATASETS,
    PRESETS,
    PUBLISHED,
    SOURCE,
    IICSConfig,
    InterConfig,
    IntraConfig,
    ModelConfig,
    SGDConfig,
)

MATRIX = Path(__file__).parents[4] / "benchmarks" / "matrix.toml"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]("msmt17")
    assert config.data.dataset == "msmt17"
    assert from_dict(IICSConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("dataset", ["market1501", "dukemtmc", "msmt17"])
@pytest.mark.parametrize("variant", ["fixed", "threshold"])
def test_paper_settings(dataset, variant):
    config = PRESETS[dataset if variant == "fixed" else f"{dataset}-threshold"](dataset)
    assert config.data.dataset == dataset
    data = config.data
    assert (data.height, data.width, data.interpolation, data.flip) == (256, 128, "bicubic", "sum")
    assert (config.variant, config.rerank) == (variant, True)
    assert (config.cycles, config.warmup_cycles) == (40, 0)
    intra, inter = config.intra, config.inter
    assert (intra.epochs, inter.epochs) == (12 if dataset == "msmt17" else 2, 2)
    assert (intra.batch_size, inter.batch_size, inter.num_instances) == (8, 64, 4)
    assert (intra.clusters, inter.clusters) == (600, 800)
    assert (intra.share, inter.share) == (0.0025, 0.0017)
    assert (inter.margin, inter.mixing_rate, inter.mixing_power) == (0.3, 0.02, 0.6)
    assert not intra.legacy_small_cameras
    optim = config.optim
    assert (optim.lr, optim.backbone_factor, optim.weight_decay) == (0.005, 0.1, 5e-4)
    augment = config.augment
    assert (augment.crop_prob, augment.flip_prob, augment.pad) == (0, 0.5, 10)
    assert (augment.erase_prob, augment.erase_area, augment.erase_min_ratio) == (
        *(0.5, (0.02, 0.4), 0.3),
    )
    assert augment.erase_fill == (0.4914, 0.4822, 0.4465)
    model = config.model
    assert (model.backbone, model.last_stride, model.weights) == ("resnet50", 1, "imagenet")
    assert model.aibn_init == 0.1
    assert config.run.eval_every == 5
    if variant == "fixed":
        assert PRESETS["paper"](dataset) == config


@pytest.mark.parametrize("dataset", ["csv", "folder", "ltcc", "prcc"])
def test_images_without_published_figures_are_clustered_by_a_threshold(dataset):
    config = PRESETS["paper"](dataset)
    assert (config.data.dataset, config.variant) == (dataset, "threshold")


def test_epochs_are_those_of_both_stages():
    assert IICSConfig().epochs == 160
    assert PRESETS["msmt17"]("msmt17").epochs == 560


def test_a_file_with_a_few_settings_leaves_the_others_published():
    found = from_dict(IICSConfig, {"intra": {"epochs": 12}, "data": {"dataset": "msmt17"}})
    assert found == PRESETS["msmt17"]("msmt17")


def test_the_demo_has_the_batches_and_losses_of_the_paper():
    config, paper = PRESETS["demo"]("market1501"), PRESETS["market1501-threshold"]("market1501")
    assert config.variant == paper.variant
    assert config.intra.batch_size == paper.intra.batch_size
    assert config.inter.num_instances == paper.inter.num_instances
    assert config.inter.margin == paper.inter.margin


def test_data_sets_are_known():
    assert set(DATASETS) <= set(DATASET_NAMES)
    for figures in PUBLISHED.values():
        assert {name.partition("/")[0] for name in figures} < set(DATASETS)
        assert set(figures) <= set(PROTOCOLS)


def test_published_figures_stand_in_the_matrix():
    printed = {}
    for row in tomllib.loads(MATRIX.read_text(encoding="utf-8"))["rows"]:
        if row["method"] != "iics":
            continue
        flag, variant = row["flags"]
        assert (flag, row["name"]) == ("--variant", f"iics-{variant}")
        assert row["preset"] == "paper"
        if "published" not in row:
            continue
        published = dict(row["published"])
        assert published.pop("source") == SOURCE[variant]
        for protocol, figures in published.items():
            assert set(row["certainty"][protocol].values()) == {"confirmed"}
            assert set(row["certainty"][protocol]) == set(figures)
            expected = {name: pytest.approx(value / 100) for name, value in figures.items()}
            printed.setdefault(variant, {})[protocol] = expected
    assert printed == {variant: dict(figures) for variant, figures in PUBLISHED.items()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InterConfig(batch_size=30), "must be 2, 3, .* use 28 or 32"),
        (lambda: InterConfig(batch_size=4), "inter.batch_size=4 must be .* use 8 or 12"),
        (lambda: InterConfig(clusters=1), "inter.clusters=1"),
        (lambda: InterConfig(share=1), "inter.share=1"),
        (lambda: InterConfig(margin=-1), "inter.margin=-1"),
        (lambda: InterConfig(mixing_rate=-0.1), "inter.mixing_rate=-0.1"),
        (lambda: InterConfig(epochs=-1), "inter.epochs=-1"),
        (lambda: InterConfig(num_instances=0), "inter.num_instances=0"),
        (lambda: IntraConfig(batch_size=1), "intra.batch_size=1"),
        (lambda: IntraConfig(clusters=0), "intra.clusters=0"),
        (lambda: IntraConfig(share=-0.1), "intra.share=-0.1"),
        (lambda: IntraConfig(epochs=0), "intra.epochs=0"),
        (lambda: ModelConfig(aibn_init=1.5), "model.aibn_init=1.5"),
        (lambda: SGDConfig(lr=0), "optim.lr=0"),
        (lambda: SGDConfig(backbone_factor=0), "optim.backbone_factor=0"),
        (lambda: SGDConfig(weight_decay=-1), "optim.weight_decay=-1"),
        (lambda: IICSConfig(cycles=0), "cycles=0"),
        (lambda: IICSConfig(warmup_cycles=41), "warmup_cycles=41"),
        (
            lambda: replace(
                IICSConfig(intra=IntraConfig(legacy_small_cameras=True)), variant="threshold"
            ),
            "legacy_small_cameras belongs to variant fixed",
        ),
        (
            lambda: IICSConfig(inter=InterConfig(clusters=10)),
            "inter.clusters=10, .* holds 16 different clusters; use at least 16",
        ),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
