"""Settings of k-reciprocal re-ranking. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reid_core.errors import ConfigError

__all__ = ["RerankConfig", "RerankNormalization"]

RerankNormalization = Literal["max", "min_max"]


@dataclass(frozen=True, kw_only=True)
class RerankConfig:
    """Settings of k-reciprocal re-ranking (Zhong et al., CVPR 2017); defaults as published.

    Raises:
        ConfigError: A value is out of range.
    """

    k1: int = 20
    """Neighbours of an image, itself not counted, among which reciprocal ones are sought."""

    k2: int = 6
    """Images, itself counted, over which an image's weights are averaged; 1 for no averaging."""

    lambda_value: float = 0.3
    """Share of the original distance in the final one, from 0 to 1."""

    normalization: RerankNormalization = "max"
    """How the distances of an image to all images are scaled before they enter: max divides them by
    the largest (CSSC and most others, on squared Euclidean distances); min_max takes them from 0 to
    1 (IICS, on cosine distances)."""

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} of re-ranking; use 1 or more")
        if not 0 <= self.lambda_value <= 1:
            raise ConfigError(f"lambda_value={self.lambda_value} of re-ranking; use 0 to 1")
        if self.normalization not in ("max", "min_max"):
            raise ConfigError(
                f"no normalization of re-ranking is called {self.normalization!r}; use max or "
                "min_max"
            )

    @property
    def half_k1(self) -> int:
        """Neighbours whose own reciprocal neighbours may be adopted: k1 / 2, halves to even."""
        return round(self.k1 / 2)

    @property
    def list_length(self) -> int:
        """Entries of a neighbour list that are needed, the image itself included."""
        return max(self.k1 + 1, self.k2)
