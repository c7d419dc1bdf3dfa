"""Arguments of all evaluations: what is added to the plain ranking, intervals, memory.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from reid_core.config import require
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.memory import parse_size

__all__ = ["ScoringArguments"]


@dataclass(frozen=True, kw_only=True)
class ScoringArguments:
    """How an evaluation goes about its protocols; a base of the arguments of commands."""

    rerank: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also evaluate with k-reciprocal re-ranking, in rows of its own."""
    k1: int = 20
    """Neighbours of an image among which re-ranking seeks reciprocal ones."""
    k2: int = 6
    """Images over which re-ranking averages; 1 for no averaging."""
    lambda_value: Annotated[float, tyro.conf.arg(aliases=("--lambda",))] = 0.3
    """Share of the original distance in the re-ranked one, from 0 to 1."""
    expand: int = 0
    """Also evaluate with average query expansion over so many neighbours, in rows of its own."""
    confidence: float | None = None
    """Add bootstrap intervals of this level in percent, e.g. 95."""
    resample: Literal["queries", "identities"] = "queries"
    """What the bootstrap draws. Queries of one person are alike, so that intervals over queries
    are too narrow; those over identities account for it."""
    resamples: int = 10_000
    """Resamples of the bootstrap."""
    memory_limit: str | None = None
    """What each process may hold in memory, e.g. 8GB; refused before the start where it is not
    enough. Mapped files and GPU memory are not counted."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.memory_limit is not None:
            parse_size(self.memory_limit)
        settings = RerankConfig(k1=self.k1, k2=self.k2, lambda_value=self.lambda_value)
        require(
            self.rerank or settings == RerankConfig(),
            "--k1, --k2 and --lambda are settings of re-ranking; add --rerank",
        )
        require(self.expand >= 0, f"expand={self.expand} must not be negative")
        level = self.confidence
        require(
            level is None or 0 < level < 100,
            f"confidence={level} must be between 0 and 100 (percent), e.g. 95",
        )
        require(self.resamples >= 1, f"resamples={self.resamples} must be at least 1")

    @property
    def rerank_config(self) -> RerankConfig | None:
        """Settings of re-ranking; None where it was not asked for."""
        if not self.rerank:
            return None
        return RerankConfig(k1=self.k1, k2=self.k2, lambda_value=self.lambda_value)
