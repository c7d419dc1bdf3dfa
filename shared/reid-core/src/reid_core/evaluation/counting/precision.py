"""How fast products are computed. It changes the speed of an evaluation, never its result.

``fp32`` products take their inputs as they are. ``tf32`` and ``bf16`` let the hardware round the
inputs to 10 and 7 bits of mantissa (the sums stay in float32), so more pairs are near enough to a
threshold to be scored again. ``auto`` is float32 by the fastest kernel that proves to be float32:
on some processors PyTorch's default library is half as fast as the one that it uses when rounding
is *permitted*, although that one does not round there either. A probe tells which is the case, and
the engine compares every tile with scores that it knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

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

    Args:
        device: Where the products are computed.
        precision: One of ``PRECISIONS``.
    """
    backends = (
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]  # set at run time
    )
    found = [backend.fp32_precision for backend in backends]
    reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    permission = _PERMISSIONS.get(precision, "ieee")
    if precision == "auto" and device.type == "cpu" and _permission_keeps_float32():
        permission = "bf16"
    try:
        for backend in backends:
            # CUDA knows no such permission: bfloat16 inputs are converted there.
            is_cuda = backend is torch.backends.cuda.matmul
            backend.fp32_precision = "ieee" if is_cuda and permission == "bf16" else permission
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, setting in zip(backends, found, strict=True):
            backend.fp32_precision = setting
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced


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


@cache
def _permission_keeps_float32() -> bool:
    """Tell whether CPU products that may round their inputs to bfloat16 do not round them.

    All inputs are 1 + 2**-23, which neither bfloat16 nor TF32 can hold, and every product has one
    term only, so that its float32 value is known to the last bit.
    """
    value = 1 + 2.0**-23
    queries = torch.zeros(64, 512).fill_diagonal_(value)
    gallery = torch.full((256, 512), value)
    expected = torch.full((64, 256), value, dtype=torch.float64).square().float()
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # set at run time
    found = backend.fp32_precision
    try:
        backend.fp32_precision = "bf16"
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return bool((queries @ gallery.T == expected).all())
    finally:
        backend.fp32_precision = found
