"""DeskPro's settings and presets. Imports no torch, so that ``deskpro-train --help`` is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from reid_core.config import DataConfig, RunConfig, require
from reid_deskpro.stage_config import (
    NetworkConfig,
    StageConfig,
    StreamLossConfig,
    deskpro_data,
)

__all__ = [
    "CITATION",
    "DATASETS",
    "PRESETS",
    "PUBLISHED",
    "SOURCE",
    "TEACHER_PRESETS",
    "DeskProConfig",
    "LossConfig",
    "ModelConfig",
    "TeacherConfig",
    "celeb",
    "celeb_light",
    "demo",
    "paper",
    "prcc",
    "teacher_of",
]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(NetworkConfig):
    """The streams, each a light multi-branch network."""

    mode: Literal["all", "body", "face"] = "all"
    """Streams: `all`, or one alone."""


@dataclass(frozen=True, kw_only=True)
class LossConfig(StreamLossConfig):
    """Losses of the heads, what the teacher knows, and what the attention is taught."""

    distill: bool = True
    """Teach the face stream by the teacher; without, its identity losses have their full weight."""
    alpha: float = 0.7
    """Weight of the distillation; the identity losses of the face stream have the rest of 1."""
    temperature: float = 5.0
    """Temperature of the distillation."""
    face_metric_weight: float = 1.0
    """Factor of the Triplet or MSLoss terms of the face stream beside a teacher."""
    teacher_mode: Literal["train", "eval"] = "train"
    """How the teacher is run: `train` normalises by the batch and drops rows (official)."""
    attention_weight: float = 7.0
    """Weight of the squared difference of attention and mask."""
    mask_floor: Literal["exact", "clamp"] = "exact"
    """What becomes of masks near 0: `exact` zeros are 0.1 (official), or `clamp` all below 0.1."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        require(0 <= self.alpha <= 1, f"loss.alpha={self.alpha} must lie in [0, 1]")
        require(self.temperature > 0, f"loss.temperature={self.temperature} must be above 0")
        for name in ("face_metric_weight", "attention_weight"):
            value = getattr(self, name)
            require(value >= 0, f"loss.{name}={value} must not be negative")


@dataclass(frozen=True, kw_only=True)
class _TeacherNetwork:
    """A base class, so that these fields come before those of both stages."""

    data: DataConfig = field(default_factory=deskpro_data)
    model: NetworkConfig = field(default_factory=NetworkConfig)
    loss: StreamLossConfig = field(default_factory=StreamLossConfig)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(StageConfig, _TeacherNetwork):
    """Everything that defines the training of a teacher (stage 1)."""


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """A base class, so that these fields come before those of both stages."""

    data: DataConfig = field(default_factory=deskpro_data)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: str = "auto"
    """Teacher of the face stream: a file of deskpro-teacher or of the authors, or `auto`: trained
    first, in the folder `teacher` of the run."""
    teacher_epochs: int = 140
    """Epochs of its training where it is trained first."""


@dataclass(frozen=True, kw_only=True)
class DeskProConfig(StageConfig, _Networks):
    """Everything that defines one DeskPro training run (stage 2)."""

    start_from: Path | None = None
    """Official checkpoint to continue from, at the epoch after its own."""

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        super().__post_init__()
        require(
            self.teacher_epochs >= 1, f"teacher_epochs={self.teacher_epochs} must be at least 1"
        )

    @property
    def uses_teacher(self) -> bool:
        """Whether there is a face stream that learns from a teacher."""
        return self.model.mode != "body" and self.loss.distill and self.loss.alpha > 0


def teacher_of(config: DeskProConfig) -> TeacherConfig:
    """Return the training of the teacher for a run: same data, network, losses and batches."""
    model, loss = config.model, config.loss
    return TeacherConfig(
        data=config.data,
        model=NetworkConfig(
            width=model.width,
            osnet=model.osnet,
            face_height=model.face_height,
            face_width=model.face_width,
            weights=model.weights,
        ),
        loss=StreamLossConfig(
            recipe=loss.recipe, margin=loss.margin, label_smoothing=loss.label_smoothing
        ),
        optim=config.optim,
        augment=config.augment,
        epochs=config.teacher_epochs,
        batch_size=config.batch_size,
        num_instances=config.num_instances,
        protocols=config.protocols,
        run=config.run,
    )


def celeb(dataset: str = "celeb") -> DeskProConfig:
    """DeskPro on Celeb-reID: the commands of the official README (alpha 0.7, T 5)."""
    config = DeskProConfig()
    return replace(config, data=replace(config.data, dataset=dataset, test_batch_size=64))


def celeb_light(dataset: str = "celeb_light") -> DeskProConfig:
    """DeskPro on Celeb-reID-light: the commands of the official README (alpha 0.7, T 5)."""
    return celeb(dataset)


def prcc(dataset: str = "prcc") -> DeskProConfig:
    """DeskPro on PRCC: the commands of the official README (alpha 0.8, T 1)."""
    config = DeskProConfig()
    return replace(
        config,
        data=replace(config.data, dataset=dataset),
        loss=replace(config.loss, alpha=0.8, temperature=1.0),
    )


def paper(dataset: str) -> DeskProConfig:
    """Return the published settings for a data set; for your own data, Celeb-reID's."""
    return prcc(dataset) if dataset.startswith("prcc") else celeb(dataset)


def demo(dataset: str = "prcc") -> DeskProConfig:
    """Minutes on two CPU cores: narrow networks, small images. Made for synthetic data.

    Streams, losses and the order of the steps are those of the paper; what is smaller is the
    networks, the images and the number of epochs, and with it the warm-up. The learning rate is
    higher: without ImageNet weights there is nothing to be spared.
    """
    config = paper(dataset)
    return replace(
        config,
        data=replace(config.data, height=128, width=64, test_batch_size=64),
        model=ModelConfig(width=0.25, face_height=64, face_width=64, weights="none"),
        optim=replace(config.optim, lr=1.5e-3, warmup_epochs=2),
        teacher_epochs=6,
        epochs=12,
        run=RunConfig(eval_every=0),
    )


PRESETS: Mapping[str, Callable[[str], DeskProConfig]] = {
    "paper": paper,
    "demo": demo,
    "prcc": prcc,
    "celeb": celeb,
    "celeb-light": celeb_light,
}


def _teacher_preset(build: Callable[[str], DeskProConfig], dataset: str) -> TeacherConfig:
    return teacher_of(build(dataset))


TEACHER_PRESETS: Mapping[str, Callable[[str], TeacherConfig]] = {
    name: partial(_teacher_preset, build) for name, build in PRESETS.items()
}
"""The same for ``deskpro-teacher``."""

DATASETS = (
    "prcc",
    "celeb",
    "celeb_light",
    "prcc_lr_hr_mask",
    "celeb_lr_hr_mask",
    "celeb_light_lr_hr_mask",
    "ltcc",
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

PUBLISHED: Mapping[str, Mapping[str, float]] = {}
"""Empty: the figures of the paper have not been confirmed in a public source."""

SOURCE = "Wu et al., ICIP 2022"

CITATION = (
    "Wu, Liu, Shi, Tang, Guo: Identity-Sensitive Knowledge Propagation for Cloth-Changing Person "
    "Re-Identification. ICIP 2022."
)
