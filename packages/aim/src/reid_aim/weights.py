"""Checkpoints of the official AIM release, read and written.

An official file is one ``torch.save`` dict: six state dicts (``model_state_dict`` and so on), the
cloth-changing rank-1 as a NumPy number and the epoch from 0. Our parameter names are the official
ones; what differs is a never-used ImageNet classifier, ``features.fc``, that the official clothing
branch carries. It is dropped when read, and written as zeros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reid_aim.model import AIM, IDBranch
from reid_core.engine.official import (
    copy_to_cpu,
    is_state_dict,
    read_number,
    read_whole,
    require_official,
    save_torch_file,
)
from reid_core.engine.weights import read_torch_file
from reid_core.errors import CheckpointError
from reid_core.models.loading import load_state, strip_prefix
from reid_core.models.pooling import PoolingName
from reid_core.models.resnet import BackboneName, detect_backbone

__all__ = [
    "PARTS",
    "OfficialCheckpoint",
    "official_state_dicts",
    "parse_official",
    "read_official",
    "save_official",
    "to_official",
]

StateDict = dict[str, Tensor]

PARTS = ("model", "model2", "fuse", "classifier", "clothes_classifier", "clothes_classifier2")
"""Our submodules, in the order of the official file; its keys add ``_state_dict``."""

_UNUSED = ("features.fc.weight", "features.fc.bias")
_NUM_IMAGENET_CLASSES = 1000

# CAL numbers its trunk's children instead of naming them; 2 and 3 are ReLU and max-pooling.
_CAL_TRUNK = dict(
    zip("014567", ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"), strict=True)
)


@dataclass(frozen=True, kw_only=True)
class OfficialCheckpoint:
    """An official checkpoint with our parameter names.

    Attributes:
        source: Where it came from, for messages.
        method: ``AIM``, or ``CAL``, whose identity network is AIM's identity branch.
        parts: State dict of each part that the file holds; ``model`` always, the others perhaps.
        rank1: Cloth-changing rank-1 in [0, 1] that its authors stored, or None.
        epoch: Epoch from 0 that was just finished, or None.
    """

    source: str
    method: Literal["AIM", "CAL"]
    parts: Mapping[str, StateDict]
    rank1: float | None
    epoch: int | None

    def id_branch(
        self, *, pooling: PoolingName | None = None, last_stride: Literal[1, 2] = 1
    ) -> IDBranch:
        """Return the identity branch in evaluation mode: all that test time needs.

        Args:
            pooling: Pooling that it was trained with; default: told by the widths.
            last_stride: Stride that it was trained with; no weight tells it.

        Raises:
            CheckpointError: When the network cannot be told from the weights, or does not fit.
        """
        state = self.parts["model"]
        backbone, pooling = self._backbone(), pooling or self._pooling()
        branch = IDBranch(backbone, pooling=pooling, last_stride=last_stride)
        hint = f"It was taken for a {backbone} with {pooling} pooling."
        load_state(branch, state, source=f"model_state_dict of {self.source}", hint=hint)
        branch.eval()
        return branch

    def network(self, *, pooling: PoolingName | None = None, last_stride: Literal[1, 2] = 1) -> AIM:
        """Return the whole network in evaluation mode, e.g. to continue training.

        Args:
            pooling: As in ``id_branch``.
            last_stride: As in ``id_branch``.

        Raises:
            CheckpointError: When parts are missing, the network cannot be told from the weights, or
                does not fit.
        """
        missing = [f"{name}_state_dict" for name in PARTS if name not in self.parts]
        if missing:
            raise CheckpointError(
                f"{self.source} lacks {', '.join(missing)}: it can be evaluated, but training "
                "cannot continue from it"
            )
        classifier = self.parts["classifier"]
        rows = classifier.get("classifier.weight", classifier.get("weight"))
        clothes_rows = self.parts["clothes_classifier"].get("weight")
        if rows is None or clothes_rows is None:
            raise CheckpointError(
                f"the classifiers in {self.source} hold no weight; their keys are "
                f"{sorted(classifier)} and {sorted(self.parts['clothes_classifier'])}"
            )
        network = AIM(
            num_pids=len(rows),
            num_clothes=len(clothes_rows),
            backbone=self._backbone(),
            pooling=pooling or self._pooling(),
            last_stride=last_stride,
            cosine_identity="weight" in classifier,
        )
        self.load_into(network)
        return network.eval()

    def load_into(self, network: AIM) -> None:
        """Load the parts that the file holds into a network of the same sizes.

        Args:
            network: Changed in place; parts that the file lacks keep their values.

        Raises:
            CheckpointError: When a part does not fit, e.g. for another number of identities.
        """
        for name, state in self.parts.items():
            load_state(
                network.get_submodule(name),
                state,
                source=f"{name}_state_dict of {self.source}",
                hint="Backbone, pooling and the numbers of identities and outfits must be those it "
                "was trained with.",
            )

    def _backbone(self) -> BackboneName:
        backbone = detect_backbone(self.parts["model"])
        if backbone is None:
            raise CheckpointError(
                f"model_state_dict of {self.source} belongs to no known ResNet; its first keys are "
                f"{', '.join(list(self.parts['model'])[:5])}"
            )
        return backbone

    def _pooling(self) -> PoolingName:
        state = self.parts["model"]
        if "globalpooling.p" in state:
            return "gem"
        neck = state.get("bn.weight")
        # The widest batch norm of the trunk has as many channels as its map.
        channels = max(len(value) for key, value in state.items() if ".bn" in key and value.ndim)
        if neck is not None and len(neck) == 2 * channels:
            return "maxavg"
        raise CheckpointError(
            f"the weights in {self.source} do not tell whether average or maximum pooling was "
            "used; say which with pooling='avg' or pooling='max'"
        )


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of AIM's (or CAL's) official code, without running code in it.

    Args:
        path: ``.pth.tar`` or like file.

    Raises:
        CheckpointError: When the file is missing, damaged, refused as unsafe, or has another
            layout.
    """
    return parse_official(read_torch_file(path), source=str(path))


