"""What contestants are given, what they return, and how they are described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.evaluation import Labels, Match
from reid_core.evaluation.counting.precision import Precision

__all__ = ["MAX_RANK", "OURS", "PRODUCT", "Contestant", "Integers", "Outcome", "Problem", "Scores"]

OURS = "reid-core"
PRODUCT = "product"
MAX_RANK = 50

Integers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Features and labels, and how they are to be compared.

    Attributes:
        query: (Q, D) float32 unit features.
        gallery: (G, D) float32 unit features.
        images: (Q + G, D), both, one after the other; None where the gallery is mapped.
        precision: Of the engine's fast products; the result does not depend on it.
    """

    query: Tensor
    gallery: Tensor
    images: Tensor | None
    query_labels: Labels
    gallery_labels: Labels
    match: Match
    device: torch.device
    precision: Precision

    def scores(self) -> Scores:
        """Return all inner products, (Q, G)."""
        scores: Scores = torch.mm(self.query, self.gallery.T).numpy()
        return scores

    def labels(self) -> tuple[Integers, ...]:
        """Return pids of query and gallery, camids of query and gallery."""
        query, gallery = self.query_labels, self.gallery_labels
        return query.pids, gallery.pids, query.camids, gallery.camids


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a contestant found.

    Attributes:
        mean_ap: mAP over the queries that have a match.
        cmc: Rank-1, rank-2, ...; None where a library gives none.
        average_precision: (Q,) float64 of each query, NaN where there is no match; None where a
            library does not tell.
    """

    mean_ap: float
    cmc: npt.NDArray[np.floating] | None = None
    average_precision: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A way to evaluate.

    Attributes:
        name: Short, for options and plots.
        does: What it is, for the report.
        run: The evaluation.
        requires: Importable module that it needs; empty where it needs none.
        max_cells: Most cells of a score matrix that it is asked for; None where there is no limit.
        matches: Match rules that it knows.
        devices: Kinds of devices on which it is measured.
        mapped: Whether it is measured on a memory-mapped gallery, too.
        same_definition: Whether its mAP is ours; else it is not compared.
    """

    name: str
    does: str
    run: Callable[[Problem], Outcome]
    requires: str = ""
    max_cells: int | None = None
    matches: tuple[Match, ...] = ("standard",)
    devices: tuple[str, ...] = ("cpu",)
    mapped: bool = False
    same_definition: bool = True

    @property
    def installed(self) -> bool:
        """Whether what it needs can be found."""
        return not self.requires or find_spec(self.requires) is not None
