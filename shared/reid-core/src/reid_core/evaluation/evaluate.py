"""From features to the figures of a protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.data.sample import Sample
from reid_core.errors import ProtocolError
from reid_core.evaluation.applicability import applicable
from reid_core.evaluation.inputs import check_inputs
from reid_core.evaluation.protocols import Protocol, single_shot_draws
from reid_core.evaluation.ranking import Ranking, rank_gallery
from reid_core.evaluation.rules import Indices, Labels
from reid_core.evaluation.scores import gather_rows

__all__ = ["ProtocolResult", "evaluate_protocol", "gallery_draws"]

logger = logging.getLogger(__name__)

# Unit vectors kept in half precision still pass.
_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True, eq=False)
class ProtocolResult:
    """Results of one network under one protocol.

    Attributes:
        protocol: The protocol.
        trials: One ranking per draw of the gallery; a single one where nothing is drawn.
        num_gallery: Gallery images that each trial searches.
    """

    protocol: Protocol
    trials: tuple[Ranking, ...]
    num_gallery: int

    def cmc(self, max_rank: int) -> npt.NDArray[np.float64]:
        """Return the cumulative matching characteristic, (max_rank,), mean over the trials."""
        curve: npt.NDArray[np.float64] = np.mean(
            [ranking.cmc(max_rank) for ranking in self.trials], axis=0
        )
        return curve

    def summary(self) -> dict[str, Any]:
        """Return the figures, ready for JSON; shares are fractions in [0, 1].

        Those of ``Ranking.summary``, as means over the trials, with ``<name>_std`` (divisor: the
        number of trials) where there are several; the counts, ``num_gallery`` and ``num_trials``;
        and the protocol's name and definition.
        """
        summary: dict[str, Any] = {
            "protocol": self.protocol.name,
            "definition": self.protocol.definition,
        }
        figures = [ranking.summary() for ranking in self.trials]
        for name, first in figures[0].items():
            values = [figure[name] for figure in figures]
            summary[name] = first if name.startswith("num_") else float(np.mean(values))
            if len(values) > 1 and not name.startswith(("num_", "chance_")):
                summary[f"{name}_std"] = float(np.std(values))
        return {**summary, "num_gallery": self.num_gallery, "num_trials": len(self.trials)}


def evaluate_protocol(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Sample]],
    features: Mapping[str, Tensor],
    *,
    device: torch.device | None = None,
) -> ProtocolResult:
    """Evaluate features under a protocol.

    Args:
        protocol: The protocol.
        splits: Split name to samples, e.g. ``ReIDDataset.splits``.
        features: Split name to (N, D) float32, one row per sample in the split's order, of unit
            length as ``extract_features`` returns them (``l2_normalize`` for any others).
        device: Where products are computed; by default where the features lie.

    Returns:
        The results; all 0, with ``num_valid`` 0, where no query has a match.

    Raises:
        ProtocolError: Splits, labels or features do not allow it; the message says which.
    """
    problem = applicable(protocol, splits).problem
    if problem:
        raise ProtocolError(problem)
    for name in protocol.splits:
        if name not in features:
            present = ", ".join(features) or "none"
            raise ProtocolError(
                f"{protocol.name} needs features of the split {name!r} (features of: {present})"
            )
    query, gallery = (Labels.of(splits[name]) for name in protocol.splits)
    query_features, gallery_features = (features[name] for name in protocol.splits)
    check_inputs(query_features, gallery_features, query, gallery)
    for name in protocol.splits:
        _warn_unless_unit(name, features[name])
    draws = gallery_draws(protocol, gallery.pids)
    rankings = [
        rank_gallery(
            query_features,
            gallery_features if draw is None else gather_rows(gallery_features, draw),
            query,
            gallery if draw is None else gallery.take(draw),
            protocol.match,
            device=device,
        )
        for draw in draws
    ]
    num_gallery = len(gallery) if draws[0] is None else len(draws[0])
    return ProtocolResult(protocol=protocol, trials=tuple(rankings), num_gallery=num_gallery)


def _warn_unless_unit(split: str, features: Tensor) -> None:
    norms = torch.linalg.vector_norm(features.detach(), dim=1)
    if bool(((norms - 1).abs() > _UNIT_TOLERANCE).any()):
        logger.warning(
            "features of %r have lengths from %.3g to %.3g, not 1: images are ranked by inner "
            "product, which is not the cosine; use l2_normalize",
            split,
            norms.min().item(),
            norms.max().item(),
        )


def gallery_draws(protocol: Protocol, pids: Indices) -> Sequence[Indices | None]:
    """Return the gallery rows that each trial searches; None stands for all of them.

    Args:
        protocol: The protocol.
        pids: (G,) identities of the gallery images, in the split's order.
    """
    if protocol.gallery_draw == "all":
        return (None,)
    return single_shot_draws(pids.tolist(), protocol.trials)
