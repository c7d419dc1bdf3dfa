"""Checkpoints of the official AGW code (survey and LLCM edition), read and written.

An official file is one ``torch.save`` dict: ``net``, the state dict; ``cmc`` (20 ranks), ``mAP``
and ``mINP`` of the test during training, as NumPy values; and ``epoch`` from 0. Files of fixed
epochs lack ``mINP``.

The official network holds three whole ResNets, of which only two stems and one trunk take part.
The rest keeps the values it was made with: it is dropped when read, and written from given ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from reid_agw.model import AGW, PoolingKind, without_classifier
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
from reid_core.models.pooling import GeM
from reid_core.models.resnet import BackboneName, ResNetTrunk, detect_backbone

__all__ = [
    "Figures",
    "OfficialCheckpoint",
    "official_state_dict",
    "parse_official",
    "read_official",
    "save_official",
    "to_official",
]

StateDict = dict[str, Tensor]

_STAGES = ("layer1", "layer2", "layer3", "layer4")


class _Copy(NamedTuple):
    """One of the three official ResNets.

    Attributes:
        prefix: Of its entries.
        used: Official names of the parts that take part -> ours.
    """

    prefix: str
    used: Mapping[str, str]


# In the order of the official state dict.
_COPIES = (
    _Copy("thermal_module.thermal", {"conv1": "stem_infrared.conv1", "bn1": "stem_infrared.bn1"}),
    _Copy("visible_module.visible", {"conv1": "stem_visible.conv1", "bn1": "stem_visible.bn1"}),
    _Copy("base_resnet.base", {name: name for name in _STAGES}),
)
_NON_LOCAL = {"NL_2": "non_local2", "NL_3": "non_local3"}
# Parts of a non-local block, in the order of the official state dict.
_NON_LOCAL_PARTS = {"g.0": "g", "W.0": "project", "W.1": "norm", "theta": "theta", "phi": "phi"}

_OFFICIAL_GEM_P = 3.0


class Figures(NamedTuple):
    """What an official file holds beside the network: a test during training, of one gallery draw.

    Attributes:
        cmc: Rank-1, rank-2, ... in [0, 1]; 20 of them, or none.
        mean_ap: mAP in [0, 1], or None.
        mean_inp: mINP in [0, 1], or None, as in the files of fixed epochs.
        epoch: Epoch from 0 that was just finished, or None.
    """

    cmc: tuple[float, ...]
    mean_ap: float | None
    mean_inp: float | None
    epoch: int | None


@dataclass(frozen=True, kw_only=True)
class OfficialCheckpoint:
    """An official checkpoint with our parameter names.

    Attributes:
        source: Where it came from, for messages.
        state: State dict of the network, without the parts that take no part.
        figures: What else it holds.
    """

    source: str
    state: StateDict
    figures: Figures

    def inference_network(
        self, *, pooling: PoolingKind | None = None, last_stride: Literal[1, 2] = 1
    ) -> AGW:
        """Return the test-time network in evaluation mode; the classifier is left in the file.

        Args:
            pooling: Pooling that it was trained with; default: ``gem`` beside non-local blocks
                (official method ``agw``), ``avg`` without them (``base``). No weight tells it.
            last_stride: Stride that it was trained with; no weight tells it.

        Raises:
            CheckpointError: When the backbone cannot be told from the weights, or does not fit.
        """
        network = self._build(None, pooling, last_stride)
        hint = f"It was taken for an AGW network on {self._backbone()}."
        load_state(network, without_classifier(self.state), source=self._where, hint=hint)
        return network.eval()

    def network(self, *, pooling: PoolingKind | None = None, last_stride: Literal[1, 2] = 1) -> AGW:
        """Return the network with its classifier, in evaluation mode.

        The number of identities is that of the classifier's rows.

        Args:
            pooling: As in ``inference_network``.
            last_stride: As in ``inference_network``.

        Raises:
            CheckpointError: When there is no classifier, the backbone cannot be told from the
                weights, or they do not fit.
        """
        rows = self.state.get("classifier.weight")
        if rows is None:
            raise CheckpointError(
                f"{self._where} lacks classifier.weight: it can be evaluated, but its classifier "
                "is not there"
            )
        network = self._build(len(rows), pooling, last_stride)
        self.load_into(network)
        return network.eval()

    def load_into(self, network: AGW) -> None:
        """Load the weights into a network of the same sizes, with a classifier.

        Args:
            network: Changed in place.

        Raises:
            CheckpointError: When they do not fit, e.g. for another number of identities.
        """
        hint = "Backbone and number of identities must be those it was trained with."
        load_state(network, self.state, source=self._where, hint=hint)

    @property
    def _where(self) -> str:
        return f"net of {self.source}"

    def _build(
        self, num_pids: int | None, pooling: PoolingKind | None, last_stride: Literal[1, 2]
    ) -> AGW:
        non_local = any(key.startswith("non_local") for key in self.state)
        return AGW(
            num_pids,
            backbone=self._backbone(),
            last_stride=last_stride,
            pooling=pooling or ("gem" if non_local else "avg"),
            non_local=non_local,
        )

    def _backbone(self) -> BackboneName:
        backbone = detect_backbone(self.state)
        if backbone is None:
            raise CheckpointError(
                f"{self._where} belongs to no known AGW network; its first keys are "
                f"{', '.join(list(self.state)[:5])}"
            )
        return backbone


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of AGW's official code, without running code in it.

    Args:
        path: ``.t`` or like file.

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
    values = require_official(content, method="AGW", source=source, key="net")
    state: StateDict = {}
    for official, value in strip_prefix(values["net"], "module.").items():
        key = _own_name(official)
        if key is not None:
            state[key] = value
    figures = Figures(
        cmc=_read_numbers(values.get("cmc")),
        mean_ap=read_number(values.get("mAP")),
        mean_inp=read_number(values.get("mINP")),
        epoch=read_whole(values.get("epoch")),
    )
    return OfficialCheckpoint(source=source, state=state, figures=figures)


def official_state_dict(network: AGW, *, unused: ResNetTrunk) -> StateDict:
    """Return the state dict with the official keys, in the official order.

    Args:
        network: Its tensors are referred to, not copied.
        unused: A ResNet of the same kind; its values fill the parts of the official network that
            take no part. There they stay the start weights.

    Returns:
        1,025 entries for resnet50 with a classifier, 960 without non-local blocks.

    Raises:
        CheckpointError: When the official code has no such network, or ``unused`` is of another
            kind.
    """
    _require_representable(network)
    own, start = network.state_dict(), unused.state_dict()
    kinds = detect_backbone(own), detect_backbone(start)
    if kinds[0] != kinds[1]:
        raise CheckpointError(
            f"the start weights are those of a {kinds[1]}, the network is a {kinds[0]}; the "
            "official layout holds both, and they must be alike"
        )
    names = [f"{copy.prefix}.{key}" for copy in _COPIES for key in start]
    for official, block in _NON_LOCAL.items():
        for number, module in enumerate(network.get_submodule(block).children()):
            for part, name in _NON_LOCAL_PARTS.items():
                entries = module.get_submodule(name).state_dict()
                names += [f"{official}.{number}.{part}.{entry}" for entry in entries]
    names += [key for key in own if key.startswith(("bottleneck.", "classifier."))]
    state = {}
    for name in names:
        key = _own_name(name)
        state[name] = own[key] if key is not None else start[name.split(".", 2)[2]]
    return state


def to_official(network: AGW, figures: Figures, *, unused: ResNetTrunk) -> dict[str, Any]:
    """Return a network as the official code saves it.

    Args:
        network: Its values are copied to the CPU.
        figures: Those that are None are left out.
        unused: As in ``official_state_dict``.

    Returns:
        Contents for ``torch.save``; the official loader accepts them for ``resnet50``.

    Raises:
        CheckpointError: As ``official_state_dict``.
    """
    values = {
        "cmc": np.asarray(figures.cmc, dtype=np.float32),
        "mAP": None if figures.mean_ap is None else np.float64(figures.mean_ap),
        "mINP": None if figures.mean_inp is None else np.float64(figures.mean_inp),
        "epoch": figures.epoch,
    }
    known = {name: value for name, value in values.items() if value is not None}
    return {"net": copy_to_cpu(official_state_dict(network, unused=unused)), **known}


def save_official(path: Path, network: AGW, figures: Figures, *, unused: ResNetTrunk) -> None:
    """Write a network as a checkpoint of the official code; an earlier file stays on failure.

    Args:
        path: The file, e.g. ``sysu_agw_p4_n8_lr_0.1_seed_0_best.t``.
        network: As in ``to_official``.
        figures: As in ``to_official``.
        unused: As in ``official_state_dict``.

    Raises:
        CheckpointError: As ``official_state_dict``.
        OutputError: When the file cannot be written.
    """
    save_torch_file(path, to_official(network, figures, unused=unused))


def _own_name(key: str) -> str | None:
    """Name an official parameter as in ours; None for one that takes no part.

    A name that the official network does not have stays as it is.
    """
    for copy in _COPIES:
        if key.startswith(f"{copy.prefix}."):
            part, _, rest = key.removeprefix(f"{copy.prefix}.").partition(".")
            if part in copy.used:
                return f"{copy.used[part]}.{rest}"
            return None if part in ("conv1", "bn1", *_STAGES) else key
    found = re.fullmatch(r"(NL_[23])\.(\d+)\.(g\.0|W\.0|W\.1|theta|phi)\.(\w+)", key)
    if found is None:
        return key
    return f"{_NON_LOCAL[found[1]]}.{found[2]}.{_NON_LOCAL_PARTS[found[3]]}.{found[4]}"


def _require_representable(network: AGW) -> None:
    """Check that the official code has such a network: as its methods ``agw`` or ``base``."""
    blocks = [*network.non_local2, *network.non_local3]
    pool = network.pool
    gem = isinstance(pool, GeM)
    problems = {
        "GeM pooling comes with non-local blocks, average pooling without": gem != bool(blocks),
        "the exponent of GeM is 3 and not trained": gem
        and (isinstance(pool.p, nn.Parameter) or pool.p != _OFFICIAL_GEM_P),
        "the inner width of the non-local blocks is 1": any(
            block.theta.out_channels != 1 for block in blocks
        ),
        "the last stride is 1": any(
            isinstance(part, nn.Conv2d) and part.stride != (1, 1)
            for part in network.layer4.modules()
        ),
    }
    found = [rule for rule, broken in problems.items() if broken]
    if found:
        raise CheckpointError(
            f"the official code has no such network: there, {'; and '.join(found)}. Use the "
            "model.safetensors, or export it as onnx or pt2"
        )


def _read_numbers(value: object) -> tuple[float, ...]:
    """Return a list of numbers, or of an array; empty for anything else."""
    if not isinstance(value, np.ndarray | list | tuple):
        return ()
    numbers = [read_number(item) for item in value]
    return tuple(number for number in numbers if number is not None)
