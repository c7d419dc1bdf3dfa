"""AIM's settings and presets. Imports no torch, so that ``aim-train --help`` is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from reid_core.config import DataConfig, OptimConfig, RunConfig, require
from reid_core.training_config import TrainingConfig, require_stripes

__all__ = [
    "CITATION",
    "DATASETS",
    "PRESETS",
    "PUBLISHED",
    "SOURCE",
    "AIMConfig",
    "LossConfig",
    "ModelConfig",
    "deepchange",
    "demo",
    "last",
    "ltcc",
    "paper",
    "prcc",
    "vcclothes",
]

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50"]
Pooling = Literal["avg", "max", "gem", "maxavg"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The identity and the clothing branch."""

    backbone: Backbone = "resnet50"
    """Backbone of both branches."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage; 1 doubles the feature map's resolution."""
    pooling: Pooling = "maxavg"
    """Pooling of the identity branch; `maxavg` concatenates both."""
    weights: str = "imagenet"
    """Start of the backbones: `imagenet` (torchvision IMAGENET1K_V1), `none`, or a weights file."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss terms of the paper, their weights and first epochs."""

    identity: Literal["label_smoothing", "arcface", "cosface", "circle"] = "label_smoothing"
    """Identity loss; the last three use a cosine classifier."""
    label_smoothing: float = 0.1
    """Smoothing of the identity targets, in [0, 1)."""
    identity_scale: float = 16.0
    """Scale of the cosine identity losses."""
    identity_margin: float = 0.0
    """Margin of the cosine identity losses."""
    clothes: Literal["cosface", "cross_entropy"] = "cosface"
    """Clothes loss; `cross_entropy` leaves the cosines unscaled."""
    clothes_scale: float = 16.0
    """Scale of the clothes cosines, also in the adversarial term."""
    adv_epsilon: float = 0.1
    """Share of the target spread over a person's own outfits in the adversarial term."""
    adv_weight: float = 1.0
    """Weight of the clothes-based adversarial term."""
    k_cal: float = 1.0
    """Weight of the counterfactual (debiasing) term."""
    k_kl: float = 1.0
    """Weight of the symmetric KL between the two clothes classifiers."""
    kl_reduction: Literal["sum", "batchmean"] = "sum"
    """`sum` over the batch is the official behaviour; `batchmean` is independent of its size."""
    pair: Literal["triplet", "contrastive", "cosface", "circle"] = "triplet"
    """Pair loss on the identity feature."""
    pair_weight: float = 0.0
    """Weight of the pair loss; 0 logs it without using it."""
    pair_scale: float = 16.0
    """Scale of the pair losses `contrastive`, `cosface` and `circle`."""
    pair_margin: float = 0.3
    """Margin of the pair losses `triplet`, `cosface` and `circle`."""
    start_epoch_adv: int = 25
    """First epoch (from 0) with the counterfactual and adversarial terms."""
    start_epoch_cc: int = 25
    """First epoch (from 0) that trains the clothes classifier and uses the KL term."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(
            0 <= self.label_smoothing < 1,
            f"loss.label_smoothing={self.label_smoothing} must lie in [0, 1)",
        )
        require(
            0 <= self.adv_epsilon <= 1, f"loss.adv_epsilon={self.adv_epsilon} must lie in [0, 1]"
        )
        for name in ("adv_weight", "k_cal", "k_kl", "pair_weight"):
            value = getattr(self, name)
            require(value >= 0, f"loss.{name}={value} must not be negative")
        for name in ("identity_scale", "clothes_scale", "pair_scale"):
            value = getattr(self, name)
            require(value > 0, f"loss.{name}={value} must be above 0")
        for name in ("start_epoch_adv", "start_epoch_cc"):
            value = getattr(self, name)
            require(value >= 0, f"loss.{name}={value} must not be negative; epochs count from 0")


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """A base class, so that these fields come before those that all methods have."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, kw_only=True)
class AIMConfig(TrainingConfig, _Networks):
    """Everything that defines one AIM training run."""

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        super().__post_init__()
        stride, what = self.model.last_stride, "the clothing branch"
        require_stripes(self.data.height, stride, num_stripes=8, what=what)


