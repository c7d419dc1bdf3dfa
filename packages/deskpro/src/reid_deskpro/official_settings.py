"""The command line of the official program: ``key value`` pairs after the flags. Imports no torch.

``main.py --config YAML KEY VALUE KEY VALUE ...`` sets the keys of its configuration; the same pairs
are understood after the flags of our commands, so that the commands of the official README run.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence

from reid_core.cli import FlagTable
from reid_core.errors import ConfigError
from reid_core.official_flags import refuse, without_effect

__all__ = [
    "EVALUATE_FLAGS",
    "OFFICIAL_KEYS",
    "TEACHER_FLAGS",
    "TRAIN_FLAGS",
    "take_official_settings",
]

logger = logging.getLogger(__name__)

Translation = Callable[[str], list[str]]

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_SEVERAL_VALUES = ("--protocols", "--protocol")
_PATHS = "dataset_path_cfg."


def _to(flag: str) -> Translation:
    """Return a translation to a flag with the same value."""
    return lambda value: [flag, value]


def _if_true(key: str, yes: Sequence[str], no: Sequence[str] | str) -> Translation:
    """Return the translation of a truth value; a text instead of flags refuses it."""

    def translate(value: str) -> list[str]:
        if value.lower() not in _TRUTH:
            raise ConfigError(f"{key} {value}: choose True or False")
        chosen = yes if _TRUTH[value.lower()] else no
        return refuse(f"{key} {value}: {chosen}") if isinstance(chosen, str) else list(chosen)

    return translate


def _only(key: str, accepted: str, reason: str) -> Translation:
    """Return the translation of a key that has one value here."""

    def translate(value: str) -> list[str]:
        return [] if value.lower() == accepted.lower() else refuse(f"{key} {value}: {reason}")

    return translate


def _dataset(value: str) -> list[str]:
    return ["--dataset", value.replace("-", "_")]


def _learning_rate(value: str) -> list[str]:
    if value != "auto":
        logger.warning(
            "lr %s takes effect here; the official program computes 6e-4 sqrt(batch_size / 20) "
            "whatever it says (lr auto)",
            value,
        )
    return ["--optim.lr", value]


OFFICIAL_KEYS: Mapping[str, Translation] = {
    "data_train": _dataset,
    "data_test": _dataset,
    "batchtest": _to("--data.test-batch-size"),
    "epochs": _to("--epochs"),
    "loss": _to("--loss.recipe"),
    "margin": _to("--loss.margin"),
    "if_labelsmooth": _if_true(
        "if_labelsmooth", ("--loss.label-smoothing", "0.1"), ("--loss.label-smoothing", "0")
    ),
    "lr": _learning_rate,
    "optimizer": _only("optimizer", "ADAM", "the official program runs with ADAM only"),
    "weight_decay": _to("--optim.weight-decay"),
    "height": _to("--data.height"),
    "width": _to("--data.width"),
    "head_height": _to("--model.face-height"),
    "head_width": _to("--model.face-width"),
    "feats": _only("feats", "512", "features are 512 wide; see --model.width"),
    "random_erasing": _if_true("random_erasing", (), ("--augment.erase-prob", "0")),
    "sampler": _if_true(
        "sampler", (), "batches of different people are needed by the losses on distances"
    ),
    "nThread": _to("--augment.workers"),
    "special_input": _if_true("special_input", (), "all pictures of an image are read"),
    "forward_mode": _to("--model.mode"),
    "kd_loss.enable": _if_true("kd_loss.enable", ("--loss.distill",), ("--loss.no-distill",)),
    "kd_loss.alpha": _to("--loss.alpha"),
    "kd_loss.T": _to("--loss.temperature"),
    "kd_loss.tr_weight": _to("--loss.face-metric-weight"),
    "mse.mse_weight": _to("--loss.attention-weight"),
    "mse.spatial_attn_lr": _to("--optim.attention-lr-factor"),
    "larger_fc_lr": _if_true(
        "larger_fc_lr", "all parameters share one learning rate, as in the published runs", ()
    ),
    "pre_train": lambda value: ["--teacher", value] if value else [],
    "tag": lambda value: ["--run.out", f"log/{value}"],
    **{
        key: without_effect(key, "as in the official program")
        for key in (
            *("kd_loss.beta", "momentum", "gamma", "warmup", "w_ratio", "pool", "probability"),
            *("num_classes", "gpus", "config"),
        )
    },
}
"""Key of the official configuration -> flags; those that mean something together are beside it."""

_TOGETHER = ("batchid", "batchimage", "cosine_annealing", "w_cosine_annealing")

_BOTH: FlagTable = {
    "--prepared": "--data.prepared",
    "--dataset": _dataset,
    "--optim.lr": lambda value: ["--optim.lr", "None" if value == "auto" else value],
    "--config": lambda value: _config(value),
    "--test!": lambda _: refuse("--test: use deskpro-eval --weights FILE --data ROOT"),
    "--local_rank": without_effect("--local_rank", "torchrun says it"),
}

TRAIN_FLAGS: FlagTable = _BOTH

_SECOND_STAGE = "the teacher is trained by its own losses alone"

TEACHER_FLAGS: FlagTable = {
    **_BOTH,
    **{
        flag: without_effect(flag.removesuffix("!"), _SECOND_STAGE)
        for flag in (
            *("--loss.alpha", "--loss.temperature", "--loss.face-metric-weight"),
            *("--loss.attention-weight", "--loss.distill!", "--loss.no-distill!"),
            *("--model.mode", "--teacher"),
        )
    },
}

EVALUATE_FLAGS: FlagTable = {
    "--dataset": _dataset,
    "--data.test-batch-size": "--batch-size",
    "--data.height": "--height",
    "--data.width": "--width",
    "--test!": lambda _: [],
}


def take_official_settings(argv: Sequence[str]) -> list[str]:
    """Replace the official ``key value`` pairs at the end of a command by our flags.

    Args:
        argv: Arguments of a command.

    Raises:
        ConfigError: A key is unknown or lacks its value, or a value has no counterpart.
    """
    flags, pairs = _split(argv)
    if len(pairs) % 2:
        raise ConfigError(f"official settings are pairs of key and value; {pairs[-1]} lacks its")
    given: dict[str, str] = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not _is_key(key):
            raise ConfigError(_describe_unknown(key))
        given[key] = value.strip("'\"")
    trained, tested = given.get("data_train"), given.get("data_test")
    if trained and tested and trained != tested:
        raise ConfigError(
            f"data_train {trained} and data_test {tested}: train and test on one data set, then "
            "evaluate others with deskpro-eval"
        )
    for key, value in given.items():
        if key.startswith(_PATHS):
            without_effect(key, "folders are found below --data and --prepared")(value)
        elif key not in _TOGETHER:
            flags += OFFICIAL_KEYS[key](value)
    return flags + _batches(given) + _schedule(given)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags with their values, and the pairs that follow them."""
    start = len(argv)
    while start and not argv[start - 1].startswith("-"):
        start -= 1
    flag = argv[start - 1] if start else ""
    takes_value = bool(flag) and "=" not in flag
    for place in range(start, len(argv)):
        if place == start and takes_value and (len(argv) - start) % 2:
            continue  # the value of the last flag, even if it is spelled like a key
        is_first_value = place == start and takes_value
        if _is_key(argv[place]) or (
            not is_first_value
            and flag not in _SEVERAL_VALUES
            and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", argv[place])
        ):
            return list(argv[:place]), list(argv[place:])
    return list(argv), []


