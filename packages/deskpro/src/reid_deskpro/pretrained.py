"""Start weights of OSNet: a file of torchreid."""

from __future__ import annotations

from pathlib import Path

import torch

from reid_core.errors import CheckpointError, ConfigError
from reid_core.models.pretrained import load_backbone
from reid_deskpro.osnet import OSNetTrunk

__all__ = ["find_osnet", "load_osnet"]

# torchreid's names of the files, by the width of the network.
_IMAGENET_FILES = {
    1.0: "osnet_x1_0_imagenet.pth",
    0.75: "osnet_x0_75_imagenet.pth",
    0.5: "osnet_x0_5_imagenet.pth",
    0.25: "osnet_x0_25_imagenet.pth",
}


def load_osnet(trunk: OSNetTrunk, weights: str | Path, *, width: float) -> None:
    """Load start weights into the trunk; every one of its tensors must be there.

    Args:
        trunk: Changed in place.
        weights: ``none`` (leave it as it is), ``imagenet`` (torchreid's file where PyTorch keeps
            downloaded weights) or a file; ``fc.*`` and ``classifier.*`` of it are ignored.
        width: Of the trunk; says which of torchreid's files ``imagenet`` is.

    Raises:
        ConfigError: ``imagenet`` was asked for a width without such weights.
        CheckpointError: The file is missing, no state dict, or does not fit.
    """
    load_backbone(
        trunk,
        find_osnet(weights, width=width) or "none",
        name=f"torchreid OSNet of width {width:g}",
        imagenet=None,
        heads=("fc.", "classifier."),
    )


def find_osnet(weights: str | Path, *, width: float) -> Path | None:
    """Return the file of start weights, so that a missing one is known before the work begins.

    Args:
        weights: As in ``load_osnet``.
        width: As in ``load_osnet``.

    Returns:
        None for ``none``.

    Raises:
        ConfigError: ``imagenet`` was asked for a width without such weights.
        CheckpointError: There is no such file.
    """
    if str(weights) == "none":
        return None
    path = _imagenet_file(width) if str(weights) == "imagenet" else Path(weights)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path} with weights of OSNet; check the path")
    return path


def _imagenet_file(width: float) -> Path:
    """Return torchreid's file of a width where PyTorch keeps downloaded weights."""
    name = _IMAGENET_FILES.get(width)
    if name is None:
        widths = ", ".join(f"{known:g}" for known in _IMAGENET_FILES)
        raise ConfigError(
            f"there are no ImageNet weights for an OSNet of width {width:g}; use weights 'none' or "
            f"a file, or a width with weights: {widths}"
        )
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path} with ImageNet weights of OSNet. The model zoo of torchreid "
            "(deep-person-reid) lists it under ImageNet pretrained models; nothing here downloads "
            f"it. Put {name} there, or name it as the weights (--model.weights FILE), or start "
            "from random weights (--model.weights none)"
        )
    return path
