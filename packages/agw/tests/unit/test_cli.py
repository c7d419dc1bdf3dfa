"""Parsing of the commands: official flags, presets, the list of flags."""

import logging
from pathlib import Path

import pytest

from reid_agw.cli import EVALUATE_FLAGS, OFFICIAL_FLAGS, combine_flags
from reid_agw.config import DATASETS, PRESETS, AGWConfig
from reid_core.cli import parse_train, rewrite_flags
from reid_core.errors import ConfigError, ProtocolError
from reid_core.evaluation.protocols.lookup import get_protocol
from reid_core.testing.options import list_options


def parsed(*args, found="sysu"):
    return parse_train(
        "agw-train",
        combine_flags(args),
        config_type=AGWConfig,
        presets=PRESETS,
        datasets=DATASETS,
        find_dataset=lambda root: found,
        aliases=OFFICIAL_FLAGS,
        description="",
    )


def evaluation(*args):
    return rewrite_flags(combine_flags(args), EVALUATE_FLAGS)


def test_data_alone_finds_the_data_set_and_takes_the_paper():
    request = parsed("--data", "somewhere", found="llcm")
    assert request.preset == "paper"
    assert (request.config.data.dataset, request.config.augment.erase_prob) == ("llcm", 0.5)


def test_synthetic_data_take_the_demo():
    request = parsed("--data=synthetic")
    assert request.preset == "demo"
    assert request.config.model.weights == "none"


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm"])
def test_a_preset_named_like_a_data_set_means_it(name):
    config = parsed("--preset", name).config
    assert (config.data.dataset, config.augment.erase_prob) == (name, 0.5)


def test_commands_of_the_official_readme():
    request = parsed("--dataset", "llcm", "--lr", "0.1", "--method", "agw", "--gpu", "1")
    config = request.config
    assert config.run.device == "cuda:1"
    published = PRESETS["llcm"]("llcm")
    assert (config.optim, config.loss, config.model, config.augment) == (
        *(published.optim, published.loss, published.model, published.augment),
    )


@pytest.mark.parametrize(
    ("name", "expected"), [("agw", ("gem", True, "wrt")), ("base", ("avg", False, "batch_hard"))]
)
def test_official_methods(name, expected):
    config = parsed("--dataset", "sysu", "--method", name).config
    assert (config.model.pooling, config.model.non_local, config.loss.triplet) == expected


def test_official_settings():
    config = parsed(
        *("--dataset", "regdb", "--optim", "sgd", "--img_w", "128", "--img_h", "256"),
        *("--batch-size", "64", "--test-batch", "32", "--margin", "0.2", "--erasing_p=0.3"),
        *("--num_pos", "8", "--trial", "3", "--seed", "0"),
    ).config
    assert (config.data.dataset, config.data.trial) == ("regdb", 3)
    assert (config.data.width, config.data.height, config.data.test_batch_size) == (128, 256, 32)
    assert (config.batch_size, config.num_instances, config.optim.name) == (64, 8, "sgd")
    assert (config.loss.margin, config.augment.erase_prob, config.run.seed) == (0.2, 0.3, 0)


@pytest.mark.parametrize("value", ["6", "8", "32"])
def test_people_are_not_taken_for_images(value):
    with pytest.raises(ConfigError, match=f"counts people .* --batch-size {8 * int(value)}"):
        parsed("--dataset", "sysu", "--batch-size", value)


def test_images_are_accepted_where_nothing_else_can_be_meant():
    assert parsed("--dataset", "sysu", "--batch-size", "128").config.batch_size == 128
    small = ("--batch-size", "16", "--num-instances=2")
    assert parsed("--dataset", "sysu", *small).config.batch_size == 16
    assert evaluation("--weights", "W", "--batch-size", "8") == [
        *("--weights", "W", "--batch-size", "8"),
    ]


@pytest.mark.parametrize(
    ("args", "protocols"),
    [
        (("--mode", "indoor"), ("indoor_search",)),
        (("--dataset", "sysu", "--mode=all"), ("sysu/all_search",)),
        (("--dataset", "regdb", "--tvsearch"), ("regdb/thermal_to_visible",)),
        (("--dataset", "llcm", "--mode", "all", "--tvsearch"), ()),
        (("--dataset", "regdb", "--mode", "all"), ()),
        (("--dataset", "regdb", "--mode", "all", "--tvsearch"), ("regdb/thermal_to_visible",)),
        (("--dataset", "sysu", "--tvsearch", "--mode", "indoor"), ("sysu/indoor_search",)),
    ],
)
def test_mode_and_direction_choose_protocols_of_their_data_sets(args, protocols):
    assert parsed("--data", "R", *args).config.protocols == protocols
    chosen = evaluation("--data", "R", *args)
    found = chosen[chosen.index("--protocol") + 1 :] if protocols else []
    assert tuple(found) == protocols
    assert "--protocols" not in chosen


