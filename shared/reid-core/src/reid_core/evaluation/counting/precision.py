"""How fast products are computed. It changes the speed of an evaluation, never its result.

``fp32`` products take their inputs as they are. ``tf32`` and ``bf16`` let the hardware round the
inputs to 10 and 7 bits of mantissa (the sums stay in float32), so more pairs are near enough to a
threshold to be scored again. ``auto`` is float32 by the fastest kernel that proves to be float32:
on some processors PyTorch's default library is half as fast as the one that it uses when rounding
is *permitted*, although that one does not round there either. A probe tells which is the case, and
the engine compares every tile with scores that it knows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation.counting.scores import Scores, in_float64

__all__ = ["PRECISIONS", "Precision", "check_precision", "fast_products", "rounding_norms"]

Precision = Literal["auto", "fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "tf32", "bf16")

# PyTorch's names of the permissions.
_PERMISSIONS = {"fp32": "ieee", "tf32": "tf32", "bf16": "bf16"}

# Rows of a block in which rounding errors are measured.
_BLOCK = 4096


def check_precision(precision: str) -> None:
    """Refuse unknown names.

    Raises:
        ConfigError: The name is not in ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"no precision is called {precision!r}; use {', '.join(PRECISIONS)} (results are the "
            "same, the time is not)"
        )


@contextmanager
def fast_products(device: torch.device, precision: Precision = "auto") -> Iterator[None]:
    """Have float32 products computed in the precision given inside the block.

    A training script may have allowed others. The settings found are put back. No gradients are
    recorded, and autocast is off.

    PyTorch has one precision for all threads: where several evaluate at once, the finest that one
    of them asks for holds, and the last to end puts back what the first found.

    Args:
        device: Where the products are computed.
        precision: One of ``PRECISIONS``.
    """
    permission = _PERMISSIONS.get(precision, "ieee")
    if precision == "auto" and device.type == "cpu" and _permission_keeps_float32():
        permission = "bf16"
    _PERMITTED.enter(permission)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _PERMITTED.leave(permission)


def rounding_norms(features: Tensor, precision: Precision) -> Scores:
    """Bound what every row loses when its entries are rounded.

    Args:
        features: (N, D) float32.
        precision: ``tf32`` (10 bits of mantissa) or ``bf16`` (7 bits).

    Returns:
        (N,) float64 upper bounds of ||x - x'||, x' the rounded row.
    """
    losses = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        rows = features[start : start + _BLOCK]
        if precision == "bf16":
            lost = rows - rows.bfloat16().float()
        else:
            # Tensor cores cut TF32 inputs off, which loses more than rounding to the nearest.
            lost = rows - (rows.contiguous().view(torch.int32) & -(2**13)).view(torch.float32)
        norms = torch.linalg.vector_norm(in_float64(lost), dim=1)
        losses[start : start + len(rows)] = norms.cpu().numpy()
    return losses * 1.001


class _Permissions:
    """What the open blocks of ``fast_products`` permit, in all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[str] = []
        self._found: tuple[str, str, bool] = ("none", "none", True)

    def enter(self, permission: str) -> None:
        """Begin a block; the first notes the settings that it finds."""
        with self._lock:
            cuda, mkldnn = _backends()
            if not self._open:
                reduced = cuda.allow_bf16_reduced_precision_reduction
                self._found = (cuda.fp32_precision, mkldnn.fp32_precision, reduced)
            self._open.append(permission)
            self._set()

    def leave(self, permission: str) -> None:
        """End a block that was begun with this permission."""
        with self._lock:
            self._open.remove(permission)
            self._set()

    def _set(self) -> None:
        cuda, mkldnn = _backends()
        if not self._open:
            cuda.fp32_precision, mkldnn.fp32_precision = self._found[:2]
            cuda.allow_bf16_reduced_precision_reduction = self._found[2]
            return
        finest = min(self._open, key=list(_PERMISSIONS.values()).index)
        # CUDA knows no such permission: bfloat16 inputs are converted there.
        cuda.fp32_precision = "ieee" if finest == "bf16" else finest
        mkldnn.fp32_precision = finest
        cuda.allow_bf16_reduced_precision_reduction = False


def _backends() -> tuple[Any, Any]:
    return torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


# PyTorch's own settings are those of the process, and so is what they were.
_PERMITTED = _Permissions()


@cache
def _permission_keeps_float32() -> bool:
    """Tell whether CPU products that may round their inputs to bfloat16 do not round them.

    All inputs are 1 + 2**-23, which neither bfloat16 nor TF32 can hold, and every product has one
    term only, so that its float32 value is known to the last bit.
    """
    value = 1 + 2.0**-23
    # A script may have set another type or device as PyTorch's default.
    gallery = torch.full((256, 512), value, dtype=torch.float32, device="cpu")
    queries = torch.zeros_like(gallery[:64]).fill_diagonal_(value)
    expected = gallery[:1, :1].double().square().float()
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # set at run time
    found = backend.fp32_precision
    try:
        backend.fp32_precision = "bf16"
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return bool((queries @ gallery.T == expected).all())
    finally:
        backend.fp32_precision = found
