"""Exact ranking under named protocols, from features to figures and ranked lists.

Everything is imported when it is first asked for: most of it needs torch or NumPy, and commands
must parse their arguments at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_core.evaluation.confidence import Interval, bootstrap_intervals
    from reid_core.evaluation.counting.scorer import Scorer
    from reid_core.evaluation.counting.scores import l2_normalize, pair_scores
    from reid_core.evaluation.evaluate import ProtocolResult, evaluate_protocol
    from reid_core.evaluation.features import extract_features, extract_split_features, own_share
    from reid_core.evaluation.matches import TopMatch, choose_queries, top_matches
    from reid_core.evaluation.parts import l2_normalize_parts
    from reid_core.evaluation.protocols.applicability import Applicability, applicable
    from reid_core.evaluation.protocols.galleries import (
        Search,
        per_camera_draw,
        plan_searches,
        single_shot_draws,
    )
    from reid_core.evaluation.protocols.lookup import (
        PROTOCOLS,
        Protocol,
        choose_protocols,
        describe,
        get_protocol,
        protocols_for,
        splits_of,
    )
    from reid_core.evaluation.protocols.permutations import Permutations
    from reid_core.evaluation.query_figures import result_intervals
    from reid_core.evaluation.ranking import Ranking, rank_gallery, rank_scores, ranking_bytes
    from reid_core.evaluation.reranking.config import RerankConfig
    from reid_core.evaluation.reranking.expansion import expand_queries
    from reid_core.evaluation.reranking.image_set import ImageSetScorer, SymmetricScorer
    from reid_core.evaluation.reranking.neighbour_lists import Neighbours
    from reid_core.evaluation.reranking.neighbours import nearest_in_set, nearest_neighbours
    from reid_core.evaluation.reranking.reranked import (
        RerankedScores,
        rerank,
        rerank_bytes,
        rerank_set,
    )
    from reid_core.evaluation.rules import MATCH_RULES, Labels, Match, MatchRule

__all__ = [
    "MATCH_RULES",
    "PROTOCOLS",
    "Applicability",
    "ImageSetScorer",
    "Interval",
    "Labels",
    "Match",
    "MatchRule",
    "Neighbours",
    "Permutations",
    "Protocol",
    "ProtocolResult",
    "Ranking",
    "RerankConfig",
    "RerankedScores",
    "Scorer",
    "Search",
    "SymmetricScorer",
    "TopMatch",
    "applicable",
    "bootstrap_intervals",
    "choose_protocols",
    "choose_queries",
    "describe",
    "evaluate_protocol",
    "expand_queries",
    "extract_features",
    "extract_split_features",
    "get_protocol",
    "l2_normalize",
    "l2_normalize_parts",
    "nearest_in_set",
    "nearest_neighbours",
    "own_share",
    "pair_scores",
    "per_camera_draw",
    "plan_searches",
    "protocols_for",
    "rank_gallery",
    "rank_scores",
    "ranking_bytes",
    "rerank",
    "rerank_bytes",
    "rerank_set",
    "result_intervals",
    "single_shot_draws",
    "splits_of",
    "top_matches",
]

_PLACES = {
    "Interval": "confidence",
    "bootstrap_intervals": "confidence",
    "Scorer": "counting.scorer",
    "l2_normalize": "counting.scores",
    "pair_scores": "counting.scores",
    "ProtocolResult": "evaluate",
    "evaluate_protocol": "evaluate",
    "extract_features": "features",
    "extract_split_features": "features",
    "own_share": "features",
    "TopMatch": "matches",
    "choose_queries": "matches",
    "top_matches": "matches",
    "l2_normalize_parts": "parts",
    "Applicability": "protocols.applicability",
    "applicable": "protocols.applicability",
    "Search": "protocols.galleries",
    "per_camera_draw": "protocols.galleries",
    "plan_searches": "protocols.galleries",
    "single_shot_draws": "protocols.galleries",
    "PROTOCOLS": "protocols.lookup",
    "Protocol": "protocols.lookup",
    "choose_protocols": "protocols.lookup",
    "describe": "protocols.lookup",
    "get_protocol": "protocols.lookup",
    "protocols_for": "protocols.lookup",
    "splits_of": "protocols.lookup",
    "Permutations": "protocols.permutations",
    "result_intervals": "query_figures",
    "Ranking": "ranking",
    "rank_gallery": "ranking",
    "rank_scores": "ranking",
    "ranking_bytes": "ranking",
    "RerankConfig": "reranking.config",
    "expand_queries": "reranking.expansion",
    "ImageSetScorer": "reranking.image_set",
    "SymmetricScorer": "reranking.image_set",
    "Neighbours": "reranking.neighbour_lists",
    "nearest_in_set": "reranking.neighbours",
    "nearest_neighbours": "reranking.neighbours",
    "RerankedScores": "reranking.reranked",
    "rerank": "reranking.reranked",
    "rerank_bytes": "reranking.reranked",
    "rerank_set": "reranking.reranked",
    "Labels": "rules",
    "MATCH_RULES": "rules",
    "Match": "rules",
    "MatchRule": "rules",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
