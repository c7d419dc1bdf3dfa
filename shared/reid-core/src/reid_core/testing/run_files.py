"""Reading what the commands leave: records, logs, exported networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.data.companions import COMPANION_KINDS

__all__ = ["read_json", "read_records", "run_exported"]


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records of one kind (``train``, ``eval``, ...) in a run's metrics, in order."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def run_exported(path: Path, inputs: Mapping[str, Tensor]) -> npt.NDArray[np.float32]:
    """Run an exported network as its user would, without the package that wrote it.

    Args:
        path: A ``.onnx`` or ``.pt2`` file of ``<method>-export``.
        inputs: What the file takes, by name and in order; B images (B, 3, H, W) first.

    Returns:
        (B, D) features.
    """
    if path.suffix == ".onnx":
        import onnxruntime

        arrays = {name: value.numpy() for name, value in inputs.items()}
        features: npt.NDArray[np.float32] = onnxruntime.InferenceSession(path).run(None, arrays)[0]
        return features
    names = [name for name in inputs if name in tuple(COMPANION_KINDS)]
    module = torch.export.load(path).module()
    found: Tensor = module(
        *(value for name, value in inputs.items() if name not in names),
        **{name: inputs[name] for name in names},
    )
    return found.detach().numpy()
