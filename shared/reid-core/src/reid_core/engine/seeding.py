"""Seeds, and the state of every random number generator."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["capture_rng", "restore_rng", "seed_everything"]


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy's global generator and torch on all devices with ``seed + rank``.

    Args:
        seed: In 0..2**31 - 1.
        rank: Number of this process; each process draws differently (official behaviour of AIM
            and of its base CAL).
    """
    random.seed(seed + rank)
    np.random.seed(seed + rank)  # noqa: NPY002 - other libraries draw from the global generator
    torch.manual_seed(seed + rank)


def capture_rng() -> dict[str, Any]:
    """Return the state of all generators as tensors and plain values.

    Python's, NumPy's global one, torch's on the CPU, on every CUDA device and on MPS. Made for
    ``torch.save`` and ``torch.load(weights_only=True)``.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    assert name == "MT19937"
    state: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": [],
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Set all generators to a state returned by ``capture_rng``.

    Devices that this machine lacks are left out: a run that moves to another kind of device
    cannot repeat the old one's draws anyway.
    """
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        ("MT19937", keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
    )
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for index, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state, index)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
