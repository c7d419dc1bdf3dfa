"""Exact ranking under named protocols, from features to figures and ranked lists.

What needs torch is imported when it is first asked for, so that commands can list and choose
protocols at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reid_core.evaluation.applicability import Applicability, applicable
from reid_core.evaluation.protocols import (
    PROTOCOLS,
    Protocol,
    choose_protocols,
    get_protocol,
    protocols_for,
    single_shot_draws,
    splits_of,
)
from reid_core.evaluation.rules import MATCH_RULES, Labels, Match, MatchRule

if TYPE_CHECKING:
    from reid_core.evaluation.evaluate import ProtocolResult, evaluate_protocol, gallery_draws
    from reid_core.evaluation.features import extract_features, extract_split_features, own_share
    from reid_core.evaluation.matches import TopMatch, choose_queries, top_matches
    from reid_core.evaluation.ranking import Ranking, rank_gallery
    from reid_core.evaluation.scores import l2_normalize, pair_scores

__all__ = [
    "MATCH_RULES",
    "PROTOCOLS",
    "Applicability",
    "Labels",
    "Match",
    "MatchRule",
    "Protocol",
    "ProtocolResult",
    "Ranking",
    "TopMatch",
    "applicable",
    "choose_protocols",
    "choose_queries",
    "evaluate_protocol",
    "extract_features",
    "extract_split_features",
    "gallery_draws",
    "get_protocol",
    "l2_normalize",
    "own_share",
    "pair_scores",
    "protocols_for",
    "rank_gallery",
    "single_shot_draws",
    "splits_of",
    "top_matches",
]

_NEEDS_TORCH = {
    "ProtocolResult": "evaluate",
    "evaluate_protocol": "evaluate",
    "gallery_draws": "evaluate",
    "extract_features": "features",
    "extract_split_features": "features",
    "own_share": "features",
    "TopMatch": "matches",
    "choose_queries": "matches",
    "top_matches": "matches",
    "Ranking": "ranking",
    "rank_gallery": "ranking",
    "l2_normalize": "scores",
    "pair_scores": "scores",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
