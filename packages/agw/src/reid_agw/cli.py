"""The commands ``agw-train``, ``agw-eval``, ``agw-embed`` and ``agw-export``.

Parsing imports no torch; the work is imported when the arguments are known to be good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reid_agw.config import DATASETS, PRESETS, AGWConfig
from reid_core.cli import FlagTable, rewrite_flags
from reid_core.commands.entry import Method
from reid_core.errors import ConfigError
from reid_core.official_flags import one_gpu, without_effect

__all__ = [
    "EVALUATE_FLAGS",
    "OFFICIAL_FLAGS",
    "combine_flags",
    "embed",
    "evaluate",
    "export",
    "train",
]

_METHODS: Mapping[str, list[str]] = {
    "agw": ["--model.pooling", "gem", "--model.non-local", "--loss.triplet", "wrt"],
    "base": ["--model.pooling", "avg", "--model.no-non-local", "--loss.triplet", "batch_hard"],
}
_MODES = {"all": "sysu/all_search", "indoor": "sysu/indoor_search"}
_OFFICIAL_FOLDER = "save_model"  # default of --model_path
_MOST_OFFICIAL_PEOPLE = 32  # more is taken for images: half of the default batch


def _method(value: str) -> list[str]:
    """Translate ``--method``; the official test script spells it `awg`, too."""
    name = {"awg": "agw"}.get(value, value)
    if name not in _METHODS:
        raise ConfigError(f"--method {value!r} is unknown; choose from {', '.join(_METHODS)}")
    return _METHODS[name]


def _batch_size(value: str) -> list[str]:
    """Refuse what may be the official ``--batch-size``, which counts people, not images."""
    if value.isdecimal() and int(value) <= _MOST_OFFICIAL_PEOPLE:
        raise ConfigError(
            f"--batch-size {value}: the official script counts people here, agw-train images. For "
            f"{value} people with 4 visible and 4 infrared images each use --batch-size "
            f"{8 * int(value)}; if {value} images are meant, say how many each person has of each "
            f"modality, e.g. --batch-size {value} --num-instances 2"
        )
    return ["--batch-size", value]


_IGNORED_FLAGS: FlagTable = {
    "--arch": without_effect("--arch", "as in the official code; see --model.backbone"),
    "--test-only!": without_effect("--test-only", "as in the official code; use agw-eval"),
    "--save_epoch": without_effect("--save_epoch", "the last state is always kept"),
    "--log_path": without_effect("--log_path", "logs are in the run folder; see --out"),
    "--vis_log_path": without_effect("--vis_log_path", "logs are in the run folder; see --out"),
    "--workers": without_effect("--workers", "no worker processes are needed"),
}

# Flags of the official train.py. A key that ends in "!" takes no value.
OFFICIAL_FLAGS: FlagTable = {
    **_IGNORED_FLAGS,
    "--lr": "--optim.lr",
    "--optim": "--optim.name",
    "--img_w": "--data.width",
    "--img_h": "--data.height",
    "--test-batch": "--data.test-batch-size",
    "--method": _method,
    "--margin": "--loss.margin",
    "--erasing_p": "--augment.erase-prob",
    "--num_pos": "--num-instances",
    "--batch-size": _batch_size,
    "--trial": "--data.trial",
    "--gpu": one_gpu("--gpu", "agw-train"),
}

# Of test.py. What describes the network is in the weights here.
EVALUATE_FLAGS: FlagTable = {
    **_IGNORED_FLAGS,
    "--resume": "--weights",
    "--protocols": "--protocol",
    "--img_w": "--width",
    "--img_h": "--height",
    "--test-batch": "--batch-size",
    "--gpu": lambda value: ["--device", *one_gpu("--gpu", "agw-eval")(value)[1:]],
    "--method": without_effect("--method", "the weights say it"),
    "--lr": without_effect("--lr", "nothing is trained"),
    "--optim": without_effect("--optim", "nothing is trained"),
    "--margin": without_effect("--margin", "nothing is trained"),
    "--erasing_p": without_effect("--erasing_p", "nothing is trained"),
    "--num_pos": without_effect("--num_pos", "nothing is trained"),
}


def combine_flags(argv: Sequence[str]) -> list[str]:
    """Replace the official flags that depend on each other, for training and evaluation.

    ``--model_path M --resume F`` becomes ``--resume M/F``; ``--mode`` and ``--tvsearch`` choose
    protocols, of SYSU-MM01 and RegDB only, as in the official code; with ``--num-instances``, which
    the official scripts do not know, ``--batch-size`` is not theirs.

    Raises:
        ConfigError: When ``--mode`` is unknown or a flag lacks its value.
    """
    found: dict[str, str] = {}

    def remember(name: str) -> Callable[[str], list[str]]:
        def translate(value: str) -> list[str]:
            found[name] = value
            return []

        return translate

    def dataset(value: str) -> list[str]:
        found["dataset"] = value
        return ["--dataset", value]

    def root(value: str) -> list[str]:
        kind, _, name = value.partition(":")
        if kind == "synthetic":
            found["synthetic"] = name or DATASETS[0]
        return ["--data", value]

    table: dict[str, str | Callable[[str], Sequence[str]]] = {
        "-r": remember("resume"),
        "--resume": remember("resume"),
        "--model_path": remember("model_path"),
        "--mode": remember("mode"),
        "--tvsearch!": remember("tvsearch"),
        "--dataset": dataset,
        "--data": root,
    }
    if any(arg.replace("_", "-").startswith("--num-instances") for arg in argv):
        table["--batch-size"] = "--batch_size"  # another spelling of the same option
    args = rewrite_flags(argv, table)
    return [*args, *_resume(found), *_protocols(found)]


def _resume(found: Mapping[str, str]) -> list[str]:
    """Return ``--resume`` with the folder of the official code in front where that is meant."""
    folder = found.get("model_path")
    if "resume" not in found:
        if folder is not None:
            reason = "weights are written to the run folder; see --out"
            without_effect("--model_path", reason)(folder)
        return []
    given = Path(found["resume"])
    inside = Path(folder or _OFFICIAL_FOLDER, given)
    choices = [given, inside] if folder is None else [inside, given]
    return ["--resume", str(next((path for path in choices if path.exists()), choices[0]))]


def _protocols(found: Mapping[str, str]) -> list[str]:
    """Return the protocols that ``--mode`` and ``--tvsearch`` ask for, on their own data sets."""
    dataset = found.get("dataset", found.get("synthetic"))
    chosen = []
    if dataset == "regdb" and "tvsearch" in found:
        chosen = ["--protocols", "regdb/thermal_to_visible"]
    elif "tvsearch" in found:
        without_effect("--tvsearch", "it belongs to --dataset regdb")("")
    if "mode" not in found:
        return chosen
    mode = found["mode"]
    if mode not in _MODES:
        raise ConfigError(f"--mode {mode!r} is unknown; choose from {', '.join(_MODES)}")
    if dataset not in (None, "sysu"):
        without_effect("--mode", f"it belongs to --dataset sysu, not to {dataset}")(mode)
        return chosen
    # Without its first part where the data set is still to be found: in full it would be evaluated
    # on any that has such cameras (LLCM).
    name = _MODES[mode]
    return ["--protocols", name if dataset else name.partition("/")[2]]


_COMMANDS = Method(
    name="agw",
    title="AGW",
    config_type=AGWConfig,
    presets=PRESETS,
    datasets=DATASETS,
    train_flags=OFFICIAL_FLAGS,
    evaluate_flags=EVALUATE_FLAGS,
    combine_flags=combine_flags,
    recipe="reid_agw.recipe:train",
    loader="reid_agw.loading:load_network",
    info="reid_agw.results:AGW_INFO",
    official_export="reid_agw.loading:export_official",
)
train = _COMMANDS.train
evaluate = _COMMANDS.evaluate
embed = _COMMANDS.embed
export = _COMMANDS.export
