"""IICS's settings and presets. Imports no torch, so that ``iics-train --help`` is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from reid_core.config import DataConfig, RunConfig, require
from reid_core.data.augment_config import AugmentConfig

__all__ = [
    "CITATION",
    "DATASETS",
    "PRESETS",
    "PUBLISHED",
    "PUBLISHED_WITHOUT_RERANK",
    "SOURCE",
    "SOURCE_WITHOUT_RERANK",
    "IICSConfig",
    "InterConfig",
    "IntraConfig",
    "ModelConfig",
    "SGDConfig",
    "Variant",
    "demo",
    "dukemtmc",
    "dukemtmc_threshold",
    "market1501",
    "market1501_threshold",
    "msmt17",
    "msmt17_threshold",
    "paper",
]

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50"]
Variant = Literal["fixed", "threshold"]

_LONG_INTRA_EPOCHS = 12  # official, for MSMT17: its smallest camera ends an epoch early


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: a ResNet with AIBN in its last two stages."""

    backbone: Backbone = "resnet50"
    """Backbone."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage; 1 doubles the feature map's resolution."""
    aibn_init: float = 0.1
    """Initial mixing weight of AIBN: 0 is instance, 1 batch normalisation."""
    weights: str = "imagenet"
    """Start of the backbone: `imagenet` (torchvision IMAGENET1K_V1), `none`, or a weights file."""

    def __post_init__(self) -> None:
        """Check the range."""
        require(
            0 <= self.aibn_init <= 1, f"model.aibn_init={self.aibn_init} must lie between 0 and 1"
        )


