"""Ranked lists for pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reid_core.errors import ProtocolError
from reid_core.evaluation import (
    Labels,
    Ranking,
    choose_queries,
    l2_normalize,
    matches,
    rank_gallery,
    top_matches,
)


def labels(pids, camids, clothes_ids=None):
    clothes_ids = [0] * len(pids) if clothes_ids is None else clothes_ids
    return Labels(pids=np.array(pids), camids=np.array(camids), clothes_ids=np.array(clothes_ids))


def line(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 12))
    parts = []
    for count in (30, 400):
        names = labels(*rng.integers(0, [[5], [3], [2]], (3, count)))
        noise = rng.standard_normal((count, 12))
        parts.append((l2_normalize(torch.from_numpy(centres[names.pids] + noise)), names))
    (query_features, query), (gallery_features, gallery) = parts
    return query_features, gallery_features, query, gallery


def reference(query_features, gallery_features, query, gallery, k):
    """Statuses and rows by sorting everything, equal scores as documented."""
    lists = []
    for row in range(len(query)):
        entries = []
        for column in range(len(gallery)):
            same = gallery.pids[column] == query.pids[row]
            other_camera = gallery.camids[column] != query.camids[row]
            status = ("right" if other_camera else "junk") if same else "wrong"
            products = query_features[row].double().numpy() * gallery_features[column].numpy()
            place = ("wrong", "junk", "right").index(status)
            entries.append((-math.fsum(products), place, column, status))
        lists.append([(column, status) for *_, column, status in sorted(entries)[:k]])
    return lists


@pytest.mark.parametrize("k", [1, 10, 400, 1000])
def test_equals_a_full_sort(clusters, k):
    found = top_matches(*clusters, k=k)
    assert [[(e.gallery_row, e.status) for e in entries] for entries in found] == reference(
        *clusters, k
    )
    for entries in found:
        scores = [entry.score for entry in entries]
        assert scores == sorted(scores, reverse=True)


def test_equal_scores_and_cells_of_a_chunk(clusters, monkeypatch):
    query_features, gallery_features, query, gallery = clusters
    coarse = (query_features.round(), gallery_features.round(), query, gallery)
    expected = reference(*coarse, 25)
    monkeypatch.setattr(matches, "_CELLS", 1500)
    monkeypatch.setattr(matches, "_TILE", 33)
    found = top_matches(*coarse, k=25)
    assert [[(e.gallery_row, e.status) for e in entries] for entries in found] == expected


def test_right_entries_stand_at_their_ranks(clusters):
    ranking = rank_gallery(*clusters)
    for row, entries in enumerate(top_matches(*clusters, k=400)):
        ranked = [entry.status for entry in entries if entry.status != "junk"]
        if ranking.first_hit[row]:
            assert ranked.index("right") + 1 == ranking.first_hit[row]


@pytest.mark.parametrize(
    ("max_junk", "rows"), [(None, [0, 1, 2, 3]), (2, [0, 1, 3, 4]), (0, [3, 4, 5])]
)
def test_junk_may_be_passed_over(max_junk, rows):
    gallery = labels([1, 1, 1, 2, 1, 3], [0, 0, 0, 0, 1, 0])
    (entries,) = top_matches(
        line(1), line(9, 8, 7, 6, 5, 4), labels([1], [0]), gallery, k=4, max_junk=max_junk
    )
    assert [entry.gallery_row for entry in entries] == rows


def test_rule_decides_the_status():
    gallery = labels([1, 1, 2], [1, 1, 1], [0, 1, 2])
    query = labels([1], [0], [0])
    (entries,) = top_matches(line(1), line(3, 2, 1), query, gallery, "cloth_changing")
    assert [entry.status for entry in entries] == ["junk", "right", "wrong"]
    assert [entry.score for entry in entries] == [3, 2, 1]


def test_large_features():
    gallery = labels([1, 2], [1, 1])
    (entries,) = top_matches(line(1e30), line(1e30, 2e30), labels([1], [0]), gallery)
    assert [entry.status for entry in entries] == ["wrong", "right"]


def test_k_must_be_positive(clusters):
    with pytest.raises(ProtocolError, match="k=0 entries make no ranked list; use 1 or more"):
        top_matches(*clusters, k=0)


@pytest.fixture
def ranking():
    aps = np.array([0.9, 0.2, np.nan, 0.5, 0.2, 1.0])
    valid = np.isfinite(aps).astype(int)
    return Ranking(
        average_precision=aps,
        inverse_negative_penalty=aps,
        first_hit=valid,
        num_positives=valid,
        num_junk=valid,
        num_negatives=valid,
    )


def test_hardest_queries(ranking):
    assert choose_queries(ranking, 3, "hardest").tolist() == [1, 4, 3]
    assert choose_queries(ranking, 99, "hardest").tolist() == [1, 4, 3, 0, 5]


def test_random_queries(ranking):
    chosen = choose_queries(ranking, 3, "random", seed=4)
    assert chosen.tolist() == choose_queries(ranking, 3, "random", seed=4).tolist()
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    assert len(chosen) == 3
    assert choose_queries(ranking, 99, "random").tolist() == [0, 1, 3, 4, 5]
    seen = {tuple(choose_queries(ranking, 2, "random", seed=seed)) for seed in range(20)}
    assert len(seen) > 3
