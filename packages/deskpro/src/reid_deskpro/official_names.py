"""How the files of DeskPro's official code name its parameters, and what else is in them.

Keys are ours after ``model.`` (Lightning) or ``module.`` (DataParallel); every branch of an LMBN is
there twice, a second time as ``branches.<number>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from reid_core.engine.weights import read_torch_file
from reid_core.errors import CheckpointError

__all__ = [
    "BRANCHES",
    "NETWORKS",
    "TEACHER",
    "StateDict",
    "first_keys",
    "networks_of",
    "num_pids_of",
    "own_names",
    "read_foreign_file",
    "width_of",
]

StateDict = dict[str, Tensor]

NETWORKS = ("face_net", "lr_face_net", "nocloth_net")
"""The teacher, the face stream and the body stream."""

TEACHER = NETWORKS[0]

BRANCHES = ("global_branch", "part_branch", "channel_branch")
"""The branches of an LMBN in the order of their second names."""

_STEM_WEIGHT, _STEM_CHANNELS = "backbone.0.conv.weight", 64  # at width 1

# What the official files hold objects of, beside tensors and plain values.
_FOREIGN_PACKAGES = ("argparse", "pytorch_lightning", "yacs")


def read_foreign_file(path: Path) -> object:
    """Read a file of the official code; nothing in it is executed.

    Raises:
        CheckpointError: When the file is missing, damaged or refused as unsafe.
    """
    content: object = read_torch_file(path, stand_ins=_FOREIGN_PACKAGES)
    return content


def own_name(key: str) -> str:
    """Name an official parameter as in ours: no wrappers, one name per branch."""
    parts = [part for part in key.split(".") if part not in ("module", "model")]
    name = ".".join(parts)
    found = re.fullmatch(r"(\w+)\.branches\.([012])\.(.+)", name)
    return name if found is None else f"{found[1]}.{BRANCHES[int(found[2])]}.{found[3]}"


def own_names(official: Mapping[str, Tensor]) -> StateDict:
    """Return a state dict with our names; second names count only where the first are absent."""
    state: StateDict = {}
    for key, value in official.items():
        own = own_name(key)
        if own not in state or ".branches." not in key:
            state[own] = value
    return state


def networks_of(state: Iterable[str]) -> tuple[str, ...]:
    """Return which of ``NETWORKS`` the keys of a state dict belong to."""
    starts = {key.partition(".")[0] for key in state}
    return tuple(name for name in NETWORKS if name in starts)


def num_pids_of(state: Mapping[str, Tensor]) -> int | None:
    """Return the identities of the first classifier; all have as many in a network that loads."""
    rows = [_rows(value) for key, value in state.items() if key.endswith("classifier.weight")]
    return rows[0] if rows else None


def width_of(state: Mapping[str, Tensor], where: str) -> float:
    """Return the factor of OSNet's channels by the first convolution there is."""
    for key, value in state.items():
        if key.endswith(_STEM_WEIGHT):
            return _rows(value) / _STEM_CHANNELS
    raise CheckpointError(f"{where} lacks {_STEM_WEIGHT}; its first keys are {first_keys(state)}")


def _rows(value: Tensor) -> int:
    """Return the length of the first axis; 0 of a single number, which only damage leaves."""
    return value.shape[0] if value.ndim else 0


def first_keys(state: Iterable[str]) -> str:
    """Return the first keys of a state dict, for messages."""
    return ", ".join(list(state)[:5])
