"""AGW's settings and presets. Imports no torch, so that ``agw-train --help`` is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from reid_core.config import DataConfig, OptimConfig, RunConfig, require
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.batching import require_pair_batches
from reid_core.training_config import TrainingConfig

__all__ = [
    "CITATION",
    "DATASETS",
    "PRESETS",
    "PUBLISHED",
    "SOURCE",
    "SOURCES",
    "AGWConfig",
    "AGWOptimConfig",
    "LossConfig",
    "ModelConfig",
    "agw_survey",
    "demo",
    "llcm",
    "paper",
    "regdb",
    "sysu",
]

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: a first stage per modality, one trunk for both."""

    backbone: Backbone = "resnet50"
    """Backbone; a shallow one has fewer non-local blocks."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage; 1 doubles the feature map's resolution."""
    pooling: Literal["gem", "avg"] = "gem"
    """Pooling of the last feature map: generalised mean, or mean (method `base`)."""
    gem_p: float = 3.0
    """Exponent of the generalised mean, above 0; the value it starts from with `learn_gem`."""
    learn_gem: bool = False
    """Learn the exponent, as the survey's text has it; the released code does not."""
    non_local: bool = True
    """Non-local attention blocks in the second and third stage (method `base`: none)."""
    nonlocal_ratio: int | None = None
    """Channels over the inner width of the non-local blocks, e.g. 2; default: width 1, as in the
    released code."""
    weights: str = "imagenet"
    """Start of the backbone: `imagenet` (torchvision IMAGENET1K_V1), `none`, or a weights file."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.gem_p > 0, f"model.gem_p={self.gem_p} must be above 0")
        require(
            self.nonlocal_ratio is None or self.nonlocal_ratio >= 1,
            f"model.nonlocal_ratio={self.nonlocal_ratio} must be at least 1",
        )
        require(
            self.pooling == "gem" or not self.learn_gem,
            "model.learn_gem has nothing to learn with model.pooling=avg; use pooling gem",
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Identity loss and triplet loss, each with weight 1 from the first epoch on."""

    triplet: Literal["wrt", "batch_hard"] = "wrt"
    """`wrt`: weighted regularised triplet; `batch_hard`: hardest pairs (method `base`)."""
    margin: float = 0.3
    """Margin of `batch_hard`, in units of the features; `wrt` has none."""

    def __post_init__(self) -> None:
        """Check the range."""
        require(self.margin >= 0, f"loss.margin={self.margin} must not be negative")


@dataclass(frozen=True, kw_only=True)
class AGWOptimConfig(OptimConfig):
    """Optimiser and learning-rate schedule; defaults are the official ones.

    A warm-up over 9 epochs from a tenth is the official (e + 1) / 10 in epoch e.
    """

    name: Literal["adam", "adamw", "sgd"] = "sgd"
    """Optimiser; `sgd` has Nesterov momentum 0.9."""
    lr: float = 0.1
    """Initial learning rate of neck and classifier."""
    backbone_factor: float = 0.1
    """Learning rate of all else (first stages, trunk, non-local blocks) as a share of it."""
    milestones: tuple[int, ...] = (20, 50)
    """Epochs (from 0) from which the learning rate is multiplied by gamma once more."""
    warmup_epochs: int = 9
    """Epochs at the start with a smaller learning rate; 0: none."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        require(
            self.backbone_factor > 0,
            f"optim.backbone_factor={self.backbone_factor} must be above 0",
        )


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """A base class, so that these fields come before those that all methods have."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, kw_only=True)
class AGWConfig(TrainingConfig, _Networks):
    """Everything that defines one AGW training run."""

    data: DataConfig = field(
        default_factory=partial(
            DataConfig,
            dataset="sysu",
            height=288,
            width=144,
            interpolation="lanczos",
            flip="none",
        )
    )
    optim: AGWOptimConfig = field(default_factory=AGWOptimConfig)
    augment: AugmentConfig = field(
        default_factory=partial(AugmentConfig, crop_prob=0.0, pad=10, erase_fill=(0.0, 0.0, 0.0))
    )
    epochs: int = 81
    """Training epochs."""
    batch_size: int = 64
    """Images per batch and process, half of them infrared: 8 people with 4 + 4 images."""
    num_instances: int = 4
    """Images per identity and modality in a batch; it has batch_size / (2 num_instances) people."""

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        super().__post_init__()
        require_pair_batches(self.batch_size, self.num_instances)


def _trained_on(dataset: str, *, erase_prob: float) -> AGWConfig:
    config = AGWConfig()
    return replace(
        config,
        data=replace(config.data, dataset=dataset),
        augment=replace(config.augment, erase_prob=erase_prob),
    )


