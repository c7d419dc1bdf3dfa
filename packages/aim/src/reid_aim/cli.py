"""The commands ``aim-train``, ``aim-eval``, ``aim-embed`` and ``aim-export``.

Parsing imports no torch; the work is imported when the arguments are known to be good.
"""

from __future__ import annotations

from reid_aim.config import DATASETS, PRESETS, AIMConfig
from reid_core.cli import FlagTable
from reid_core.commands.entry import Method
from reid_core.errors import ConfigError
from reid_core.official_flags import one_gpu, refuse

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


# Flags of the official main.py. A key that ends in "!" takes no value.
OFFICIAL_FLAGS: FlagTable = {
    "--root": "--data.root",
    "--output": "--run.out",
    "--gpu": one_gpu("--gpu", "aim-train"),
    "--amp!": lambda _: ["--run.precision", "bf16"],
    "--k_cal": "--loss.k-cal",
    "--k_kl": "--loss.k-kl",
    "--set": _set,
    "--cfg": lambda value: refuse(
        f"--cfg {value}: the official YAML holds this package's defaults; leave it out and set "
        "what differs with --set KEY=VALUE, e.g. --set TRAIN.MAX_EPOCH=60"
    ),
    "--eval!": lambda _: refuse("--eval: use aim-eval --weights FILE --data ROOT"),
    "--single_shot!": lambda _: [
        "--protocols",
        "prcc/same_clothes",
        "prcc/cloth_changing",
        "prcc/same_clothes_single_shot",
        "prcc/cloth_changing_single_shot",
    ],
}


_COMMANDS = Method(
    name="aim",
    title="AIM",
    config_type=AIMConfig,
    presets=PRESETS,
    datasets=DATASETS,
    train_flags=OFFICIAL_FLAGS,
    recipe="reid_aim.recipe:train",
    loader="reid_aim.loading:load_network",
    info="reid_aim.results:AIM_INFO",
    official_export="reid_aim.loading:export_official",
)
train = _COMMANDS.train
evaluate = _COMMANDS.evaluate
embed = _COMMANDS.embed
export = _COMMANDS.export
