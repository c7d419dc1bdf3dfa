"""Parsing of the commands: official key-value pairs, presets, the list of flags."""

import logging
from pathlib import Path

import pytest

from reid_core.cli import parse_train, rewrite_flags
from reid_core.errors import ConfigError
from reid_core.testing.options import list_options
from reid_deskpro.config import (
    DATASETS,
    PRESETS,
    TEACHER_PRESETS,
    DeskProConfig,
    TeacherConfig,
)
from reid_deskpro.official_settings import (
    EVALUATE_FLAGS,
    OFFICIAL_KEYS,
    TEACHER_FLAGS,
    TRAIN_FLAGS,
    take_official_settings,
)

README = (
    *("batchid", "5", "batchimage", "6", "loss", "1*CrossEntropy+1*Triplet"),
    *("forward_mode", "all", "kd_loss.enable", "True", "kd_loss.alpha", "0.8", "kd_loss.T", "1."),
    *("mse.mse_weight", "7.0", "mse.spatial_attn_lr", "1.0"),
    *("data_train", "prcc_lr_hr_mask", "data_test", "prcc_lr_hr_mask"),
    *("pre_train", "prcc_teacher.pth", "tag", "first"),
)


def parsed(*args, found="prcc", teacher=False):
    return parse_train(
        "deskpro-train",
        take_official_settings(args),
        config_type=TeacherConfig if teacher else DeskProConfig,
        presets=TEACHER_PRESETS if teacher else PRESETS,
        datasets=DATASETS,
        find_dataset=lambda root: found,
        aliases=TEACHER_FLAGS if teacher else TRAIN_FLAGS,
        description="",
    )


def test_data_alone_finds_the_data_set_and_takes_the_paper():
    request = parsed("--data", "somewhere", found="celeb")
    assert request.preset == "paper"
    assert request.config == PRESETS["celeb"]("celeb").__class__(
        **{**vars(PRESETS["celeb"]("celeb")), "data": request.config.data}
    )
    assert (request.config.data.root, request.config.loss.alpha) == ("somewhere", 0.7)


def test_synthetic_data_take_the_demo():
    request = parsed("--data=synthetic")
    assert request.preset == "demo"
    assert request.config.model.weights == "none"


@pytest.mark.parametrize(
    ("preset", "dataset"),
    [("prcc", "prcc"), ("celeb", "celeb"), ("celeb-light", "celeb_light")],
)
def test_a_preset_named_like_a_data_set_means_it(preset, dataset):
    assert parsed("--preset", preset).config.data.dataset == dataset


@pytest.mark.parametrize("name", ["celeb-light_lr_hr_mask", "celeb_light_lr_hr_mask"])
def test_official_names_of_data_sets(name):
    assert parsed("--dataset", name).config.data.dataset == "celeb_light_lr_hr_mask"
    assert parsed("data_train", name).config.data.dataset == "celeb_light_lr_hr_mask"


def test_commands_of_the_official_readme():
    config = parsed("--data", "dataset", *README).config
    published = PRESETS["prcc"]("prcc_lr_hr_mask")
    assert (config.data.root, config.data.dataset) == ("dataset", "prcc_lr_hr_mask")
    for name in ("model", "loss", "optim", "augment", "batch_size", "num_instances", "epochs"):
        assert getattr(config, name) == getattr(published, name), name
    assert (config.teacher, config.run.out) == ("prcc_teacher.pth", Path("log/first"))


def test_official_settings():
    config = parsed(
        *("--data", "R", "data_train", "celeb_lr_hr_mask", "batchid", "13", "batchimage", "8"),
        *("batchtest", "16", "epochs", "60", "loss", "2*CrossEntropy+0.5*MSLoss"),
        *("margin", "0.3", "if_labelsmooth", "False", "lr", "0.001", "weight_decay", "0.0001"),
        *("optimizer", "ADAM", "height", "256", "width", "96", "head_height", "112"),
        *("head_width", "96", "feats", "512", "random_erasing", "False", "sampler", "True"),
        *("nThread", "2", "special_input", "True", "forward_mode", "'face'"),
        *("kd_loss.enable", "False", "kd_loss.alpha", "0.5", "kd_loss.T", "2"),
        *("kd_loss.tr_weight", "0.5", "mse.mse_weight", "3", "mse.spatial_attn_lr", "0.1"),
        *("larger_fc_lr", "False", "cosine_annealing", "True"),
    ).config
    assert (config.batch_size, config.num_instances) == (104, 8)
    assert (config.data.test_batch_size, config.epochs) == (16, 60)
    loss, optim = config.loss, config.optim
    assert (loss.recipe, loss.margin, loss.label_smoothing) == (
        *("2*CrossEntropy+0.5*MSLoss", 0.3, 0),
    )
    assert (optim.lr, optim.weight_decay, optim.schedule) == (1e-3, 1e-4, "cosine")
    assert optim.attention_lr_factor == 0.1
    assert (config.data.height, config.data.width) == (256, 96)
    assert (config.model.face_height, config.model.face_width) == (112, 96)
    assert (config.augment.erase_prob, config.augment.workers) == (0, 2)
    assert (config.model.mode, loss.distill, loss.alpha, loss.temperature) == (
        *("face", False, 0.5, 2),
    )
    assert (loss.face_metric_weight, loss.attention_weight) == (0.5, 3)


