"""CSSC's settings and presets. Imports no torch, so that ``cssc-train --help`` is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from reid_core.config import DataConfig, OptimConfig, RunConfig, require
from reid_core.data.augment_config import AugmentConfig
from reid_core.training_config import TrainingConfig, require_stripes

__all__ = [
    "CITATION",
    "DATASETS",
    "PRESETS",
    "PUBLISHED",
    "SOURCE",
    "CSSCConfig",
    "LossConfig",
    "ModelConfig",
    "celeb",
    "demo",
    "ltcc",
    "paper",
    "prcc",
]

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network whose last stage is forked."""

    backbone: Backbone = "resnet50"
    """Backbone; one with fewer than three blocks in its last stage lacks some of CSSC's."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage; 1 doubles the feature map's resolution."""
    weights: str = "imagenet"
    """Start of the backbone: `imagenet` (torchvision IMAGENET1K_V1), `none`, or a weights file."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Identity and triplet loss of all five heads; every term has weight 1."""

    label_smoothing: float = 0.1
    """Smoothing of the identity targets, in [0, 1)."""
    triplet_margin: float = 0.3
    """Margin of the triplet losses, in units of the features."""
    start_epoch_triplet: int = 35
    """First epoch (from 0) with the triplet losses; before, they are logged only."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(
            0 <= self.label_smoothing < 1,
            f"loss.label_smoothing={self.label_smoothing} must lie in [0, 1)",
        )
        require(
            self.triplet_margin >= 0,
            f"loss.triplet_margin={self.triplet_margin} must not be negative",
        )
        require(
            self.start_epoch_triplet >= 0,
            f"loss.start_epoch_triplet={self.start_epoch_triplet} must not be negative; epochs "
            "count from 0",
        )


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """A base class, so that these fields come before those that all methods have."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, kw_only=True)
class CSSCConfig(TrainingConfig, _Networks):
    """Everything that defines one CSSC training run."""

    optim: OptimConfig = field(
        default_factory=partial(OptimConfig, lr=3e-4, milestones=(30, 60), warmup_epochs=10)
    )
    augment: AugmentConfig = field(
        default_factory=partial(AugmentConfig, crop_prob=0.0, pad=10, erase_fill=(0.0, 0.0, 0.0))
    )
    epochs: int = 120
    """Training epochs."""

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        super().__post_init__()
        stride, what = self.model.last_stride, "the SMR blocks"
        require_stripes(self.data.height, stride, num_stripes=8, what=what)


def ltcc(dataset: str = "ltcc") -> CSSCConfig:
    """CSSC on LTCC as published: cloth-changing rank-1 43.6, mAP 18.6; standard 78.1 / 40.2."""
    return CSSCConfig(data=DataConfig(dataset=dataset))


def prcc(dataset: str = "prcc") -> CSSCConfig:
    """CSSC on PRCC as published: cloth-changing rank-1 65.5, mAP 63.0; same clothes 100 / 99.1.

    Users of the official code report lower figures on this data set.
    """
    return CSSCConfig(data=DataConfig(dataset=dataset))


def celeb(dataset: str = "celeb") -> CSSCConfig:
    """CSSC on Celeb-reID as published: rank-1 64.5, rank-5 78.1, mAP 17.3; batches of 8 x 4."""
    return CSSCConfig(data=DataConfig(dataset=dataset), num_instances=4)


def paper(dataset: str) -> CSSCConfig:
    """Return the published settings for a data set; for your own data, LTCC's."""
    presets = {"prcc": prcc, "celeb": celeb, "celeb_light": celeb}
    return presets.get(dataset, ltcc)(dataset)


def demo(dataset: str = "ltcc") -> CSSCConfig:
    """Minutes on two CPU cores: a shallow network, small images. Made for synthetic data.

    The heads, the losses and their order are the paper's; what is smaller is the network, the
    images, the padding, the identities' share of a batch and the number of epochs, and with it the
    warm-up and the epochs of the other steps.
    """
    config = paper(dataset)
    return replace(
        config,
        data=DataConfig(dataset=dataset, height=128, width=64, test_batch_size=64),
        model=ModelConfig(backbone="resnet10", weights="none"),
        optim=replace(config.optim, milestones=(7, 9), warmup_epochs=1),
        loss=LossConfig(start_epoch_triplet=3),
        augment=replace(config.augment, pad=4),
        epochs=10,
        num_instances=4,
        run=RunConfig(eval_every=0),
    )


PRESETS: Mapping[str, Callable[[str], CSSCConfig]] = {
    "paper": paper,
    "demo": demo,
    "ltcc": ltcc,
    "prcc": prcc,
    "celeb": celeb,
}

DATASETS = (
    "ltcc",
    "prcc",
    "celeb",
    "celeb_light",
    "last",
    "deepchange",
    "vcclothes",
    "vcclothes_sc",
    "vcclothes_cc",
    "market1501",
    "dukemtmc",
    "msmt17",
    "msmt17_trainval",
    "folder",
    "csv",
)

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "ltcc/standard": {"rank1": 0.781, "mAP": 0.402},
    "ltcc/cloth_changing": {"rank1": 0.436, "mAP": 0.186},
    "prcc/same_clothes": {"rank1": 1.0, "mAP": 0.991},
    "prcc/cloth_changing": {"rank1": 0.655, "mAP": 0.630},
    "celeb/standard": {"rank1": 0.645, "rank5": 0.781, "mAP": 0.173},
}
"""Figures of the paper by protocol, as fractions."""

SOURCE = "Wang et al., ICASSP 2025"

CITATION = (
    "Wang, Qian, Li, Chen, Fu, Xue: Content and Salient Semantics Collaboration for "
    "Cloth-Changing Person Re-Identification. ICASSP 2025, pp. 1-5."
)
