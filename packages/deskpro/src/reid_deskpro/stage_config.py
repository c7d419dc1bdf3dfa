"""Settings that the two stages of DeskPro's training share. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from reid_core.config import DataConfig, OptimConfig, RunConfig, require
from reid_core.data.augment_config import AugmentConfig
from reid_core.training_config import require_identity_batches
from reid_deskpro.loss_recipe import parse_loss_recipe

__all__ = [
    "CosineConfig",
    "NetworkConfig",
    "StageConfig",
    "StreamLossConfig",
    "SyncAugmentConfig",
    "deskpro_data",
]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """One light multi-branch network: the teacher, or each stream of DeskPro."""

    width: float = 1.0
    """Factor of OSNet's channels; 1 is DeskPro's."""
    osnet: Literal["deskpro", "standard"] = "deskpro"
    """Streams of OSNet's blocks: `deskpro` runs the first twice and the second never, as all
    official weights need; `standard` is OSNet as published."""
    face_height: int = 224
    """Height in pixels of face crops and restored faces after resizing."""
    face_width: int = 224
    """Width in pixels of face crops and restored faces after resizing."""
    weights: str = "imagenet"
    """Start of every OSNet: `imagenet` (torchreid's file, which must be there), `none`, or a
    file."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.width > 0, f"model.width={self.width} must be above 0")
        for name in ("face_height", "face_width"):
            value = getattr(self, name)
            require(value >= 32, f"model.{name}={value} is too small; use 32 or more pixels")


@dataclass(frozen=True, kw_only=True)
class StreamLossConfig:
    """Losses of the heads of one network."""

    recipe: str = "1*CrossEntropy+1*Triplet"
    """Terms and weights, in the official grammar: CrossEntropy, Triplet, MSLoss."""
    margin: float = 0.7
    """Margin of Triplet (in units of the features; 0: soft margin) and of MSLoss."""
    label_smoothing: float = 0.1
    """Smoothing of the identity targets, in [0, 1)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        parse_loss_recipe(self.recipe)
        require(self.margin >= 0, f"loss.margin={self.margin} must not be negative")
        require(
            0 <= self.label_smoothing < 1,
            f"loss.label_smoothing={self.label_smoothing} must lie in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    """Adam, and its learning rate on a cosine."""

    lr: float | None = None
    """Full learning rate; default (or `auto`): 6e-4 sqrt(batch_size / 20)."""
    weight_decay: float = 5e-4
    """L2 weight decay, on every parameter."""
    schedule: Literal["warmup_cosine", "cosine"] = "warmup_cosine"
    """`warmup_cosine` rises linearly and falls to a thousandth; `cosine` falls to 0 from the
    start."""
    warmup_epochs: int = 10
    """Epochs of the rise; in epoch e from 0 the share is (e + 1) / warmup_epochs."""
    attention_lr_factor: float = 1.0
    """Learning rate of the spatial attention as a multiple of all others'."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.lr is None or self.lr > 0, f"optim.lr={self.lr} must be above 0, or auto")
        require(
            self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay} must not be negative"
        )
        require(
            self.warmup_epochs >= 0,
            f"optim.warmup_epochs={self.warmup_epochs} must not be negative",
        )
        require(
            self.attention_lr_factor > 0,
            f"optim.attention_lr_factor={self.attention_lr_factor} must be above 0",
        )

    def optimizer(self, batch_size: int) -> OptimConfig:
        """Return the settings of the optimiser, the learning rate decided.

        Args:
            batch_size: Images of a batch, for the official rule.
        """
        # Official: computed so whatever the configuration says.
        lr = 6e-4 * (batch_size / 20) ** 0.5 if self.lr is None else self.lr
        return OptimConfig(name="adam", lr=lr, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class SyncAugmentConfig(AugmentConfig):
    """How training images are varied; body, faces and mask of one image alike."""

    crop_scale: float = 1.05
    """Factor of that enlargement, at least 1."""
    rng: Literal["sample", "worker"] = "sample"
    """What shares a draw: the pictures of one image (`sample`), or, as officially, all images that
    one of the `workers` loads in an epoch."""
    workers: int = 4
    """Number of those; every n-th batch is of the same one."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        require(
            self.pad == 0,
            f"augment.pad={self.pad}: padding is not drawn for several pictures of one image; "
            "use augment.crop_prob",
        )
        require(self.workers >= 1, f"augment.workers={self.workers} must be at least 1")


deskpro_data = partial(
    DataConfig, dataset="prcc", height=384, width=128, flip="none", test_batch_size=32
)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What both stages of the training are told."""

    data: DataConfig = field(default_factory=deskpro_data)
    optim: CosineConfig = field(default_factory=CosineConfig)
    augment: SyncAugmentConfig = field(default_factory=SyncAugmentConfig)
    epochs: int = 140
    """Training epochs, also the length of the cosine."""
    batch_size: int = 30
    """Images per batch and process: 5 people with 6 images each."""
    num_instances: int = 6
    """Images per person in a batch; it has batch_size / num_instances people."""
    protocols: tuple[str, ...] = ()
    """Protocols to evaluate, e.g. prcc/cloth_changing_single_shot; default: the published ones."""
    select: Literal["last", "best"] = "last"
    """Weights to keep: the last epoch's, or, as the paper does, those of each stream from the epoch
    in which it was best on the TEST set (of the teacher: the best epoch)."""
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        require(self.epochs >= 1, f"epochs={self.epochs} must be at least 1")
        require_identity_batches(self.batch_size, self.num_instances)