def ltcc(dataset: str = "ltcc") -> AIMConfig:
    """AIM on LTCC as published: cloth-changing rank-1 40.6, mAP 19.1; standard 76.3 / 41.1.

    About 100 epochs of 9,000 images at 384 x 192; the released weights evaluate to 40.8 / 19.2.
    Authors report that batch size and number of processes move the result.
    """
    return AIMConfig(data=DataConfig(dataset=dataset))


def prcc(dataset: str = "prcc") -> AIMConfig:
    """AIM on PRCC as published: cloth-changing rank-1 57.9, mAP 58.3; same clothes 100 / 99.9."""
    return AIMConfig(data=DataConfig(dataset=dataset))


def last(dataset: str = "last") -> AIMConfig:
    """AIM on LaST. No figure is published; the authors advise a pair loss for this data set."""
    return AIMConfig(
        data=DataConfig(dataset=dataset), num_instances=4, loss=LossConfig(pair_weight=1.0)
    )


def deepchange(dataset: str = "deepchange") -> AIMConfig:
    """AIM on DeepChange, with the batches of the CAL baseline. No figure is published."""
    return AIMConfig(data=DataConfig(dataset=dataset), num_instances=4)


def vcclothes(dataset: str = "vcclothes") -> AIMConfig:
    """AIM on VC-Clothes. No figure is published."""
    return AIMConfig(data=DataConfig(dataset=dataset))


def paper(dataset: str) -> AIMConfig:
    """Return the published settings for a data set; for your own data, LTCC's."""
    presets = {"prcc": prcc, "last": last, "deepchange": deepchange}
    return presets.get(dataset, ltcc)(dataset)


def demo(dataset: str = "ltcc") -> AIMConfig:
    """Minutes on two CPU cores: a shallow network, small images. Made for synthetic data.

    The losses, their order, weights and the learning rate are the paper's; what is smaller is the
    network, the images, the chunks of the batches and the number of epochs.
    """
    return replace(
        paper(dataset),
        data=DataConfig(dataset=dataset, height=128, width=64, test_batch_size=64),
        model=ModelConfig(backbone="resnet10", weights="none"),
        optim=OptimConfig(milestones=(7, 9)),
        loss=LossConfig(start_epoch_adv=4, start_epoch_cc=4),
        epochs=10,
        batch_size=32,
        num_instances=4,
        run=RunConfig(eval_every=0),
    )


PRESETS: Mapping[str, Callable[[str], AIMConfig]] = {
    "paper": paper,
    "demo": demo,
    "ltcc": ltcc,
    "prcc": prcc,
    "last": last,
    "deepchange": deepchange,
    "vcclothes": vcclothes,
}

DATASETS = (
    "ltcc",
    "prcc",
    "last",
    "deepchange",
    "vcclothes",
    "vcclothes_sc",
    "vcclothes_cc",
    "folder",
    "csv",
)

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "ltcc/standard": {"rank1": 0.763, "mAP": 0.411},
    "ltcc/cloth_changing": {"rank1": 0.406, "mAP": 0.191},
    "prcc/same_clothes": {"rank1": 1.0, "mAP": 0.999},
    "prcc/cloth_changing": {"rank1": 0.579, "mAP": 0.583},
}
"""Figures of the paper by protocol, as fractions."""

SOURCE = "Yang et al., CVPR 2023"

CITATION = (
    "Yang, Lin, Zhong, Wu, Wang: Good is Bad: Causality Inspired Cloth-debiasing for "
    "Cloth-changing Person Re-identification. CVPR 2023, pp. 1472-1481."
)
