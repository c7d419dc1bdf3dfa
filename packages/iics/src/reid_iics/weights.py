"""Checkpoints of the official IICS code, read and written.

An official file is one ``torch.save`` dict: ``state_dict`` of backbone and head of an inter-camera
stage, ``epoch`` and ``cluster_epoch`` (both the number of cycles done) and ``best_top1``, the best
rank-1 on the test set so far. There is no optimiser in it. Our parameter names are the official
ones. A block's mixing weight is stored under several names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from reid_core.engine.official import (
    copy_to_cpu,
    read_number,
    read_whole,
    require_official,
    save_torch_file,
)
from reid_core.engine.weights import read_torch_file
from reid_core.errors import CheckpointError
from reid_core.models.loading import load_state, strip_prefix
from reid_core.models.resnet import BackboneName, detect_backbone
from reid_iics.model import IICS, Head

__all__ = [
    "OfficialCheckpoint",
    "parse_official",
    "read_official",
    "save_official",
    "to_official",
]

StateDict = dict[str, Tensor]

_BACKBONE, _HEAD = "model.", "classifier."
_MIXING = ".adaptive_weight"


@dataclass(frozen=True, kw_only=True)
class OfficialCheckpoint:
    """An official checkpoint.

    Attributes:
        source: Where it came from, for messages.
        backbone: State dict of ``IICS``, each mixing weight under all its names.
        head: State dict of ``Head``; empty where the file has none.
        cycles: How many cycles were done, or None.
        rank1: Best rank-1 on the test set so far, as the file has it, or None.
    """

    source: str
    backbone: StateDict
    head: StateDict
    cycles: int | None
    rank1: float | None

    def inference_network(self, *, last_stride: Literal[1, 2] = 1) -> IICS:
        """Return the backbone in evaluation mode.

        Args:
            last_stride: Stride that it was trained with; no weight tells it.

        Raises:
            CheckpointError: When the backbone cannot be told from the weights, or does not fit.
        """
        name = self._name()
        network = IICS(backbone=name, last_stride=last_stride)
        hint = f"It was taken for an IICS network on {name}."
        load_state(network, self.backbone, source=self._where, hint=hint)
        return network.eval()

    def load_into(self, network: IICS) -> None:
        """Load the backbone's weights, e.g. to train on from them.

        Args:
            network: Changed in place.

        Raises:
            CheckpointError: When they belong to another backbone.
        """
        hint = "The backbone must be the one it was trained with."
        load_state(network, self.backbone, source=self._where, hint=hint)

    def inter_head(self) -> Head:
        """Return the head of the last inter-camera stage, in evaluation mode.

        Raises:
            CheckpointError: When there is none, or it is not one head for all cameras.
        """
        rows = self.head.get("1.weight")
        if rows is None or rows.ndim != 2:
            raise CheckpointError(
                f"{self._where} holds no head of an inter-camera stage (classifier.0 and "
                "classifier.1.weight): its backbone can be used, but not its head"
            )
        head = Head(rows.shape[1], len(rows))
        load_state(head, self.head, source=f"head in {self._where}", hint="It is damaged.")
        return head.eval()

    @property
    def _where(self) -> str:
        return f"state_dict of {self.source}"

    def _name(self) -> BackboneName:
        name = detect_backbone(key.removeprefix(_BACKBONE) for key in self.backbone)
        if name is None:
            raise CheckpointError(
                f"{self._where} belongs to no known IICS network; its first keys are "
                f"{', '.join(list(self.backbone)[:5])}"
            )
        return name


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of IICS's official code, without running code in it.

    Args:
        path: ``.pth.tar`` or like file.

    Raises:
        CheckpointError: When the file is missing, damaged, refused as unsafe, has another layout,
            or one block has different mixing weights.
    """
    return parse_official(read_torch_file(path), source=str(path))


def parse_official(content: object, *, source: str) -> OfficialCheckpoint:
    """Take an official checkpoint apart.

    A block's mixing weight must be there under the name of the block; its other names may be
    missing. Entries of neither backbone nor head are ignored, as the official evaluation does.

    Args:
        content: What ``read_torch_file`` returned.
        source: Where it came from, for messages.

    Raises:
        CheckpointError: When the layout is another one, or one block has different mixing weights.
    """
    values = require_official(content, method="IICS", source=source, key="state_dict")
    state = strip_prefix(values["state_dict"], "module.")
    backbone = {key: value for key, value in state.items() if key.startswith(_BACKBONE)}
    if not any(key.endswith(_MIXING) for key in backbone):
        raise CheckpointError(
            f"state_dict of {source} belongs to no known IICS network (there is no "
            f"{_BACKBONE}layer4.0{_MIXING}); its first keys are {', '.join(list(state)[:5])}"
        )
    return OfficialCheckpoint(
        source=source,
        backbone=_complete_mixing(backbone, source=source),
        head={
            key.removeprefix(_HEAD): value for key, value in state.items() if key.startswith(_HEAD)
        },
        cycles=read_whole(values.get("cluster_epoch", values.get("epoch"))),
        rank1=read_number(values.get("best_top1")),
    )


def to_official(network: IICS, head: Head, *, cycles: int, rank1: float) -> dict[str, Any]:
    """Return a network as the official code saves it.

    Args:
        network: The backbone; its values are copied to the CPU.
        head: Of the last inter-camera stage.
        cycles: How many cycles were done.
        rank1: Rank-1 in [0, 1].

    Returns:
        Contents for ``torch.save``; the official evaluation accepts them for ``resnet50``.
    """
    state = copy_to_cpu(network.state_dict())
    for key, value in copy_to_cpu(head.state_dict()).items():
        state[f"{_HEAD}{key}"] = value
    return {
        "state_dict": state,
        "epoch": cycles,
        "best_top1": float(rank1),
        "cluster_epoch": cycles,
    }


def save_official(path: Path, network: IICS, head: Head, *, cycles: int, rank1: float) -> None:
    """Write a network as a checkpoint of the official code; an earlier file stays on failure.

    Args:
        path: The file, e.g. ``checkpoint.pth.tar``.
        network: As in ``to_official``.
        head: As in ``to_official``.
        cycles: As in ``to_official``.
        rank1: As in ``to_official``.

    Raises:
        OutputError: When the file cannot be written.
    """
    save_torch_file(path, to_official(network, head, cycles=cycles, rank1=rank1))


def _complete_mixing(backbone: Mapping[str, Tensor], *, source: str) -> StateDict:
    """Return the state with every block's mixing weight under all names that it has.

    Raises:
        CheckpointError: When a layer has another mixing weight than its block.
    """
    complete = dict(backbone)
    for key in backbone:
        layer = key.removesuffix(".running_mean")
        owner = ".".join(key.split(".")[:3]) + _MIXING  # model.layer3.0.adaptive_weight
        alias = layer + _MIXING
        if layer == key or owner not in backbone:
            continue
        if not torch.equal(complete.setdefault(alias, backbone[owner]), backbone[owner]):
            raise CheckpointError(
                f"state_dict of {source} gives one residual block two mixing weights, {owner} "
                f"{backbone[owner].tolist()} and {alias} {backbone[alias].tolist()}; all layers of "
                "a block share one, so the file is damaged or of another method"
            )
    return complete
