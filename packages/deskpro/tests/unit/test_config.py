"""Presets, their round trip through JSON, and what is refused."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from reid_core.config import DataConfig, from_dict, to_dict
from reid_core.data.readers import DATASET_NAMES
from reid_core.errors import ConfigError
from reid_deskpro.config import (
    DATASETS,
    PRESETS,
    PUBLISHED,
    TEACHER_PRESETS,
    DeskProConfig,
    LossConfig,
    ModelConfig,
    TeacherConfig,
    teacher_of,
)
from reid_deskpro.stage_config import CosineConfig, SyncAugmentConfig

MATRIX = Path(__file__).parents[4] / "benchmarks" / "matrix.toml"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    for presets, kind in ((PRESETS, DeskProConfig), (TEACHER_PRESETS, TeacherConfig)):
        config = presets[name]("celeb_light")
        assert config.data.dataset == "celeb_light"
        assert from_dict(kind, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("dataset", "alpha", "temperature", "test_batch"),
    [
        ("prcc", 0.8, 1, 32),
        ("prcc_lr_hr_mask", 0.8, 1, 32),
        ("celeb", 0.7, 5, 64),
        ("celeb_light", 0.7, 5, 64),
        ("celeb_light_lr_hr_mask", 0.7, 5, 64),
    ],
)
def test_paper_settings(dataset, alpha, temperature, test_batch):
    config = PRESETS["paper"](dataset)
    data, loss, model = config.data, config.loss, config.model
    assert (data.height, data.width, data.flip) == (384, 128, "none")
    assert data.test_batch_size == test_batch
    assert (config.batch_size, config.num_instances, config.epochs) == (30, 6, 140)
    assert (loss.recipe, loss.margin, loss.label_smoothing) == (
        *("1*CrossEntropy+1*Triplet", 0.7, 0.1),
    )
    assert (loss.distill, loss.alpha, loss.temperature) == (True, alpha, temperature)
    assert (loss.attention_weight, loss.teacher_mode, loss.mask_floor) == (7, "train", "exact")
    assert (model.mode, model.width, model.osnet) == ("all", 1, "deskpro")
    assert (model.face_height, model.face_width, model.weights) == (224, 224, "imagenet")
    optim = config.optim
    assert (optim.weight_decay, optim.schedule, optim.warmup_epochs) == (
        *(5e-4, "warmup_cosine", 10),
    )
    augment = config.augment
    assert (augment.crop_scale, augment.crop_prob, augment.flip_prob) == (1.05, 0.5, 0.5)
    assert (augment.erase_prob, augment.erase_area, augment.erase_min_ratio) == (
        *(0.5, (0.02, 0.4), 0.3),
    )
    assert augment.erase_fill == (0.4914, 0.4822, 0.4465)
    assert augment.rng == "sample"
    assert (config.teacher, config.teacher_epochs, config.select) == ("auto", 140, "last")


def test_the_teacher_has_what_the_run_has():
    config = PRESETS["demo"]("prcc")
    teacher = teacher_of(config)
    assert teacher.epochs == config.teacher_epochs != config.epochs
    for name in ("data", "optim", "augment", "batch_size", "num_instances", "run"):
        assert getattr(teacher, name) == getattr(config, name)
    for name in ("width", "osnet", "face_height", "face_width", "weights"):
        assert getattr(teacher.model, name) == getattr(config.model, name)
    for name in ("recipe", "margin", "label_smoothing"):
        assert getattr(teacher.loss, name) == getattr(config.loss, name)


@pytest.mark.parametrize(
    ("mode", "distill", "alpha", "expected"),
    [
        ("all", True, 0.7, True),
        ("face", True, 0.7, True),
        ("body", True, 0.7, False),
        ("all", False, 0.7, False),
        ("face", True, 0, False),
    ],
)
def test_who_needs_a_teacher(mode, distill, alpha, expected):
    config = DeskProConfig(
        model=ModelConfig(mode=mode), loss=LossConfig(distill=distill, alpha=alpha)
    )
    assert config.uses_teacher is expected


def test_a_file_with_a_few_settings_leaves_the_others_published():
    found = from_dict(DeskProConfig, {"optim": {"lr": 1e-3}, "loss": {"alpha": 0.8}})
    config = DeskProConfig()
    expected = replace(
        config, optim=replace(config.optim, lr=1e-3), loss=replace(config.loss, alpha=0.8)
    )
    assert found == expected


def test_the_demo_has_every_part_of_the_paper():
    config, paper = PRESETS["demo"]("prcc"), PRESETS["paper"]("prcc")
    assert 0 < config.optim.warmup_epochs < min(config.epochs, config.teacher_epochs) - 1
    assert config.loss == paper.loss
    assert config.model.mode == paper.model.mode
    assert config.uses_teacher


def test_every_data_set_of_one_modality_can_be_trained_on():
    across_modalities = {"sysu", "regdb", "llcm"}
    assert set(DATASETS) == set(DATASET_NAMES) - across_modalities


def test_no_figure_is_printed_as_published():
    """Those of the paper have not been confirmed in a public source."""
    assert PUBLISHED == {}
    rows = tomllib.loads(MATRIX.read_text(encoding="utf-8"))["rows"]
    own = [row for row in rows if row["method"] == "deskpro"]
    assert {row["dataset"] for row in own} == {"prcc", "celeb", "celeb_light"}
    assert not [row for row in own if "published" in row]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeskProConfig(batch_size=32), "batch_size=32 is not a multiple .* use 30 or 36"),
        (lambda: DeskProConfig(epochs=0), "epochs=0"),
        (lambda: DeskProConfig(teacher_epochs=0), "teacher_epochs=0"),
        (lambda: TeacherConfig(num_instances=0), "num_instances=0"),
        (lambda: LossConfig(alpha=1.1), r"loss.alpha=1.1 must lie in \[0, 1\]"),
        (lambda: LossConfig(temperature=0), "loss.temperature=0"),
        (lambda: LossConfig(attention_weight=-1), "loss.attention_weight=-1"),
        (lambda: LossConfig(face_metric_weight=-1), "loss.face_metric_weight=-1"),
        (lambda: LossConfig(margin=-1), "loss.margin=-1"),
        (lambda: LossConfig(label_smoothing=1), "loss.label_smoothing=1"),
        (lambda: LossConfig(recipe="1*Focal"), "unknown loss 'Focal'"),
        (lambda: ModelConfig(width=0), "model.width=0"),
        (lambda: ModelConfig(face_height=16), "model.face_height=16"),
        (lambda: CosineConfig(lr=0), "optim.lr=0"),
        (lambda: CosineConfig(weight_decay=-1), "optim.weight_decay=-1"),
        (lambda: CosineConfig(warmup_epochs=-1), "optim.warmup_epochs=-1"),
        (lambda: CosineConfig(attention_lr_factor=0), "optim.attention_lr_factor=0"),
        (lambda: SyncAugmentConfig(pad=4), "augment.pad=4"),
        (lambda: SyncAugmentConfig(workers=0), "augment.workers=0"),
        (lambda: SyncAugmentConfig(erase_prob=2), "erase_prob=2"),
        (lambda: DataConfig(height=0), "data.height=0"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
