"""The commands ``aim-train``, ``aim-eval``, ``aim-embed`` and ``aim-export``.

Parsing imports no torch; the work is imported when the arguments are known to be good.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from reid_aim.config import DATASETS, PRESETS, AIMConfig
from reid_core.cli import FlagTable, parse, parse_train, run_command
from reid_core.commands.arguments import EmbedArguments, EvaluateArguments, ExportArguments
from reid_core.errors import ConfigError

__all__ = ["embed", "evaluate", "export", "train"]

# Keys of the official configuration files to our fields; a None has no effect there either.
_OFFICIAL_KEYS: dict[str, str | None] = {
    "DATA.ROOT": "--data.root",
    "DATA.DATASET": "--dataset",
    "DATA.HEIGHT": "--data.height",
    "DATA.WIDTH": "--data.width",
    "DATA.TRAIN_BATCH": "--batch-size",
    "DATA.TEST_BATCH": "--data.test-batch-size",
    "DATA.NUM_INSTANCES": "--num-instances",
    "DATA.NUM_WORKERS": None,
    "AUG.RC_PROB": "--augment.crop-prob",
    "AUG.RE_PROB": "--augment.erase-prob",
    "AUG.RF_PROB": "--augment.flip-prob",
    "MODEL.NAME": "--model.backbone",
    "MODEL.RES4_STRIDE": "--model.last-stride",
    "MODEL.POOLING.NAME": "--model.pooling",
    "MODEL.FEATURE_DIM": None,
    "LOSS.CLA_S": "--loss.identity-scale",
    "LOSS.CLA_M": "--loss.identity-margin",
    "LOSS.EPSILON": "--loss.adv-epsilon",
    "LOSS.PAIR_LOSS": "--loss.pair",
    "LOSS.PAIR_LOSS_WEIGHT": "--loss.pair-weight",
    "LOSS.PAIR_S": "--loss.pair-scale",
    "LOSS.PAIR_M": "--loss.pair-margin",
    "TRAIN.MAX_EPOCH": "--epochs",
    "TRAIN.START_EPOCH_CC": "--loss.start-epoch-cc",
    "TRAIN.START_EPOCH_ADV": "--loss.start-epoch-adv",
    "TRAIN.START_EPOCH_GENERAL": None,
    "TRAIN.OPTIMIZER.NAME": "--optim.name",
    "TRAIN.OPTIMIZER.LR": "--optim.lr",
    "TRAIN.OPTIMIZER.WEIGHT_DECAY": "--optim.weight-decay",
    "TRAIN.LR_SCHEDULER.DECAY_RATE": "--optim.gamma",
    "TEST.EVAL_STEP": "--run.eval-every",
    "SEED": "--run.seed",
    "k_cal": "--loss.k-cal",
    "k_kl": "--loss.k-kl",
}


def train(argv: Sequence[str] | None = None) -> None:
    """Run ``aim-train``."""
    args = sys.argv[1:] if argv is None else list(argv)

    def main() -> None:
        from reid_core.data.naming import name_dataset

        request = parse_train(
            "aim-train",
            args,
            config_type=AIMConfig,
            presets=PRESETS,
            datasets=DATASETS,
            find_dataset=name_dataset,
            aliases=OFFICIAL_FLAGS,
            description="Train AIM, evaluate it and leave weights, logs and report.html.",
        )
        from reid_aim.recipe import train as run_recipe
        from reid_core.engine.logging import configure_logging

        configure_logging("reid_aim")
        run_recipe(
            request.config,
            preset=request.preset,
            command=shlex.join(["aim-train", *args]),
            resume=request.is_resumed,
        )

    run_command("aim-train", main)


def evaluate(argv: Sequence[str] | None = None) -> None:
    """Run ``aim-eval``."""
    args = sys.argv[1:] if argv is None else list(argv)

    def main() -> None:
        description = "Evaluate AIM weights: one row per protocol, results.json, report.html."
        arguments = parse("aim-eval", args, EvaluateArguments, None, description)
        from reid_aim.loading import load_network
        from reid_aim.results import AIM_INFO
        from reid_core.commands.evaluate import evaluate_network
        from reid_core.engine.logging import configure_logging

        configure_logging("reid_aim")
        network = load_network(arguments.weights)
        evaluate_network(network, arguments, AIM_INFO, command=shlex.join(["aim-eval", *args]))

    run_command("aim-eval", main)


def embed(argv: Sequence[str] | None = None) -> None:
    """Run ``aim-embed``."""
    args = sys.argv[1:] if argv is None else list(argv)

    def main() -> None:
        description = "Turn images into AIM features (N, D), float32, length 1."
        arguments = parse("aim-embed", args, EmbedArguments, None, description)
        from reid_aim.loading import load_network
        from reid_core.commands.embed import run_embed
        from reid_core.engine.logging import configure_logging

        configure_logging("reid_aim")
        run_embed(load_network(arguments.weights), arguments)

    run_command("aim-embed", main)


def export(argv: Sequence[str] | None = None) -> None:
    """Run ``aim-export``."""
    args = sys.argv[1:] if argv is None else list(argv)

    def main() -> None:
        description = "Write AIM's test-time network as ONNX or torch.export, checked."
        arguments = parse("aim-export", args, ExportArguments, None, description)
        from reid_aim.loading import export_official, load_network
        from reid_core.commands.export import run_export
        from reid_core.engine.logging import configure_logging

        configure_logging("reid_aim")
        if arguments.format == "official":
            print(f"wrote {export_official(arguments)}")
        else:
            run_export(load_network(arguments.weights), arguments)

    run_command("aim-export", main)


def _set(setting: str) -> list[str]:
    """Translate ``--set LOSS.PAIR_LOSS_WEIGHT=1`` (an official configuration key)."""
    key, equals, value = setting.partition("=")
    if not equals or key not in _OFFICIAL_KEYS:
        raise ConfigError(
            f"--set {setting}: use KEY=VALUE with a key of the official configuration: "
            f"{', '.join(_OFFICIAL_KEYS)}"
        )
    flag = _OFFICIAL_KEYS[key]
    return [] if flag is None else [flag, value.lower() if flag == "--optim.name" else value]


def _gpu(value: str) -> list[str]:
    """Translate ``--gpu 0``; several devices are torchrun's business."""
    if "," in value:
        count = len(value.split(","))
        raise ConfigError(
            f"--gpu {value}: for several GPUs use CUDA_VISIBLE_DEVICES={value} torchrun "
            f"--no-python --nproc-per-node {count} aim-train ... without --gpu"
        )
    return ["--run.device", f"cuda:{value}"]


def _refuse(message: str) -> list[str]:
    raise ConfigError(message)


# Flags of the official main.py. A key that ends in "!" takes no value.
OFFICIAL_FLAGS: FlagTable = {
    "--root": "--data.root",
    "--output": "--run.out",
    "--gpu": _gpu,
    "--amp!": lambda _: ["--run.precision", "bf16"],
    "--k_cal": "--loss.k-cal",
    "--k_kl": "--loss.k-kl",
    "--set": _set,
    "--cfg": lambda value: _refuse(
        f"--cfg {value}: the official YAML holds this package's defaults; leave it out and set "
        "what differs with --set KEY=VALUE, e.g. --set TRAIN.MAX_EPOCH=60"
    ),
    "--eval!": lambda _: _refuse("--eval: use aim-eval --weights FILE --data ROOT"),
    "--single_shot!": lambda _: [
        "--protocols",
        "prcc/same_clothes",
        "prcc/cloth_changing",
        "prcc/same_clothes_single_shot",
        "prcc/cloth_changing_single_shot",
    ],
}
