"""Parsing of the commands: official flags, presets, the list of flags."""

import logging
from pathlib import Path

import pytest

from reid_core.cli import parse_train, rewrite_flags
from reid_core.errors import ConfigError
from reid_core.testing.options import list_options
from reid_cssc.cli import EVALUATE_FLAGS, OFFICIAL_FLAGS, combine_flags
from reid_cssc.config import DATASETS, PRESETS, CSSCConfig


def parsed(*args, found="ltcc"):
    return parse_train(
        "cssc-train",
        combine_flags(args),
        config_type=CSSCConfig,
        presets=PRESETS,
        datasets=DATASETS,
        find_dataset=lambda root: found,
        aliases=OFFICIAL_FLAGS,
        description="",
    )


def test_data_alone_finds_the_data_set_and_takes_the_paper():
    request = parsed("--data", "somewhere", found="celeb")
    assert request.preset == "paper"
    assert (request.config.data.dataset, request.config.num_instances) == ("celeb", 4)


def test_synthetic_data_take_the_demo():
    request = parsed("--data=synthetic")
    assert request.preset == "demo"
    assert request.config.model.backbone == "resnet10"


def test_commands_of_the_official_readme():
    request = parsed(
        *("--gpu_devices", "0", "--dataset", "celeb", "--dataset_root", "data"),
        *("--dataset_filename", "Celeb-reID", "--num_instances", "4", "--save_dir", "log"),
        "--save_checkpoint",
    )
    config = request.config
    assert (config.data.root, config.data.dataset) == (str(Path("data/Celeb-reID")), "celeb")
    assert (config.run.device, config.run.out) == ("cuda:0", Path("log"))
    published = PRESETS["celeb"]("celeb")
    assert (config.optim, config.loss) == (published.optim, published.loss)
    assert config.num_instances == 4


def test_official_settings():
    config = parsed(
        *("-d", "prcc", "--height", "256", "--width", "128", "--horizontal_flip_pro", "0.4"),
        *("--pad_size=8", "--random_erasing_pro", "0.3", "--train_batch", "64"),
        *("--test_batch", "32", "--max_epoch", "60", "--margin", "0.2", "--lr", "1e-4"),
        *("--gamma", "0.5", "--step_milestones", "20", "40", "--warm_up_factor", "0.2"),
        *("--warm_up_method", "constant", "--warm_up_epochs", "5", "--weight_decay", "1e-4"),
        *("--tri_start_epoch", "30", "--use_cpu", "--seed", "666", "--eval_epoch", "10"),
    ).config
    assert (config.data.dataset, config.data.height, config.data.width) == ("prcc", 256, 128)
    augment = config.augment
    assert (augment.flip_prob, augment.pad, augment.erase_prob) == (0.4, 8, 0.3)
    assert (config.batch_size, config.data.test_batch_size, config.epochs) == (64, 32, 60)
    assert (config.loss.triplet_margin, config.loss.start_epoch_triplet) == (0.2, 30)
    optim = config.optim
    assert (optim.lr, optim.gamma, optim.milestones) == (1e-4, 0.5, (20, 40))
    assert (optim.warmup_factor, optim.warmup_method) == (0.2, "constant")
    assert (optim.warmup_epochs, optim.weight_decay) == (5, 1e-4)
    assert (config.run.device, config.run.seed, config.run.eval_every) == ("cpu", 666, 10)


IGNORED = [
    ("-j", "8"),
    ("--num_workers", "8"),
    ("--start_epoch", "3"),
    ("--start_eval_epoch", "2"),
    ("--print_train_info_epoch_freq", "5"),
    ("--weight_decay_bias", "5e-4"),
    ("--split_id", "0"),
    ("--reranking",),
    ("--save_checkpoint",),
]


@pytest.mark.parametrize("flag", IGNORED, ids=lambda flag: flag[0])
def test_flags_without_effect_are_accepted_with_a_warning(flag, caplog):
    with caplog.at_level(logging.WARNING):
        config = parsed("--dataset", "ltcc", *flag).config
    assert config == PRESETS["ltcc"]("ltcc")
    assert f"{' '.join(flag)} has no effect" in caplog.text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--dataset_root", "R"], "R"),
        (["--dataset_root=R", "--dataset_filename=F"], "R/F"),
        (["--dataset_filename", "F", "--epochs", "3"], "data/F"),
    ],
)
def test_folder_of_the_official_flags(typed, expected):
    args = combine_flags(typed)
    assert args[-2:] == ["--data.root", str(Path(expected))]
    assert not [arg for arg in args if arg.startswith("--dataset_")]


def test_official_flags_of_an_evaluation():
    typed = ["--evaluate", "--dataset_root", "R", "-d", "celeb", "--resume", "best.pth"]
    typed += ["--reranking", "--test_batch", "64", "--use_cpu", "--save_dir", "log"]
    assert rewrite_flags(combine_flags(typed), EVALUATE_FLAGS) == [
        *("--dataset", "celeb", "--weights", "best.pth", "--rerank", "--batch-size", "64"),
        *("--device", "cpu", "--out", "log", "--data", "R"),
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--preset", "papers"], "'papers' is unknown; choose from paper, demo"),
        (["--dataset", "duke"], "'duke' is unknown; choose from ltcc"),
        (["--evaluate"], "cssc-eval"),
        (["--gpu_devices", "0,1"], "--nproc-per-node 2 cssc-train"),
        (["--dataset_root"], "--dataset_root needs a value"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ConfigError, match=message):
        parsed(*args)


def test_flags_are_those_that_were_promised():
    """A new or changed flag is a change of the interface: edit cli_options.txt knowingly."""
    promised = Path(__file__).with_name("cli_options.txt").read_text(encoding="utf-8")
    assert list_options("cssc", CSSCConfig) == promised.splitlines()
