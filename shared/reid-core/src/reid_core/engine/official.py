"""Values in checkpoints that the code of a method's authors wrote with ``torch.save``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import CheckpointError
from reid_core.files import atomic_file

__all__ = [
    "copy_to_cpu",
    "is_state_dict",
    "read_number",
    "read_whole",
    "require_official",
    "save_torch_file",
]


def is_state_dict(value: object) -> bool:
    """Tell whether a value maps at least one name to tensors, and nothing else."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def require_official(
    content: object, *, method: str, source: str, key: str = "model_state_dict"
) -> Mapping[str, Any]:
    """Return the contents of a checkpoint that holds a network's state dict.

    Args:
        content: What ``read_torch_file`` returned.
        method: The method, for people.
        source: Where it came from, for messages.
        key: Under which the state dict is.

    Raises:
        CheckpointError: When the layout is another one.
    """
    if isinstance(content, Mapping) and is_state_dict(content.get(key)):
        return content
    found = sorted(map(str, content)) if isinstance(content, Mapping) else []
    raise CheckpointError(
        f"{source} is no checkpoint of the official {method} code: it must be a dict with "
        f"{key!r}, but is a {type(content).__name__}"
        + (f" with {', '.join(found[:6])}" if found else "")
    )


def read_number(value: object) -> float | None:
    """Return a number of Python or NumPy; None for anything else."""
    return float(value) if isinstance(value, int | float | np.number) else None


def read_whole(value: object) -> int | None:
    """Return a whole number of Python or NumPy; None for anything else."""
    return int(value) if isinstance(value, int | np.integer) else None


def copy_to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors on the CPU, in the same order."""
    return {key: value.detach().to("cpu", copy=True) for key, value in state.items()}


def save_torch_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dict as ``torch.save`` does; an earlier file stays on failure.

    Raises:
        OutputError: When the file cannot be written.
    """
    with atomic_file(path) as file:
        torch.save(dict(content), file)
