"""Ranked lists of a report show what the protocol lets a query search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.data.sample import Sample
from reid_core.evaluation import PROTOCOLS, evaluate_protocol, l2_normalize
from reid_core.evaluation.evaluator import Evaluation
from reid_core.report.assemble import ranked_lists


@pytest.fixture(scope="module")
def sysu():
    """Samples and features of SYSU-MM01's six cameras."""
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            Path(f"cam{camera + 1}/{pid:04d}/{index}.jpg"),
            pid,
            camera,
            modality="infrared" if camera in (2, 5) else "visible",
        )
        for pid in range(5)
        for camera in range(6)
        for index in range(3)
    ]
    centers = rng.standard_normal((5, 8))
    rows = centers[[sample.pid for sample in samples]] + rng.standard_normal((len(samples), 8))
    return samples, l2_normalize(torch.from_numpy(rows))


@pytest.mark.parametrize("name", ["sysu/all_search", "sysu/indoor_search_multi_shot"])
def test_cameras_that_are_not_searched_are_not_shown(sysu, name):
    samples, features = sysu
    protocol = PROTOCOLS[name]
    result = evaluate_protocol(protocol, {"test": samples}, {"test": features})
    evaluation = Evaluation(
        samples={"test": samples}, features={"test": features}, results=(result,)
    )
    lists = ranked_lists(evaluation, queries=30)
    assert len({shown.query.path for shown in lists}) == len(lists) > 20
    row_of = {sample.path: row for row, sample in enumerate(samples)}
    rows, ranking = result.query_rows(), result.trials[0]
    cameras_seen = {2: set(), 5: set()}
    for shown in lists:
        row = row_of[shown.query.path]
        place = int(np.searchsorted(rows, row))
        assert rows[place] == row
        assert shown.average_precision == ranking.average_precision[place]
        (search,) = [own for own in result.searches[0] if row in own.queries]
        expected = features[torch.from_numpy(search.gallery)] @ features[row]
        best = search.gallery[np.argsort(-expected.numpy(), kind="stable")][:10]
        assert [row_of[entry.sample.path] for entry in shown.entries] == best.tolist()
        statuses = [entry.status for entry in shown.entries]
        if "right" in statuses:
            assert statuses.index("right") + 1 == shown.first_hit_rank
        cameras_seen[shown.query.camid] |= {entry.sample.camid for entry in shown.entries}
    searched = set(protocol.gallery_cameras)
    assert cameras_seen == {2: searched - {1}, 5: searched}


def test_lists_keep_the_order_of_the_choice(sysu):
    samples, features = sysu
    result = evaluate_protocol(PROTOCOLS["sysu/all_search"], {"test": samples}, {"test": features})
    evaluation = Evaluation(
        samples={"test": samples}, features={"test": features}, results=(result,)
    )
    hardest = [shown for shown in ranked_lists(evaluation, queries=10) if shown.reason == "hardest"]
    precisions = [shown.average_precision for shown in hardest]
    assert len(precisions) == 5
    assert precisions == sorted(precisions)
    assert precisions[0] == np.nanmin(result.trials[0].average_precision)
