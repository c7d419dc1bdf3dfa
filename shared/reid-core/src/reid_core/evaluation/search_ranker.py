"""Ranking of the galleries that a protocol lets queries search.

Legend: N images of the query's split, M of the gallery's, D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.counting.precision import Precision, fast_products
from reid_core.evaluation.counting.scorer import Metric
from reid_core.evaluation.counting.scores import gather_rows
from reid_core.evaluation.inputs import check_inputs
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.galleries import Search, take_rows
from reid_core.evaluation.ranking import Ranking, rank_gallery, rank_scores
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.expansion import expand_queries
from reid_core.evaluation.reranking.reranked import rerank
from reid_core.evaluation.rules import Indices, Labels

__all__ = ["SearchRanker", "take_features"]


def take_features(features: Tensor, rows: Indices) -> Tensor:
    """Return ascending rows; features in a memory-mapped file are not copied where it is all."""
    return features if len(rows) == len(features) else gather_rows(features, rows)


@dataclass(frozen=True, kw_only=True)
class SearchRanker:
    """Ranks the galleries of the searches of an evaluation, all in the same way.

    Attributes:
        protocol: The protocol: its match rule, and what its CMC counts.
        metric: How features are compared.
        precision: Of the fast products.
        device: Where products are computed; None for where the features lie.
        columns: Rows of the gallery's split that the features given hold; None for all.
        rerank: Settings of re-ranking; None for none.
        expand: Gallery images that are averaged into every query; 0 for none.
        memory_limit: Bytes that re-ranking may use beyond the features.
    """

    protocol: Protocol
    metric: Metric = "inner_product"
    precision: Precision = "auto"
    device: torch.device | None = None
    columns: tuple[int, int] | None = None
    rerank: RerankConfig | None = None
    expand: int = 0
    memory_limit: int | None = None

    @property
    def scoring(self) -> str:
        """What images are ranked by, in words."""
        words = "cosine" if self.metric == "inner_product" else "Euclidean distance"
        if self.rerank is not None:
            words = (
                f"k-reciprocal re-ranking (k1 {self.rerank.k1}, k2 {self.rerank.k2}, lambda "
                f"{self.rerank.lambda_value:g})"
            )
        if self.expand:
            words += f", queries averaged with their {self.expand} nearest gallery images"
        return words

    def __call__(
        self,
        search: Search,
        query_features: Tensor,
        gallery_features: Tensor,
        query: Labels,
        gallery: Labels,
    ) -> Ranking:
        """Rank the gallery of one search.

        Args:
            search: Who searches whom.
            query_features: (N, D) float32 of the query's split.
            gallery_features: (M, D) float32 of the gallery's split, or of ``columns`` of it.
            query: Labels of the query's split.
            gallery: Labels of the gallery's split.

        Returns:
            The ranking of the search's queries, in their order.
        """
        identity_cmc = self.protocol.cmc == "identity"
        if not len(search.gallery):
            return _unanswered(len(search.queries), identity_cmc)
        columns, rows = None, search.gallery
        if self.columns is not None:
            # The shard's part of what is searched.
            start, stop = np.searchsorted(rows, self.columns).tolist()
            columns, rows = (start, stop), rows[start:stop] - self.columns[0]
        query_features = take_features(query_features, search.queries)
        gallery_features = take_features(gallery_features, rows)
        labels = take_rows(query, search.queries), take_rows(gallery, search.gallery)
        if self.rerank is not None or self.expand:
            check_inputs(query_features, gallery_features, *labels)
        if self.expand:
            query_features = expand_queries(
                query_features, gallery_features, self.expand, device=self.device
            )
        if self.rerank is None:
            return rank_gallery(
                query_features,
                gallery_features,
                *labels,
                self.protocol.match,
                metric=self.metric,
                identity_cmc=identity_cmc,
                precision=self.precision,
                device=self.device,
                columns=columns,
            )
        scores = rerank(
            query_features,
            gallery_features,
            self.rerank,
            device=self.device,
            max_bytes=self.memory_limit,
        )
        with fast_products(scores.device):
            return rank_scores(scores, *labels, self.protocol.match, identity_cmc=identity_cmc)


def _unanswered(num_queries: int, identity_cmc: bool) -> Ranking:
    """Return the ranking of queries that search nothing."""
    zeros = np.zeros(num_queries, dtype=np.int64)
    return Ranking(
        average_precision=np.full(num_queries, np.nan),
        inverse_negative_penalty=np.full(num_queries, np.nan),
        first_hit=zeros,
        num_positives=zeros,
        num_junk=zeros,
        num_negatives=zeros,
        first_identity=zeros if identity_cmc else None,
    )
