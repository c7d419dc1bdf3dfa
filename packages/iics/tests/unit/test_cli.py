"""Parsing of the commands: official flags, presets, the list of flags."""

import logging
from pathlib import Path

import pytest

from reid_core.cli import parse_train, rewrite_flags
from reid_core.errors import ConfigError
from reid_core.testing.options import list_options
from reid_iics.cli import EVALUATE_FLAGS, OFFICIAL_FLAGS
from reid_iics.config import DATASETS, PRESETS, IICSConfig


def parsed(*args, found="market1501"):
    return parse_train(
        "iics-train",
        args,
        config_type=IICSConfig,
        presets=PRESETS,
        datasets=DATASETS,
        find_dataset=lambda root: found,
        aliases=OFFICIAL_FLAGS,
        description="",
    )


def test_data_alone_finds_the_data_set_and_takes_the_paper():
    request = parsed("--data", "somewhere", found="msmt17")
    assert request.preset == "paper"
    assert request.config == PRESETS["msmt17"]("msmt17").__class__(
        **{**vars(PRESETS["msmt17"]("msmt17")), "data": request.config.data}
    )
    assert (request.config.data.dataset, request.config.data.root) == ("msmt17", "somewhere")


def test_synthetic_data_take_the_demo():
    request = parsed("--data=synthetic")
    assert request.preset == "demo"
    assert request.config.model.weights == "none"


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "msmt17"])
@pytest.mark.parametrize("end", ["", "-threshold"])
def test_a_preset_named_after_a_data_set_means_it(name, end):
    config = parsed("--preset", name + end).config
    assert config == PRESETS[name + end](name)


def test_commands_of_the_official_readme():
    start = ("--checkpoint", "resnet50.pth", "--dataset", "msmt17", "--epochs_stage1", "12")
    request = parsed(*start, "--use_cpu")
    assert request.config.model.weights == "resnet50.pth"
    assert request.config.intra.epochs == 12
    assert request.config.variant == "fixed"


def test_official_settings():
    config = parsed(
        *("-d", "dukemtmc", "--class_number_stage1", "500", "--class_number_stage2=700"),
        *("--margin", "0.2", "--mix_rate", "0.01", "--decay_factor", "0.5", "-b", "4"),
        *("--batch-size-stage2", "32", "--instances", "8", "--lr", "0.01"),
        *("--weight-decay", "0.001", "--epochs_stage1", "3", "--epochs_stage2", "1"),
        *("--cluster_epochs", "20", "--warm_up", "2", "--linkage", "average", "--stride", "2"),
        *("--height", "128", "--width", "64", "--seed", "5", "--data-dir", "D", "--logs-dir", "L"),
    ).config
    assert (config.data.dataset, config.data.root, config.run.out) == ("dukemtmc", "D", Path("L"))
    assert (config.data.height, config.data.width, config.run.seed) == (128, 64, 5)
    intra, inter = config.intra, config.inter
    assert (intra.clusters, intra.batch_size, intra.epochs) == (500, 4, 3)
    assert (inter.clusters, inter.batch_size, inter.num_instances) == (700, 32, 8)
    assert (inter.epochs, inter.margin) == (1, 0.2)
    assert (inter.mixing_rate, inter.mixing_power) == (0.01, 0.5)
    assert (config.optim.lr, config.optim.weight_decay) == (0.01, 0.001)
    assert (config.cycles, config.warmup_cycles, config.model.last_stride) == (20, 2, 2)
    assert config.variant == "fixed"


def test_flags_of_the_threshold_script_mean_its_variant():
    config = parsed("--dataset", "market1501", "--eph_stage1", "0.003", "--eph_stage2=0.002").config
    assert (config.variant, config.intra.share, config.inter.share) == ("threshold", 0.003, 0.002)


IGNORED = [
    ("--use_cpu",),
    ("-j", "4"),
    ("--workers", "4"),
    ("--split", "0"),
    ("--momentum", "0.9"),
    ("--print-freq", "20"),
    ("--start_save", "3"),
    ("--multi_task_weight", "1"),
]


@pytest.mark.parametrize("flag", IGNORED, ids=lambda flag: flag[0])
def test_flags_without_effect_are_accepted_with_a_warning(flag, caplog):
    with caplog.at_level(logging.WARNING):
        config = parsed("--dataset", "market1501", *flag).config
    assert config == PRESETS["paper"]("market1501")
    assert f"{' '.join(flag)} has no effect" in caplog.text


def test_official_flags_of_an_evaluation(caplog):
    typed = ["--checkpoint", "best.pth.tar", "-d", "msmt17", "--evaluate", "--data-dir", "R"]
    typed += ["--logs-dir", "L", "--height", "256", "--stride", "1", "-b", "8", "--use_cpu"]
    with caplog.at_level(logging.WARNING):
        found = rewrite_flags(typed, EVALUATE_FLAGS)
    assert found == [
        *("--weights", "best.pth.tar", "--dataset", "msmt17", "--data", "R", "--out", "L"),
        *("--height", "256"),
    ]
    assert "--use_cpu has no effect" in caplog.text
    assert "-b 8 has no effect" in caplog.text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--preset", "papers"], "'papers' is unknown; choose from paper, demo"),
        (["--dataset", "celeb"], "'celeb' is unknown; choose from market1501, dukemtmc, msmt17"),
        (["--evaluate"], "iics-eval --checkpoint FILE"),
        (["--linkage", "complete"], "'complete' was never published"),
        (["--checkpoint"], "--checkpoint needs a value"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ConfigError, match=message):
        parsed(*args)


def test_an_evaluation_with_another_stride_is_refused():
    with pytest.raises(ConfigError, match="last_stride=2"):
        rewrite_flags(["--stride", "2"], EVALUATE_FLAGS)


def test_flags_are_those_that_were_promised():
    """A new or changed flag is a change of the interface: edit cli_options.txt knowingly."""
    promised = Path(__file__).with_name("cli_options.txt").read_text(encoding="utf-8")
    assert list_options("iics", IICSConfig) == promised.splitlines()