@pytest.mark.parametrize(
    ("data", "flags", "protocols"),
    [
        ("synthetic", ["--mode", "all"], ["sysu/all_search"]),
        ("synthetic:llcm", ["--mode", "all"], []),
        ("synthetic:regdb", ["--mode", "indoor", "--tvsearch"], ["regdb/thermal_to_visible"]),
    ],
)
def test_a_synthetic_data_set_is_known_by_its_name(data, flags, protocols):
    args = combine_flags(["--data", data, *flags])
    assert args == ["--data", data, *(["--protocols", *protocols] if protocols else [])]


def test_a_mode_belongs_to_sysu_whatever_data_set_is_found():
    """LLCM has cameras of the same numbers, so the full name would be evaluated there."""
    (name,) = parsed("--data", "R", "--mode", "all", found="llcm").config.protocols
    assert get_protocol(name, "sysu").name == "sysu/all_search"
    with pytest.raises(ProtocolError, match="Accepted: llcm/ir2vis"):
        get_protocol(name, "llcm")


IGNORED = [
    ("--arch", "resnet50"),
    ("--test-only",),
    ("--save_epoch", "20"),
    ("--log_path", "log/"),
    ("--vis_log_path", "log/"),
    ("--workers", "4"),
    ("--model_path", "save_model/"),
]


@pytest.mark.parametrize("flag", IGNORED, ids=lambda flag: flag[0])
def test_flags_without_effect_are_accepted_with_a_warning(flag, caplog):
    with caplog.at_level(logging.WARNING):
        config = parsed("--dataset", "sysu", *flag).config
    assert config == PRESETS["paper"]("sysu")
    assert f"{' '.join(flag)} has no effect" in caplog.text


def test_official_flags_of_an_evaluation(caplog):
    typed = ["--mode", "all", "--gpu", "1", "--dataset", "llcm", "--method", "awg"]
    typed += ["--test-batch", "32", "--img_h", "256", "--img_w", "128", "--resume", "best.t"]
    with caplog.at_level(logging.WARNING):
        found = evaluation(*typed, "--data", "R")
    assert found == [
        *("--device", "cuda:1", "--dataset", "llcm", "--batch-size", "32"),
        *("--height", "256", "--width", "128", "--data", "R", "--weights", "best.t"),
    ]
    assert "--mode all has no effect" in caplog.text
    assert "--method awg has no effect" in caplog.text


@pytest.mark.parametrize(
    ("args", "there", "expected"),
    [
        (["--resume", "a.t"], ["a.t", "save_model/a.t"], "a.t"),
        (["-r", "a.t"], ["save_model/a.t"], "save_model/a.t"),
        (["--resume", "a.t", "--model_path", "m/"], ["a.t", "m/a.t"], "m/a.t"),
        (["--resume=a.t", "--model_path=m"], ["a.t"], "a.t"),
        (["--resume", "a.t", "--model_path", "m"], [], "m/a.t"),
        (["--resume", "runs/regdb-{trial}"], [], "runs/regdb-{trial}"),
    ],
)
def test_folder_of_the_official_checkpoints(args, there, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in there:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert combine_flags(args) == ["--resume", str(Path(expected))]
    assert evaluation(*args) == ["--weights", str(Path(expected))]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--preset", "papers"], "'papers' is unknown; choose from paper, demo"),
        (["--dataset", "ltcc"], "'ltcc' is unknown; choose from sysu, regdb, llcm, csv"),
        (["--method", "deen"], "'deen' is unknown; choose from agw, base"),
        (["--mode", "outdoor"], "'outdoor' is unknown; choose from all, indoor"),
        (["--gpu", "0,1"], "--nproc-per-node 2 agw-train"),
        (["--mode"], "--mode needs a value"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ConfigError, match=message):
        parsed(*args)


def test_flags_are_those_that_were_promised():
    """A new or changed flag is a change of the interface: edit cli_options.txt knowingly."""
    promised = Path(__file__).with_name("cli_options.txt").read_text(encoding="utf-8")
    assert list_options("agw", AGWConfig) == promised.splitlines()
