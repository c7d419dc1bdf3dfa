"""Tensors that batches are written into."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

__all__ = ["FloatBuffers", "pixel_buffer"]


def pixel_buffer(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a uint8 tensor on the host with arbitrary contents, to be sent to a device."""
    # PyTorch keeps pinned blocks for the next batch and knows when a copy from them has ended.
    return torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")


class FloatBuffers:
    """Source of float32 tensors of one shape, whose memory is used again when nobody holds them.

    A new tensor of tens of megabytes costs more than filling it: the system hands out its pages one
    by one, zeroed. Here a block returns to the source when the last tensor that shares it is gone
    (views, and what autograd saved, included), so a caller may keep a tensor as long as it likes
    and never sees it overwritten.

    Args:
        shape: Shape of the tensors.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[np.ndarray] = []

    def take(self) -> Tensor:
        """Return a tensor with arbitrary contents; may be called from several threads."""
        try:
            block = self._free.pop()
        except IndexError:
            block = np.empty(self._shape, np.float32)
        # The tensor's storage, and only it, holds this view of the block: the view dies with it.
        view = block.view()
        weakref.finalize(view, self._free.append, block).atexit = False
        return torch.from_numpy(view)