@pytest.mark.parametrize("args", [("lr", "auto"), ("--optim.lr", "auto")])
def test_the_rule_of_the_learning_rate(args):
    config = parsed("--dataset", "prcc", *args).config
    assert config.optim.lr is None
    assert config.optim.optimizer(30).lr == pytest.approx(7.348469e-4)


def test_a_learning_rate_says_that_it_counts(caplog):
    with caplog.at_level(logging.WARNING):
        assert parsed("--dataset", "prcc", "lr", "0.001").config.optim.lr == 1e-3
    assert "takes effect here" in caplog.text


IGNORED = ("kd_loss.beta", "momentum", "gamma", "warmup", "pool", "num_classes", "gpus")


@pytest.mark.parametrize("key", [*IGNORED, "dataset_path_cfg.prcc.img_dir"])
def test_keys_without_effect_are_accepted_with_a_warning(key, caplog):
    with caplog.at_level(logging.WARNING):
        config = parsed("--dataset", "prcc", key, "1").config
    assert config == PRESETS["prcc"]("prcc")
    assert f"{key} 1 has no effect" in caplog.text


def test_the_same_settings_after_a_teachers_flags(caplog):
    with caplog.at_level(logging.WARNING):
        config = parsed("--data", "dataset", *README, teacher=True).config
    assert config.data.dataset == "prcc_lr_hr_mask"
    assert (config.batch_size, config.num_instances) == (30, 6)
    for flag in ("--loss.alpha", "--loss.distill", "--model.mode", "--teacher"):
        assert flag in caplog.text


@pytest.mark.parametrize(
    ("args", "flags"),
    [
        (["--data", "R"], ["--data", "R"]),
        (["--out", "margin"], ["--out", "margin"]),
        (["--protocols", "prcc/a", "prcc/b"], ["--protocols", "prcc/a", "prcc/b"]),
        (["--protocols", "standard", "other"], ["--protocols", "standard", "other"]),
        (["--augment.erase-area", "0.1", "0.2"], ["--augment.erase-area", "0.1", "0.2"]),
        (["--data=R", "epochs", "3"], ["--data=R", "--epochs", "3"]),
        (["--run.deterministic", "epochs", "3"], ["--run.deterministic", "--epochs", "3"]),
        (["epochs", "3"], ["--epochs", "3"]),
        (["--data", "epochs", "epochs", "3"], ["--data", "epochs", "--epochs", "3"]),
        (["--protocols", "a/b", "epochs", "3"], ["--protocols", "a/b", "--epochs", "3"]),
    ],
)
def test_where_the_pairs_begin(args, flags):
    assert take_official_settings(args) == flags


def test_every_key_stands_in_the_readme_of_the_package():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    missing = [key for key in OFFICIAL_KEYS if f"`{key}`" not in text]
    assert not missing


def test_official_settings_of_an_evaluation():
    typed = ["--weights", "W", "--data", "R", "data_test", "celeb-light_lr_hr_mask"]
    args = take_official_settings([*typed, "batchtest", "16", "height", "256"])
    assert rewrite_flags(args, EVALUATE_FLAGS) == [
        *("--weights", "W", "--data", "R", "--dataset", "celeb_light_lr_hr_mask"),
        *("--batch-size", "16", "--height", "256"),
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "R", "kd_loss.alpa", "1"], "'kd_loss.alpa' .did you mean kd_loss.alpha"),
        (["--data", "R", "epochs", "3", "momentun", "1"], "'momentun' .did you mean momentum"),
        (["epochs", "3", "margin"], "margin lacks its"),
        (["batchid", "5"], "batchid 5 and batchimage None: give both"),
        (["batchid", "5", "batchimage", "six"], "batchimage six: give both"),
        (["data_train", "prcc", "data_test", "celeb"], "train and test on one data set"),
        (["optimizer", "SGD"], "optimizer SGD: .* ADAM only"),
        (["feats", "256"], "feats 256"),
        (["sampler", "False"], "sampler False"),
        (["special_input", "False"], "special_input False"),
        (["larger_fc_lr", "True"], "larger_fc_lr True"),
        (["if_labelsmooth", "perhaps"], "if_labelsmooth perhaps: choose True or False"),
        (["w_cosine_annealing", "False"], "no other schedule"),
        (["--preset", "papers"], "'papers' is unknown; choose from paper, demo"),
        (["--dataset", "sysu"], "'sysu' is unknown; choose from prcc"),
        (["--config", "configs/celeb.yml"], "presets here"),
        (["--test", "--data", "R"], "deskpro-eval"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ConfigError, match=message):
        parsed(*args)


def test_flags_are_those_that_were_promised():
    """A new or changed flag is a change of the interface: edit cli_options.txt knowingly."""
    promised = Path(__file__).with_name("cli_options.txt").read_text(encoding="utf-8")
    lines = list_options("deskpro", DeskProConfig)
    teacher = list_options("deskpro-teacher", TeacherConfig)
    own = teacher[1 : next(i for i, line in enumerate(teacher) if line.endswith("-eval"))]
    assert [*lines, "deskpro-teacher", *own] == promised.splitlines()
