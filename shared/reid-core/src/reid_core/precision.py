"""Mixed precision: which parts of a network or a loss stay in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["in_float32"]

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function or ``forward`` so that it never computes in half precision.

    float16 and bfloat16 tensor arguments are cast to float32 (gradients flow back through the
    cast), and the body runs outside autocast. float32 and float64 arguments are passed as they are,
    so the decorator changes nothing without mixed precision. Meant for what contains exp, log, a
    square root or a division by a norm, and for heads whose cost does not matter.

    Args:
        function: Takes tensors positionally or by keyword, all on one device.

    Returns:
        A function with the same signature.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments = [_at_least_float32(value) for value in args]
        keywords = {name: _at_least_float32(value) for name, value in kwargs.items()}
        device = _device_type([*arguments, *keywords.values()])
        # Left only where it was entered: exporters do not like autocast regions in a graph.
        if device is not None and _has_autocast(device):
            with torch.autocast(device, enabled=False):
                return function(*arguments, **keywords)
        return function(*arguments, **keywords)

    return wrapper


def _at_least_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value


def _has_autocast(device: str) -> bool:
    # The meta device, for one, has no autocast to ask about.
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _device_type(values: Iterable[Any]) -> str | None:
    return next((value.device.type for value in values if isinstance(value, Tensor)), None)