def _is_key(text: str) -> bool:
    return text in OFFICIAL_KEYS or text in _TOGETHER or text.startswith(_PATHS)


def _batches(given: Mapping[str, str]) -> list[str]:
    people, images = given.get("batchid"), given.get("batchimage")
    if people is None and images is None:
        return []
    if people is None or images is None or not (people.isdecimal() and images.isdecimal()):
        raise ConfigError(
            f"batchid {people} and batchimage {images}: give both as whole numbers, people and "
            "images of each in a batch (or --batch-size and --num-instances)"
        )
    return ["--batch-size", str(int(people) * int(images)), "--num-instances", images]


def _schedule(given: Mapping[str, str]) -> list[str]:
    plain = _TRUTH.get(given.get("cosine_annealing", "False").lower())
    warm = _TRUTH.get(given.get("w_cosine_annealing", "True").lower())
    if plain is None or warm is None:
        raise ConfigError("cosine_annealing and w_cosine_annealing: choose True or False")
    if plain:
        return ["--optim.schedule", "cosine"]
    if not warm:
        raise ConfigError(
            "cosine_annealing False with w_cosine_annealing False: the official program has no "
            "other schedule (it stops); choose one of the two"
        )
    return []


def _config(value: str) -> list[str]:
    if value.lower().endswith((".yml", ".yaml")):
        raise ConfigError(
            f"--config {value}: the official files are presets here: --preset prcc, celeb or "
            "celeb-light; --config takes the config.json of an earlier run"
        )
    return ["--config", value]


def _describe_unknown(key: str) -> str:
    known = [*OFFICIAL_KEYS, *_TOGETHER]
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return (
        f"the official program has no setting {key!r}{hint}; its settings are {', '.join(known)}. "
        "Flags of this command begin with --, see --help"
    )
