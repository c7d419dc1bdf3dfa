"""Checkpoints of the official CSSC code, read and written.

An official file is one ``torch.save`` dict: ``model_state_dict``, ``optimizer_state_dict`` (Adam),
``rank1`` and ``mAP`` of the first protocol as NumPy numbers, and ``epoch``, the one just finished,
from 0 (the name of the file counts from 1). Our parameter names are the official ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

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
from reid_cssc.model import CSSC, without_heads

__all__ = [
    "OfficialCheckpoint",
    "parse_official",
    "read_official",
    "save_official",
    "to_official",
]

StateDict = dict[str, Tensor]

# Our (and the official) names of trunk parts, and torchvision's.
_TRUNK = {
    "backbone_before_layer4.4": "layer1",
    "backbone_before_layer4.5": "layer2",
    "backbone_before_layer4.6": "layer3",
    "backbone_layer41_branch1": "layer4.0",
    "backbone_layer42_branch1": "layer4.1",
    "backbone_layer43": "layer4.2",
}


@dataclass(frozen=True, kw_only=True)
class OfficialCheckpoint:
    """An official checkpoint.

    Attributes:
        source: Where it came from, for messages.
        state: State dict of the network, without a prefix of DataParallel.
        optimizer: State of Adam as PyTorch stores it; empty where the file has none.
        rank1: Rank-1 in [0, 1] of the first protocol, or None.
        mean_ap: Its mAP in [0, 1], or None.
        epoch: Epoch from 0 that was just finished, or None.
    """

    source: str
    state: StateDict
    optimizer: Mapping[str, Any]
    rank1: float | None
    mean_ap: float | None
    epoch: int | None

    def inference_network(self, *, last_stride: Literal[1, 2] = 1) -> CSSC:
        """Return the test-time network in evaluation mode; training heads are left in the file.

        Args:
            last_stride: Stride that it was trained with; no weight tells it.

        Raises:
            CheckpointError: When the backbone cannot be told from the weights, or does not fit.
        """
        backbone = self._backbone()
        network = CSSC(None, backbone=backbone, last_stride=last_stride)
        hint = f"It was taken for a CSSC network on {backbone}."
        load_state(network, without_heads(self.state), source=self._where, hint=hint)
        return network.eval()

    def network(self, *, last_stride: Literal[1, 2] = 1) -> CSSC:
        """Return the network with its training heads, in evaluation mode.

        The number of identities is that of the last classifier's rows.

        Args:
            last_stride: As in ``inference_network``.

        Raises:
            CheckpointError: When there is no classifier, the backbone cannot be told from the
                weights, or they do not fit.
        """
        rows = self.state.get("classifier.weight")
        if rows is None:
            raise CheckpointError(
                f"{self._where} lacks classifier.weight: it can be evaluated, but its training "
                "heads are not there"
            )
        network = CSSC(len(rows), backbone=self._backbone(), last_stride=last_stride)
        self.load_into(network)
        return network.eval()

    def load_into(self, network: CSSC) -> None:
        """Load the weights into a network of the same sizes, with training heads.

        Args:
            network: Changed in place.

        Raises:
            CheckpointError: When they do not fit, e.g. for another number of identities.
        """
        hint = "Backbone and number of identities must be those it was trained with."
        load_state(network, self.state, source=self._where, hint=hint)

    def load_optimizer(self, optimizer: Optimizer) -> None:
        """Load Adam's moments and step counts, if the file has them; rates and decay stay.

        Args:
            optimizer: Adam over the trained parameters in their order; changed in place.

        Raises:
            CheckpointError: When they belong to other parameters.
        """
        stored = self.optimizer.get("state")
        if not stored:
            return
        # In a file that counts the frozen shifts too, they have numbers but no state.
        moments = dict(enumerate(stored[number] for number in sorted(stored)))
        found = [_shape(moment) for moment in moments.values()]
        trained = [item.shape for group in optimizer.param_groups for item in group["params"]]
        if found != trained:
            raise CheckpointError(
                f"optimizer_state_dict of {self.source} holds the state of {len(found)} "
                f"parameters, this network trains {len(trained)} (or of other shapes); Adam's "
                "state can only be continued with the network that it belongs to"
            )
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})

    @property
    def _where(self) -> str:
        return f"model_state_dict of {self.source}"

    def _backbone(self) -> BackboneName:
        backbone = detect_backbone(_torchvision_keys(self.state))
        if backbone is None:
            raise CheckpointError(
                f"{self._where} belongs to no known CSSC network; its first keys are "
                f"{', '.join(list(self.state)[:5])}"
            )
        return backbone


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of CSSC's official code, without running code in it.

    Args:
        path: ``.pth`` or like file.

    Raises:
        CheckpointError: When the file is missing, damaged, refused as unsafe, or has another
            layout.
    """
    return parse_official(read_torch_file(path), source=str(path))


