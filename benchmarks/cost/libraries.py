"""Libraries that happen to be installed, through their public interface as documented.

They are imported when their turn comes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cost.problem import MAX_RANK, Integers, Outcome, Problem, Scores

__all__ = [
    "run_fast_reid",
    "run_oml",
    "run_pytorch_metric_learning",
    "run_torchmetrics",
    "run_torchreid",
]


def run_torchreid(problem: Problem) -> Outcome:
    """Run torchreid's ``evaluate_rank`` on 1 - s."""
    try:
        from torchreid.metrics import evaluate_rank
    except ImportError:  # the package on the index keeps its parts one level lower
        from torchreid.reid.metrics import evaluate_rank
    cmc, mean_ap = evaluate_rank(_distances(problem), *problem.labels(), max_rank=MAX_RANK)
    return Outcome(float(mean_ap), cmc)


def run_fast_reid(problem: Problem) -> Outcome:
    """Run fast-reid's ``evaluate_rank`` on 1 - s."""
    from fastreid.evaluation.rank import evaluate_rank

    found = evaluate_rank(_distances(problem), *problem.labels(), max_rank=MAX_RANK)
    return Outcome(float(np.mean(found[1])), found[0])


def run_oml(problem: Problem) -> Outcome:
    """Run OML's search over the whole gallery; images of one person and camera form a sequence."""
    from oml.functional.metrics import calc_retrieval_metrics
    from oml.interfaces.datasets import IQueryGalleryLabeledDataset
    from oml.retrieval import RetrievalResults

    query_pids, gallery_pids, query_camids, gallery_camids = problem.labels()
    num_queries, num_gallery = len(query_pids), len(gallery_pids)
    pids = np.concatenate([query_pids, gallery_pids])
    camids = np.concatenate([query_camids, gallery_camids])

    class Images(IQueryGalleryLabeledDataset):  # type: ignore[misc]
        extra_data = {"sequence": pids * (1 + camids.max()) + camids}  # noqa: RUF012

        def __len__(self) -> int:
            return len(pids)

        def __getitem__(self, item: int) -> dict[str, Any]:
            raise NotImplementedError  # the features are given

        def get_labels(self) -> Integers:
            return pids

        def get_label2category(self) -> None:
            return None

        def get_query_ids(self) -> Tensor:
            return torch.arange(num_queries)

        def get_gallery_ids(self) -> Tensor:
            return torch.arange(num_queries, num_queries + num_gallery)

    features = torch.cat([problem.query, problem.gallery])
    found = RetrievalResults.from_embeddings(features, Images(), n_items=num_gallery)
    figures = calc_retrieval_metrics(
        found.retrieved_ids,
        found.gt_ids,
        cmc_top_k=(1, 5, 10),
        precision_top_k=(),
        map_top_k=(num_gallery,),
        verbose=False,
    )
    return Outcome(float(figures["map"][num_gallery]))


def run_torchmetrics(problem: Problem) -> Outcome:
    """Run torchmetrics' ``RetrievalMAP`` on s + 2: it drops matches with a score of 0 or less."""
    from torchmetrics.retrieval import RetrievalMAP

    query_pids, gallery_pids, query_camids, gallery_camids = map(torch.from_numpy, problem.labels())
    same = query_pids[:, None] == gallery_pids
    junk = same & (query_camids[:, None] == gallery_camids)
    metric = RetrievalMAP(empty_target_action="skip", ignore_index=-1)
    scores = torch.mm(problem.query, problem.gallery.T).add_(2)
    rows = torch.arange(len(scores))[:, None].expand_as(scores)
    metric.update(scores, same.long().masked_fill_(junk, -1), indexes=rows)
    return Outcome(float(metric.compute()))


def run_pytorch_metric_learning(problem: Problem) -> Outcome:
    """Run pytorch-metric-learning's ``AccuracyCalculator`` over the whole gallery."""
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    query_pids, gallery_pids, _, _ = map(torch.from_numpy, problem.labels())
    calculator = AccuracyCalculator(
        include=("mean_average_precision", "precision_at_1"),
        k=len(gallery_pids),
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    figures = calculator.get_accuracy(
        problem.query, query_pids, problem.gallery, gallery_pids, ref_includes_query=False
    )
    return Outcome(float(figures["mean_average_precision"]))


def _distances(problem: Problem) -> Scores:
    scores = problem.scores()
    return np.subtract(1, scores, out=scores)
