"""Query expansion against a loop over the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.errors import ConfigError, ProtocolError
from reid_core.evaluation import expand_queries, l2_normalize


def unit_rows(seed, count, dim=7):
    return l2_normalize(torch.from_numpy(np.random.default_rng(seed).standard_normal((count, dim))))


def definition(queries, gallery, k, alpha):
    expanded = []
    for query in queries.double().numpy():
        scores = gallery.double().numpy() @ query
        total = query.copy()
        for row in np.argsort(-scores, kind="stable")[:k]:
            weight = max(scores[row], 0) ** alpha if alpha else 1
            total += weight * gallery[row].double().numpy()
        expanded.append(total / np.linalg.norm(total))
    return np.array(expanded)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("k", [1, 4, 50])
def test_equals_the_definition(k, alpha):
    """With 30 gallery images k = 50 takes all, those that face away included."""
    queries, gallery = unit_rows(0, 9), unit_rows(1, 30)
    found = expand_queries(queries, gallery, k, alpha)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, definition(queries, gallery, k, alpha), rtol=0, atol=1e-7)


def test_blocks_change_nothing(monkeypatch):
    queries, gallery = unit_rows(2, 25), unit_rows(3, 60)
    whole = expand_queries(queries, gallery, 4, 3.0)
    monkeypatch.setattr("reid_core.evaluation.reranking.expansion._BLOCK", 4)
    assert torch.equal(expand_queries(queries, gallery, 4, 3.0), whole)
    assert torch.equal(expand_queries(queries[7:8], gallery, 4, 3.0), whole[7:8])


def test_moves_towards_the_cluster():
    centre = unit_rows(4, 1, 32)
    noise = unit_rows(5, 41, 32)
    rows = l2_normalize(centre + 0.7 * noise)
    query, gallery = rows[:1], rows[1:]
    expanded = expand_queries(query, gallery)
    assert (expanded @ centre.T).item() > (query @ centre.T).item() + 0.05


def test_inputs_are_left_alone():
    queries, gallery = unit_rows(6, 3), unit_rows(7, 9)
    before = queries.clone(), gallery.clone()
    expand_queries(queries, gallery)
    assert torch.equal(queries, before[0])
    assert torch.equal(gallery, before[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k=0 neighbours"),
        ({"alpha": -1.0}, "alpha=-1.0 of query expansion"),
        ({"alpha": float("inf")}, "alpha=inf"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        expand_queries(unit_rows(0, 2), unit_rows(1, 3), **settings)


def test_bad_features():
    with pytest.raises(ProtocolError, match="the gallery is empty"):
        expand_queries(unit_rows(0, 2), torch.ones(0, 7))


@pytest.mark.gpu
def test_gpu_changes_nothing():
    queries, gallery = unit_rows(8, 200, 64), unit_rows(9, 3000, 64)
    found = expand_queries(queries.cuda(), gallery.cuda(), 6, 3.0)
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), expand_queries(queries, gallery, 6, 3.0))