def parse_official(content: object, *, source: str) -> OfficialCheckpoint:
    """Take an official checkpoint apart.

    Args:
        content: What ``read_torch_file`` returned.
        source: Where it came from, for messages.

    Raises:
        CheckpointError: When the layout is another one.
    """
    values = require_official(content, method="CSSC", source=source)
    optimizer = values.get("optimizer_state_dict")
    return OfficialCheckpoint(
        source=source,
        state=dict(strip_prefix(values["model_state_dict"], "module.")),
        optimizer=optimizer if isinstance(optimizer, Mapping) else {},
        rank1=read_number(values.get("rank1")),
        mean_ap=read_number(values.get("mAP")),
        epoch=read_whole(values.get("epoch")),
    )


def to_official(
    network: CSSC, optimizer: Mapping[str, Any], *, rank1: float, mean_ap: float, epoch: int
) -> dict[str, Any]:
    """Return a network as the official code saves it.

    Args:
        network: With training heads; its values are copied to the CPU.
        optimizer: State dict of Adam over the trained parameters.
        rank1: Rank-1 in [0, 1] of the standard (or same-clothes) protocol.
        mean_ap: Its mAP in [0, 1].
        epoch: Epoch from 0 that was just finished.

    Returns:
        Contents for ``torch.save``; the official loader accepts them for ``resnet50``.
    """
    return {
        "model_state_dict": copy_to_cpu(network.state_dict()),
        "optimizer_state_dict": dict(optimizer),
        "rank1": np.float32(rank1),
        "mAP": np.float64(mean_ap),
        "epoch": epoch,
    }


def save_official(
    path: Path,
    network: CSSC,
    optimizer: Mapping[str, Any],
    *,
    rank1: float,
    mean_ap: float,
    epoch: int,
) -> None:
    """Write a network as a checkpoint of the official code; an earlier file stays on failure.

    Args:
        path: The file, e.g. ``checkpoint.pth``.
        network: As in ``to_official``.
        optimizer: As in ``to_official``.
        rank1: As in ``to_official``.
        mean_ap: As in ``to_official``.
        epoch: As in ``to_official``.

    Raises:
        OutputError: When the file cannot be written.
    """
    content = to_official(network, optimizer, rank1=rank1, mean_ap=mean_ap, epoch=epoch)
    save_torch_file(path, content)


def _torchvision_keys(state: Mapping[str, Tensor]) -> list[str]:
    """Return torchvision's names of the trunk's parameters, branch 2 left out."""
    keys = []
    for key in state:
        for own, name in _TRUNK.items():
            if key.startswith(f"{own}."):
                keys.append(f"{name}{key.removeprefix(own)}")
    return keys


def _shape(moment: object) -> torch.Size | None:
    """Return the shape of the parameter that a state of Adam belongs to."""
    average = moment.get("exp_avg") if isinstance(moment, Mapping) else None
    return average.shape if isinstance(average, Tensor) else None