def parse_official(content: object, *, source: str) -> OfficialCheckpoint:
    """Bring the contents of an official checkpoint to our parameter names.

    Args:
        content: What ``read_torch_file`` returned.
        source: Where it came from, for messages.

    Raises:
        CheckpointError: When the layout is another one.
    """
    values = require_official(content, method="AIM", source=source)
    parts: dict[str, StateDict] = {}
    for name in PARTS:
        state = values.get(f"{name}_state_dict")
        if state is None:
            continue
        if not is_state_dict(state):
            raise CheckpointError(f"{name}_state_dict of {source} must map names to tensors")
        parts[name] = dict(strip_prefix(state, "module."))
    is_cal = any(key.startswith("base.") for key in parts["model"])
    if is_cal:
        parts["model"] = {_from_cal(key): value for key, value in parts["model"].items()}
    if "model2" in parts:
        entries = parts["model2"].items()
        parts["model2"] = {key: value for key, value in entries if key not in _UNUSED}
    if "fuse" in parts and "trans.weight" in parts["fuse"]:
        # An older variant of the official fusion names its projection so.
        parts["fuse"]["linear.weight"] = parts["fuse"].pop("trans.weight")
    return OfficialCheckpoint(
        source=source,
        method="CAL" if is_cal else "AIM",
        parts=parts,
        rank1=read_number(values.get("rank1")),
        epoch=read_whole(values.get("epoch")),
    )


def official_state_dicts(network: AIM) -> dict[str, StateDict]:
    """Return the six state dicts with the official keys, in the official order.

    Args:
        network: Its tensors are referred to, not copied.
    """
    states = {name: dict(network.get_submodule(name).state_dict()) for name in PARTS}
    clothing = states["model2"]
    last = max(index for index, key in enumerate(clothing) if key.startswith("features."))
    dim = network.model.num_features
    device = clothing["trans.weight"].device
    # In the official network these exist, are never used, and keep ImageNet's values.
    shapes = ((_NUM_IMAGENET_CLASSES, dim), (_NUM_IMAGENET_CLASSES,))
    unused = {
        key: torch.zeros(shape, device=device) for key, shape in zip(_UNUSED, shapes, strict=True)
    }
    entries = list(clothing.items())
    states["model2"] = {**dict(entries[: last + 1]), **unused, **dict(entries[last + 1 :])}
    return {f"{name}_state_dict": state for name, state in states.items()}


def to_official(network: AIM, *, rank1: float, epoch: int) -> dict[str, Any]:
    """Return a network as the official code saves it.

    Args:
        network: Its values are copied to the CPU.
        rank1: Cloth-changing rank-1 in [0, 1].
        epoch: Epoch from 0 that was just finished.

    Returns:
        Contents for ``torch.save``; the official loader accepts them for ``resnet50``.
    """
    content: dict[str, Any] = {
        name: copy_to_cpu(state) for name, state in official_state_dicts(network).items()
    }
    return {**content, "rank1": np.float64(rank1), "epoch": epoch}


def save_official(path: Path, network: AIM, *, rank1: float, epoch: int) -> None:
    """Write a network as a checkpoint of the official code; an earlier file stays on failure.

    Args:
        path: The file, e.g. ``ltcc.pth.tar``.
        network: As in ``to_official``.
        rank1: As in ``to_official``.
        epoch: As in ``to_official``.

    Raises:
        OutputError: When the file cannot be written.
    """
    save_torch_file(path, to_official(network, rank1=rank1, epoch=epoch))


def _from_cal(key: str) -> str:
    """Name a parameter of CAL's identity network as in ours: ``base.4.0.x`` -> ``layer1.0.x``."""
    found = re.fullmatch(r"base\.(\d+)\.(.+)", key)
    if found is None or found[1] not in _CAL_TRUNK:
        return key
    return f"{_CAL_TRUNK[found[1]]}.{found[2]}"
