"""The commands ``cssc-train``, ``cssc-eval``, ``cssc-embed`` and ``cssc-export``.

Parsing imports no torch; the work is imported when the arguments are known to be good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reid_core.cli import FlagTable, rewrite_flags
from reid_core.commands.entry import Method
from reid_core.official_flags import one_gpu, refuse, without_effect
from reid_cssc.config import DATASETS, PRESETS, CSSCConfig

__all__ = [
    "EVALUATE_FLAGS",
    "OFFICIAL_FLAGS",
    "combine_flags",
    "embed",
    "evaluate",
    "export",
    "train",
]

_OFFICIAL_ROOT = "data"  # default of --dataset_root


# Flags of the official main.py. A key that ends in "!" takes no value.
OFFICIAL_FLAGS: FlagTable = {
    "-d": "--dataset",
    "--height": "--data.height",
    "--width": "--data.width",
    "--horizontal_flip_pro": "--augment.flip-prob",
    "--pad_size": "--augment.pad",
    "--random_erasing_pro": "--augment.erase-prob",
    "--train_batch": "--batch-size",
    "--test_batch": "--data.test-batch-size",
    "--max_epoch": "--epochs",
    "--margin": "--loss.triplet-margin",
    "--tri_start_epoch": "--loss.start-epoch-triplet",
    "--lr": "--optim.lr",
    "--gamma": "--optim.gamma",
    "--step_milestones": "--optim.milestones",
    "--warm_up_factor": "--optim.warmup-factor",
    "--warm_up_method": "--optim.warmup-method",
    "--warm_up_epochs": "--optim.warmup-epochs",
    "--weight_decay": "--optim.weight-decay",
    "--eval_epoch": "--run.eval-every",
    "--save_dir": "--run.out",
    "--gpu_devices": one_gpu("--gpu_devices", "cssc-train"),
    "--use_cpu!": lambda _: ["--run.device", "cpu"],
    "--evaluate!": lambda _: refuse("--evaluate: use cssc-eval --weights FILE --data ROOT"),
    "-j": without_effect("-j", "no worker processes are needed"),
    "--num_workers": without_effect("--num_workers", "no worker processes are needed"),
    "--start_epoch": without_effect("--start_epoch", "a resumed run knows its epoch"),
    "--start_eval_epoch": without_effect("--start_eval_epoch", "see --run.eval-every"),
    "--print_train_info_epoch_freq": without_effect(
        "--print_train_info_epoch_freq", "every epoch is logged"
    ),
    "--save_checkpoint!": without_effect("--save_checkpoint", "the last state is always kept"),
    "--reranking!": without_effect("--reranking", "re-rank with cssc-eval --rerank"),
    "--weight_decay_bias": without_effect(
        "--weight_decay_bias", "one decay for all, as in the official code; see --weight_decay"
    ),
    "--split_id": without_effect("--split_id", "as in the official code"),
}

EVALUATE_FLAGS: FlagTable = {
    "-d": "--dataset",
    "--data.root": "--data",
    "--resume": "--weights",
    "--test_batch": "--batch-size",
    "--save_dir": "--out",
    "--reranking!": lambda _: ["--rerank"],
    "--use_cpu!": lambda _: ["--device", "cpu"],
    "--evaluate!": lambda _: [],
}


def combine_flags(argv: Sequence[str]) -> list[str]:
    """Replace ``--dataset_root R --dataset_filename F`` by ``--data.root R/F``.

    Without F, R is what ``--data`` takes: the data set's folder or the one that holds it.
    """
    found: dict[str, str] = {}

    def remember(name: str) -> Callable[[str], list[str]]:
        def translate(value: str) -> list[str]:
            found[name] = value
            return []

        return translate

    table = {f"--dataset_{name}": remember(name) for name in ("root", "filename")}
    args = rewrite_flags(argv, table)
    if not found:
        return args
    root = Path(found.get("root", _OFFICIAL_ROOT), found.get("filename", ""))
    return [*args, "--data.root", str(root)]


_COMMANDS = Method(
    name="cssc",
    title="CSSC",
    config_type=CSSCConfig,
    presets=PRESETS,
    datasets=DATASETS,
    train_flags=OFFICIAL_FLAGS,
    evaluate_flags=EVALUATE_FLAGS,
    combine_flags=combine_flags,
    recipe="reid_cssc.recipe:train",
    loader="reid_cssc.loading:load_network",
    info="reid_cssc.results:CSSC_INFO",
    official_export="reid_cssc.loading:export_official",
)
train = _COMMANDS.train
evaluate = _COMMANDS.evaluate
embed = _COMMANDS.embed
export = _COMMANDS.export
