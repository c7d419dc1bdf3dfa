"""What a network offers at test time, and its flip-averaged form."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.precision import in_float32

__all__ = ["Embedder", "FlipEmbedding"]


class Embedder(Protocol):
    """A network that turns images into what is compared at test time."""

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D), not normalised, of images (B, 3, H, W)."""
        ...


class FlipEmbedding(nn.Module):
    """normalize(f(x) + f(mirrored x)): the test feature of a network, as one exportable module.

    Args:
        network: Module with ``embed``; put into eval mode by ``.eval()`` on either.
    """

    def __init__(self, network: Embedder) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return unit embeddings (B, D) of normalised images (B, 3, H, W)."""
        return _unit_sum(self.network.embed(images), self.network.embed(images.flip(3)))


@in_float32
def _unit_sum(first: Tensor, second: Tensor) -> Tensor:
    return F.normalize(first + second)