def sysu(dataset: str = "sysu") -> AGWConfig:
    """AGW as its LLCM edition trains it on SYSU-MM01: random erasing with probability 0.5."""
    return _trained_on(dataset, erase_prob=0.5)


def regdb(dataset: str = "regdb") -> AGWConfig:
    """AGW as its LLCM edition trains it on RegDB: random erasing with probability 0.5."""
    return _trained_on(dataset, erase_prob=0.5)


def llcm(dataset: str = "llcm") -> AGWConfig:
    """AGW on LLCM: IR to VIS rank-1 49.1, mAP 55.8 (authors' table of 2023-06-24).

    The flags of that run are not known; these are the defaults of the released code.
    """
    return _trained_on(dataset, erase_prob=0.5)


def agw_survey(dataset: str = "sysu") -> AGWConfig:
    """AGW as in the survey, without erasing: SYSU rank-1 47.5, mAP 47.7; RegDB 70.1 / 66.4."""
    return _trained_on(dataset, erase_prob=0.0)


def paper(dataset: str) -> AGWConfig:
    """Return the published settings: `llcm` for LLCM, `agw-survey` for everything else."""
    return llcm(dataset) if dataset == "llcm" else agw_survey(dataset)


def demo(dataset: str = "sysu") -> AGWConfig:
    """Minutes on two CPU cores: a shallow network, small images. Made for synthetic data.

    Losses, batches and the order of the steps are those of `paper`; what is smaller is the network,
    the images, the padding and the number of epochs, and with it the warm-up and the milestones.
    One learning rate serves all: without ImageNet weights there is no part to be spared.
    """
    config = paper(dataset)
    return replace(
        config,
        data=replace(config.data, height=128, width=64, test_batch_size=64),
        model=ModelConfig(backbone="resnet10", weights="none"),
        optim=replace(
            config.optim, lr=0.05, backbone_factor=1.0, milestones=(8, 11), warmup_epochs=1
        ),
        augment=replace(config.augment, pad=4),
        epochs=12,
        run=RunConfig(eval_every=0),
    )


PRESETS: Mapping[str, Callable[[str], AGWConfig]] = {
    "paper": paper,
    "demo": demo,
    "sysu": sysu,
    "regdb": regdb,
    "llcm": llcm,
    "agw-survey": agw_survey,
}

DATASETS = ("sysu", "regdb", "llcm", "csv")

# Figures that were confirmed in a public source, and those that are believed right; what is unsure
# is in benchmarks/matrix.toml only.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "sysu/all_search": {
        "rank1": 0.4750,
        "rank10": 0.8439,  # believed right, as rank 20
        "rank20": 0.9214,
        "mAP": 0.4765,
        "mINP": 0.3530,
    },
    "sysu/indoor_search": {
        "rank1": 0.5417,
        "rank10": 0.9114,  # believed right, as rank 20
        "rank20": 0.9598,
        "mAP": 0.6297,
        "mINP": 0.5923,
    },
    "regdb/visible_to_thermal": {
        "rank1": 0.7005,
        "rank10": 0.8621,  # believed right, as rank 20
        "rank20": 0.9155,
        "mAP": 0.6637,
        "mINP": 0.5019,
    },
    # The whole row is believed right; ranks 10 and 20 are unsure.
    "regdb/thermal_to_visible": {"rank1": 0.7049, "mAP": 0.6590, "mINP": 0.5124},
    "llcm/ir2vis": {"rank1": 0.4913, "rank10": 0.7906, "rank20": 0.8589, "mAP": 0.5580},
    "llcm/vis2ir_readme": {"rank1": 0.6372, "rank10": 0.8866, "rank20": 0.9283, "mAP": 0.4721},
    # Believed right; ranks 10 and 20 are unsure.
    "llcm/vis2ir": {"rank1": 0.515, "mAP": 0.553},
}
"""Published figures by protocol, as fractions."""

SOURCE = "Ye et al., TPAMI 2021"

SOURCES: Mapping[str, str] = {
    "regdb/thermal_to_visible": "Ye et al., TPAMI 2021, from memory",
    "llcm/ir2vis": "LLCM repository, 2023-06-24",
    "llcm/vis2ir_readme": "LLCM repository, 2023-06-24",
    "llcm/vis2ir": "Zhang and Wang, CVPR 2023, from memory",
}
"""Where the figures of a protocol are from, if not from ``SOURCE``."""

CITATION = (
    "Ye, Shen, Lin, Xiang, Shao, Hoi: Deep Learning for Person Re-Identification: A Survey and "
    "Outlook. TPAMI 2021."
)
