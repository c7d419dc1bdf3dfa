"""Parsing of the commands: presets, short and official flags, the list of flags."""

import dataclasses
import json
from pathlib import Path

import pytest

from reid_aim.cli import OFFICIAL_FLAGS
from reid_aim.config import DATASETS, PRESETS, AIMConfig
from reid_core.cli import parse_train, rewrite_flags
from reid_core.config import to_dict
from reid_core.errors import ConfigError
from reid_core.testing.options import list_options


def parsed(*args, found="ltcc"):
    return parse_train(
        "aim-train",
        list(args),
        config_type=AIMConfig,
        presets=PRESETS,
        datasets=DATASETS,
        find_dataset=lambda root: found,
        aliases=OFFICIAL_FLAGS,
        description="",
    )


def test_data_alone_finds_the_data_set_and_takes_the_paper():
    request = parsed("--data", "somewhere", found="prcc")
    paper = PRESETS["paper"]("prcc")
    data = dataclasses.replace(paper.data, root="somewhere")
    assert request.config == dataclasses.replace(paper, data=data)
    assert (request.preset, request.is_resumed) == ("paper", False)


def test_synthetic_data_take_the_demo():
    request = parsed("--data=synthetic")
    assert request.preset == "demo"
    assert request.config.data.root == "synthetic"
    assert request.config.model.backbone == "resnet10"


def test_synthetic_data_with_paper_settings_on_request():
    assert parsed("--data", "synthetic", "--preset", "paper").config.epochs == 100


@pytest.mark.parametrize("name", ["ltcc", "prcc", "last"])
def test_a_preset_named_like_a_data_set_means_it(name):
    assert parsed("--preset", name).config.data.dataset == name


def test_flags_override_the_preset():
    config = parsed(
        *("--dataset", "ltcc", "--epochs", "3", "--optim.lr=1e-4", "--loss.k_kl", "2"),
        *("--optim.milestones", "1", "2", "--out", "there", "--seed", "5", "--device", "cpu"),
    ).config
    assert (config.epochs, config.optim.lr, config.loss.k_kl) == (3, 1e-4, 2)
    assert config.optim.milestones == (1, 2)
    assert (config.run.out, config.run.seed, config.run.device) == (Path("there"), 5, "cpu")


def test_config_file_then_flags(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(to_dict(PRESETS["demo"]("prcc"))))
    request = parsed("--config", str(path), "--epochs", "7")
    assert request.preset == "config"
    assert request.config == dataclasses.replace(PRESETS["demo"]("prcc"), epochs=7)


def test_resume_takes_the_settings_of_the_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_dict(PRESETS["demo"]("ltcc"))))
    request = parsed("--resume", str(tmp_path))
    assert request.is_resumed
    assert request.config.run.out == tmp_path
    assert request.config.epochs == PRESETS["demo"]("ltcc").epochs


def test_resume_of_a_file_starts_from_it(tmp_path):
    file = tmp_path / "ltcc.pth.tar"
    file.write_bytes(b"x")
    request = parsed("--resume", str(file), "--dataset", "ltcc")
    assert not request.is_resumed
    assert request.config.start_from == file


def test_official_flags():
    config = parsed(
        *("--root", "R", "--dataset", "prcc", "--output", "O", "--gpu", "1", "--amp"),
        *("--k_cal", "0.5", "--k_kl=2", "--single_shot"),
        *("--set", "LOSS.PAIR_LOSS_WEIGHT=1", "--set", "TRAIN.MAX_EPOCH=60"),
        *("--set", "DATA.NUM_WORKERS=8", "--set", "TRAIN.OPTIMIZER.NAME=SGD"),
    ).config
    assert (config.data.root, config.data.dataset, config.run.out) == ("R", "prcc", Path("O"))
    assert (config.run.device, config.run.precision) == ("cuda:1", "bf16")
    assert (config.loss.k_cal, config.loss.k_kl, config.loss.pair_weight) == (0.5, 2, 1)
    assert (config.epochs, config.optim.name) == (60, "sgd")
    assert "prcc/cloth_changing_single_shot" in config.protocols


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--preset", "papers"], "'papers' is unknown; choose from paper, demo"),
        (["--dataset", "duke"], "'duke' is unknown; choose from ltcc"),
        (["--config", "a.json", "--preset", "demo"], "exclude each other"),
        (["--data"], "--data needs a value"),
        (["--preset"], "--preset needs a value"),
        (["--set", "LOSS.NOTHING=1"], "KEY=VALUE"),
        (["--set", "SEED"], "KEY=VALUE"),
        (["--cfg", "a.yaml"], "--set KEY=VALUE"),
        (["--eval"], "aim-eval"),
        (["--gpu", "0,1"], "torchrun"),
        (["--resume", "no/such/folder"], "no/such/folder"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ConfigError, match=message):
        parsed(*args)


def test_rewriting_keeps_order_and_later_flags_win():
    table = {"--a": "--x.a", "--b!": lambda _: ["--c", "1"]}
    assert rewrite_flags(["--a=1", "--z", "--b", "--a", "2"], table) == [
        *("--x.a", "1", "--z", "--c", "1", "--x.a", "2")
    ]


def test_flags_are_those_that_were_promised():
    """A new or changed flag is a change of the interface: edit cli_options.txt knowingly."""
    promised = Path(__file__).with_name("cli_options.txt").read_text(encoding="utf-8")
    assert list_options("aim", AIMConfig) == promised.splitlines()
