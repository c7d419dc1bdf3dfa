"""The commands ``iics-train``, ``iics-eval``, ``iics-embed`` and ``iics-export``.

Parsing imports no torch; the work is imported when the arguments are known to be good.
"""

from __future__ import annotations

from collections.abc import Callable

from reid_core.cli import FlagTable
from reid_core.commands.entry import Method
from reid_core.errors import ConfigError
from reid_core.official_flags import refuse, without_effect
from reid_iics.config import DATASETS, PRESETS, IICSConfig

__all__ = ["EVALUATE_FLAGS", "OFFICIAL_FLAGS", "embed", "evaluate", "export", "train"]


def _of_variant(variant: str, field: str) -> Callable[[str], list[str]]:
    """Return the translation of a flag that only one of the two official scripts has."""
    return lambda value: ["--variant", variant, field, value]


def _linkage(value: str) -> list[str]:
    if value != "average":
        raise ConfigError(f"--linkage {value!r} was never published; only average linkage is here")
    return []


_IGNORED_FLAGS: FlagTable = {
    "--use_cpu!": without_effect("--use_cpu", "no matrix of all pairs is made"),
    "-j": without_effect("-j", "no worker processes are needed"),
    "--workers": without_effect("--workers", "no worker processes are needed"),
    "--split": without_effect("--split", "as in the official code; there is one split"),
    "--print-freq": without_effect("--print-freq", "progress is always shown"),
}

# Flags of the official iics.py and iics_threshold.py. A key that ends in "!" takes no value.
OFFICIAL_FLAGS: FlagTable = {
    **_IGNORED_FLAGS,
    "--checkpoint": "--model.weights",
    "-d": "--dataset",
    "--class_number_stage1": _of_variant("fixed", "--intra.clusters"),
    "--class_number_stage2": _of_variant("fixed", "--inter.clusters"),
    "--eph_stage1": _of_variant("threshold", "--intra.share"),
    "--eph_stage2": _of_variant("threshold", "--inter.share"),
    "--margin": "--inter.margin",
    "--mix_rate": "--inter.mixing-rate",
    "--decay_factor": "--inter.mixing-power",
    "-b": "--intra.batch-size",
    "--batch-size": "--intra.batch-size",
    "-b2": "--inter.batch-size",
    "--batch-size-stage2": "--inter.batch-size",
    "--instances": "--inter.num-instances",
    "--lr": "--optim.lr",
    "--weight-decay": "--optim.weight-decay",
    "--momentum": without_effect("--momentum", "as in the official code, where it is 0.9"),
    "--epochs_stage1": "--intra.epochs",
    "--epochs_stage2": "--inter.epochs",
    "--cluster_epochs": "--cycles",
    "--warm_up": "--warmup-cycles",
    "--linkage": _linkage,
    "--stride": "--model.last-stride",
    "--height": "--data.height",
    "--width": "--data.width",
    "--data-dir": "--data.root",
    "--logs-dir": "--run.out",
    "--start_save": without_effect("--start_save", "as in the official code"),
    "--multi_task_weight": without_effect("--multi_task_weight", "as in the official code"),
    "--evaluate!": lambda _: refuse("--evaluate: use iics-eval --checkpoint FILE --data ROOT"),
}


def _stride(value: str) -> list[str]:
    if value != "1":
        raise ConfigError(
            f"--stride {value}: iics-eval takes official checkpoints for trained with stride 1; "
            f"for others use reid_iics.load_network(path, last_stride={value}) in Python"
        )
    return []


# Of the same scripts with --evaluate.
EVALUATE_FLAGS: FlagTable = {
    **_IGNORED_FLAGS,
    "--evaluate!": lambda _: [],
    "--checkpoint": "--weights",
    "-d": "--dataset",
    "--data-dir": "--data",
    "--logs-dir": "--out",
    "--stride": _stride,
    "-b": without_effect("-b", "see --batch-size, the images embedded together"),
}

_COMMANDS = Method(
    name="iics",
    title="IICS",
    config_type=IICSConfig,
    presets=PRESETS,
    datasets=DATASETS,
    train_flags=OFFICIAL_FLAGS,
    evaluate_flags=EVALUATE_FLAGS,
    recipe="reid_iics.recipe:train",
    loader="reid_iics.loading:load_network",
    info="reid_iics.results:info_of_weights",
    official_export="reid_iics.loading:export_official",
)
train = _COMMANDS.train
evaluate = _COMMANDS.evaluate
embed = _COMMANDS.embed
export = _COMMANDS.export