@dataclass(frozen=True, kw_only=True)
class IntraConfig:
    """Stage 1 of a cycle: every camera by itself, with a classifier of its own."""

    epochs: int = 2
    """Epochs of the stage in every cycle; the smallest camera ends an epoch."""
    batch_size: int = 8
    """Images of each camera in a batch; a camera that has fewer is left out of the stage."""
    clusters: int = 600
    """Variant `fixed`: clusters of each camera; half of its images where it has fewer."""
    share: float = 0.0025
    """Variant `threshold`: share of a camera's pairs of images that lie nearer than its
    threshold."""
    legacy_small_cameras: bool = False
    """Variant `fixed`: cluster cameras with fewer images than clusters as the official code does:
    every image twice, and all cameras after it get as few clusters."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.epochs >= 1, f"intra.epochs={self.epochs} must be at least 1")
        require(
            self.batch_size >= 2,
            f"intra.batch_size={self.batch_size} must be at least 2 (batch statistics)",
        )
        require(self.clusters >= 1, f"intra.clusters={self.clusters} must be at least 1")
        _require_share("intra.share", self.share)


@dataclass(frozen=True, kw_only=True)
class InterConfig:
    """Stage 2 of a cycle: all cameras together."""

    epochs: int = 2
    """Epochs of the stage in every cycle; 0 leaves it out, to see what stage 1 does alone."""
    batch_size: int = 64
    """Images of a batch (and process); the learning rate grows with it."""
    num_instances: int = 4
    """Images of each cluster in a batch."""
    clusters: int = 800
    """Variant `fixed`: clusters of all images."""
    share: float = 0.0017
    """Variant `threshold`: share of all pairs of images that lie nearer than the threshold."""
    margin: float = 0.3
    """Margin of the triplet loss, in units of the features."""
    mixing_rate: float = 0.02
    """mu of Eq. 5 in the first cycle: how much nearer equal class scores bring two images."""
    mixing_power: float = 0.6
    """p of its decay, mu (1 - t/T)^p in cycle t of T; 0 keeps mu."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.epochs >= 0, f"inter.epochs={self.epochs} must not be negative")
        require(
            self.num_instances >= 1, f"inter.num_instances={self.num_instances} must be at least 1"
        )
        size = self.num_instances
        below = max(self.batch_size // size, 2) * size
        require(
            self.batch_size % size == 0 and self.batch_size >= 2 * size,
            f"inter.batch_size={self.batch_size} must be 2, 3, ... times inter.num_instances="
            f"{size}; use {below} or {below + size}",
        )
        require(self.clusters >= 2, f"inter.clusters={self.clusters} must be at least 2")
        _require_share("inter.share", self.share)
        for name in ("margin", "mixing_rate", "mixing_power"):
            value = getattr(self, name)
            require(value >= 0, f"inter.{name}={value} must not be negative")


@dataclass(frozen=True, kw_only=True)
class SGDConfig:
    """Stochastic gradient descent with momentum 0.9, made anew for every stage."""

    lr: float = 0.005
    """Learning rate of the classifiers in stage 1, constant; stage 2 has lr * inter.batch_size /
    32."""
    backbone_factor: float = 0.1
    """Learning rate of the backbone as a share of it."""
    weight_decay: float = 5e-4
    """L2 weight decay, on every parameter."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("lr", "backbone_factor"):
            value = getattr(self, name)
            require(value > 0, f"optim.{name}={value} must be above 0")
        require(
            self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay} must not be negative"
        )


@dataclass(frozen=True, kw_only=True)
class IICSConfig:
    """Everything that defines one IICS training run."""

    data: DataConfig = field(
        default_factory=partial(
            DataConfig, dataset="market1501", height=256, width=128, interpolation="bicubic"
        )
    )
    variant: Variant = "fixed"
    """How the number of clusters is chosen: `fixed` (intra.clusters, inter.clusters), or by a
    `threshold` of distance (intra.share, inter.share)."""
    rerank: bool = True
    """Cluster re-ranked distances (published); otherwise plain cosine distances (a row of the
    paper's tables)."""
    cycles: int = 40
    """Training cycles, each of stage 1 and stage 2."""
    warmup_cycles: int = 0
    """Cycles at the start with a tenth of the loss."""
    model: ModelConfig = field(default_factory=ModelConfig)
    intra: IntraConfig = field(default_factory=IntraConfig)
    inter: InterConfig = field(default_factory=InterConfig)
    optim: SGDConfig = field(default_factory=SGDConfig)
    augment: AugmentConfig = field(
        default_factory=partial(AugmentConfig, crop_prob=0.0, pad=10, erase_prob=0.5)
    )
    start_from: Path | None = None
    """Official checkpoint to continue from, at the cycle after its own."""
    protocols: tuple[str, ...] = ()
    """Protocols to evaluate; default: the published one."""
    select: Literal["last", "best"] = "last"
    """Weights to keep: the last cycle's, or, as papers do, the best on the TEST set."""
    run: RunConfig = field(default_factory=RunConfig)
    """`eval_every` counts cycles here."""

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        require(self.cycles >= 1, f"cycles={self.cycles} must be at least 1")
        require(
            0 <= self.warmup_cycles <= self.cycles,
            f"warmup_cycles={self.warmup_cycles} must lie in 0..cycles={self.cycles}",
        )
        require(
            self.variant == "fixed" or not self.intra.legacy_small_cameras,
            "intra.legacy_small_cameras belongs to variant fixed; leave one of them out",
        )
        needed = self.inter.batch_size // self.inter.num_instances
        require(
            self.variant != "fixed" or self.inter.clusters >= needed,
            f"inter.clusters={self.inter.clusters}, but a batch of stage 2 "
            f"({self.inter.batch_size} images, {self.inter.num_instances} of each cluster) holds "
            f"{needed} different clusters; use at least {needed}, or a smaller inter.batch_size",
        )

    @property
    def epochs(self) -> int:
        """Epochs of the whole run: those of both stages in all cycles."""
        return self.cycles * self.epochs_per_cycle

    @property
    def epochs_per_cycle(self) -> int:
        """Epochs of both stages."""
        return self.intra.epochs + self.inter.epochs


def market1501(dataset: str = "market1501") -> IICSConfig:
    """IICS on Market-1501: mAP 72.9, rank-1 89.5 (fixed number of clusters)."""
    return _trained_on(dataset)


def dukemtmc(dataset: str = "dukemtmc") -> IICSConfig:
    """IICS on DukeMTMC-reID: mAP 64.4, rank-1 80.0 (fixed number of clusters)."""
    return _trained_on(dataset)


def msmt17(dataset: str = "msmt17") -> IICSConfig:
    """IICS on MSMT17: mAP 26.9, rank-1 56.4 (fixed number of clusters); 12 epochs in stage 1."""
    config = _trained_on(dataset)
    return replace(config, intra=replace(config.intra, epochs=_LONG_INTRA_EPOCHS))


def market1501_threshold(dataset: str = "market1501") -> IICSConfig:
    """IICS with a threshold of distance on Market-1501: mAP 73.9, rank-1 90.1."""
    return _with_threshold(market1501(dataset))


def dukemtmc_threshold(dataset: str = "dukemtmc") -> IICSConfig:
    """IICS with a threshold of distance on DukeMTMC-reID: mAP 66.2, rank-1 80.8."""
    return _with_threshold(dukemtmc(dataset))


def msmt17_threshold(dataset: str = "msmt17") -> IICSConfig:
    """IICS with a threshold of distance on MSMT17: mAP 31.9, rank-1 62.6; 12 epochs in stage 1."""
    return _with_threshold(msmt17(dataset))


def paper(dataset: str) -> IICSConfig:
    """Return the published settings: a fixed number of clusters; elsewhere a threshold.

    600 clusters of every camera were chosen for data sets of 702 to 1,041 people; data sets that
    IICS was not published on, and one's own images, may have far fewer.
    """
    if dataset.startswith("msmt17"):
        return msmt17(dataset)
    published = ("market1501", "dukemtmc")
    return market1501(dataset) if dataset in published else market1501_threshold(dataset)


def demo(dataset: str = "market1501") -> IICSConfig:
    """Minutes on two CPU cores: a shallow network, small images. Made for synthetic data.

    Stages, losses and batches are those of the variant `threshold`; what is smaller is the network,
    the images, the padding, the number of cycles, and the number of people, on which clusters and
    shares depend. One learning rate serves all: without ImageNet weights there is no part to be
    spared.
    """
    config = market1501_threshold(dataset)
    return replace(
        config,
        data=replace(config.data, height=128, width=64, test_batch_size=64),
        model=ModelConfig(backbone="resnet10", weights="none"),
        augment=replace(config.augment, pad=4),
        cycles=5,
        intra=replace(config.intra, clusters=60, share=0.02),
        inter=replace(config.inter, clusters=80, share=0.015),
        optim=replace(config.optim, lr=0.01, backbone_factor=1.0),
        run=RunConfig(eval_every=1),
    )


def _trained_on(dataset: str) -> IICSConfig:
    config = IICSConfig()
    return replace(config, data=replace(config.data, dataset=dataset))


def _with_threshold(config: IICSConfig) -> IICSConfig:
    return replace(config, variant="threshold")


PRESETS: Mapping[str, Callable[[str], IICSConfig]] = {
    "paper": paper,
    "demo": demo,
    "market1501": market1501,
    "dukemtmc": dukemtmc,
    "msmt17": msmt17,
    "market1501-threshold": market1501_threshold,
    "dukemtmc-threshold": dukemtmc_threshold,
    "msmt17-threshold": msmt17_threshold,
}

# Whatever has cameras.
DATASETS = (
    *("market1501", "dukemtmc", "msmt17", "msmt17_trainval"),
    *("ltcc", "prcc", "folder", "csv"),
)


# The result tables of the authors' repository; rank 5 and 10 are known of the fixed variant only.
PUBLISHED: Mapping[Variant, Mapping[str, Mapping[str, float]]] = {
    "fixed": {
        "market1501/standard": {"mAP": 0.729, "rank1": 0.895, "rank5": 0.952, "rank10": 0.970},
        "dukemtmc/standard": {"mAP": 0.644, "rank1": 0.800, "rank5": 0.890, "rank10": 0.916},
        "msmt17/standard": {"mAP": 0.269, "rank1": 0.564, "rank5": 0.688, "rank10": 0.734},
    },
    "threshold": {
        "market1501/standard": {"mAP": 0.739, "rank1": 0.901},
        "dukemtmc/standard": {"mAP": 0.662, "rank1": 0.808},
        "msmt17/standard": {"mAP": 0.319, "rank1": 0.626},
    },
}
"""Published figures by variant and protocol, as fractions."""

SOURCE: Mapping[Variant, str] = {
    "fixed": "Xuan and Zhang, CVPR 2021, fixed number of clusters",
    "threshold": "IICS repository, threshold of distance",
}
"""Where they are from."""

PUBLISHED_WITHOUT_RERANK: Mapping[str, Mapping[str, float]] = {
    "market1501/standard": {"mAP": 0.721, "rank1": 0.888, "rank5": 0.953, "rank10": 0.969},
    "dukemtmc/standard": {"mAP": 0.591, "rank1": 0.769, "rank5": 0.861, "rank10": 0.898},
    "msmt17/standard": {"mAP": 0.186, "rank1": 0.457, "rank5": 0.577, "rank10": 0.628},
}
"""The paper's rows that cluster plain cosine distances, by protocol, as fractions."""

SOURCE_WITHOUT_RERANK = "Xuan and Zhang, CVPR 2021, fixed number of clusters, no re-ranking"
"""Where they are from."""

CITATION = (
    "Xuan, Zhang: Intra-Inter Camera Similarity for Unsupervised Person Re-Identification. "
    "CVPR 2021."
)


def _require_share(name: str, share: float) -> None:
    require(
        0 <= share < 1, f"{name}={share} is no share of all pairs; use 0 to below 1, e.g. 0.0017"
    )
