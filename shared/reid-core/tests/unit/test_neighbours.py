"""Exact neighbour lists against a sort of exact scores, and that nothing but the input decides."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.errors import ConfigError
from reid_core.evaluation import (
    ImageSetScorer,
    l2_normalize,
    nearest_in_set,
    nearest_neighbours,
)
from reid_core.evaluation.counting.scorer import InnerProduct
from reid_core.evaluation.reranking import neighbour_lists
from reid_core.testing.score_matrix import ScoreMatrix


def all_scores(scorer):
    shape = (scorer.num_queries, scorer.num_gallery)
    return scorer.exact(*(axis.ravel() for axis in np.indices(shape))).reshape(shape)


def brute_force(scorer, k, *, own):
    """Lists by falling exact score; of equal ones the own image, then the lower index."""
    lists = []
    for row, scores in enumerate(all_scores(scorer)):
        columns = np.arange(len(scores))
        other = (columns != row) if own else columns >= 0
        lists.append(np.lexsort((columns, other, -scores))[:k])
    return np.array(lists)


def assert_lists(found, scorer, k, *, own=True):
    scores = all_scores(scorer)
    np.testing.assert_array_equal(found.columns, brute_force(scorer, k, own=own))
    np.testing.assert_array_equal(found.highest, scores.max(axis=1))
    np.testing.assert_array_equal(found.lowest, scores.min(axis=1))


def assert_same(found, wanted):
    for name in ("columns", "highest", "lowest"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def features_with_ties(seed, count, dim, span, steps):
    """Small integers, some of them moved by up to three times 2**-21.

    Such a step decides the order but is lost in float32 products. Scores are exact in float64.
    """
    rng = np.random.default_rng(seed)
    values = rng.integers(-span, span + 1, (count, dim)).astype(np.float64)
    values += 2.0**-21 * rng.integers(0, steps + 1, values.shape)
    return torch.from_numpy(values.astype(np.float32))


def clusters(seed, count, dim=24):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count // 10 + 1, dim))
    rows = centres[rng.integers(0, len(centres), count)] + 0.7 * rng.standard_normal((count, dim))
    return l2_normalize(torch.from_numpy(rows))


@pytest.fixture
def num_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from([0, 1, 3]),
    st.integers(1, 12),
    st.integers(1, 20),
    st.integers(1, 25),
    st.sampled_from(["half_squared_distance", "inner_product"]),
)
def test_lists_of_a_set(seed, count, dim, span, steps, k, chunk, tile, metric):
    features = features_with_ties(seed, count, dim, span, steps)
    cut = seed % (count + 1)
    parts = [part for part in (features[:cut], features[cut:]) if len(part)]
    scorer = ImageSetScorer(*parts, metric=metric)
    assert_lists(nearest_in_set(scorer, k, chunk=chunk, tile=tile), scorer, k)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(0, 2),
    st.integers(1, 12),
    st.integers(1, 8),
    st.integers(1, 25),
)
def test_lists_of_queries(seed, num_queries, num_gallery, span, k, chunk, tile):
    queries = features_with_ties(seed, num_queries, 3, span, 1)
    gallery = features_with_ties(seed + 1, num_gallery, 3, span, 1)
    scorer = InnerProduct(queries, gallery)
    found = nearest_neighbours(scorer, k, chunk=chunk, tile=tile)
    assert_lists(found, scorer, k, own=False)


def test_sixteen_tiles_of_clusters():
    """Wide enough that most groups of scores are passed over."""
    features = clusters(0, 500)
    scorer = ImageSetScorer(features[:100], features[100:])
    found = nearest_in_set(scorer, 9, chunk=96, tile=160)
    assert_lists(found, scorer, 9)


@pytest.mark.parametrize(("chunk", "tile"), [(None, None), (1, 7), (64, 64), (1000, 3)])
def test_tiles_change_nothing(chunk, tile):
    scorer = ImageSetScorer(clusters(1, 230))
    assert_same(nearest_in_set(scorer, 21, chunk=chunk, tile=tile), nearest_in_set(scorer, 21))


def test_threads_change_nothing(num_threads):
    scorer = ImageSetScorer(clusters(2, 600))
    num_threads(1)
    one = nearest_in_set(scorer, 21, chunk=64, tile=96)
    num_threads(3)
    assert_same(nearest_in_set(scorer, 21, chunk=64, tile=96), one)


def test_cut_into_matrices_changes_nothing():
    features = clusters(3, 90)
    parts = (features[:13], features[13:14], features[14:])
    assert_same(
        nearest_in_set(ImageSetScorer(*parts), 5), nearest_in_set(ImageSetScorer(features), 5)
    )


def test_coarse_fast_scores_change_nothing():
    """With errors as large as the gaps, many rows need more candidates than are kept."""
    scores = all_scores(ImageSetScorer(clusters(4, 200)))
    for noise in (1e-4, 1e-2, 3.0):
        assert_lists(nearest_in_set(ScoreMatrix(scores, noise), 9), ScoreMatrix(scores), 9)


def test_fast_scores_that_are_worse_than_they_say():
    """As products that are rounded although nobody asked for it."""
    scores = all_scores(ImageSetScorer(clusters(4, 200)))
    scorer = ScoreMatrix(scores, noise=0.1)
    scorer.tolerance.fill(1e-6)
    assert_lists(nearest_in_set(scorer, 9), ScoreMatrix(scores), 9)


def test_scores_beyond_float32():
    features = 1e25 * clusters(5, 40)
    scorer = ImageSetScorer(features)
    assert np.isinf(scorer.tolerance).all()
    assert_lists(nearest_in_set(scorer, 7), scorer, 7)


def test_own_image_first_among_equals():
    found = nearest_in_set(ImageSetScorer(torch.ones(30, 4)), 3)
    expected = [[row, *[column for column in range(3) if column != row][:2]] for row in range(30)]
    np.testing.assert_array_equal(found.columns, expected)
    assert (found.highest == 0).all()
    assert (found.lowest == 0).all()


def test_own_image_where_others_score_higher():
    scores = np.array([[0.0, 2.0, 1.0], [2.0, 3.0, 3.0], [1.0, 3.0, 0.0]])
    found = nearest_in_set(ScoreMatrix(scores), 3)
    np.testing.assert_array_equal(found.columns, [[1, 2, 0], [1, 2, 0], [1, 0, 2]])


def test_collapsed_features_are_reported(monkeypatch, caplog):
    monkeypatch.setattr(neighbour_lists, "_BLOCK_ROWS", 16)
    rng = np.random.default_rng(0)
    features = l2_normalize(torch.from_numpy(1 + 1e-7 * rng.standard_normal((60, 8))))
    scorer = ImageSetScorer(features)
    with caplog.at_level(logging.WARNING, logger="reid_core"):
        assert_lists(nearest_in_set(scorer, 5), scorer, 5)
    assert "60 of 60 images" in caplog.text


def test_twins_are_equal_vectors():
    features = torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0], [0.0, -1.0]])
    labels = ImageSetScorer(features[:1], features[1:]).twins()
    assert labels[0] == labels[2]
    assert len(set(labels.tolist())) == 3


@pytest.mark.parametrize("metric", ["half_squared_distance", "inner_product"])
def test_scores_of_a_set(metric):
    features = clusters(6, 50) * torch.linspace(0.1, 3, 50)[:, None]
    scorer = ImageSetScorer(features[:20], features[20:], metric=metric)
    exact = all_scores(scorer)
    double = features.double()
    expected = (
        double @ double.T if metric == "inner_product" else -(torch.cdist(double, double) ** 2) / 2
    )
    np.testing.assert_allclose(exact, expected, atol=1e-12)
    np.testing.assert_array_equal(exact, exact.T)
    if metric == "half_squared_distance":
        assert (np.diag(exact) == 0).all()
    # In any order, across the border of the two matrices.
    rows, columns = np.array([40, 3, 21, 19]), np.array([0, 49, 20, 19, 7])
    precise = scorer.precise(rows, columns)
    errors = np.abs(precise - exact[np.ix_(rows, columns)])
    assert (errors <= scorer.precise_tolerance[rows, None]).all()
    fast = torch.empty(4, 30)
    scorer.tile(rows, slice(10, 40), fast)
    errors = np.abs(fast.double().numpy() - exact[rows, 10:40])
    assert (errors <= scorer.tolerance[rows, None]).all()
    assert scorer.tolerance.max() < 1e-3


def test_bad_settings():
    scorer = ImageSetScorer(torch.ones(3, 2))
    with pytest.raises(ConfigError, match="k=0 neighbours"):
        nearest_in_set(scorer, 0)
    with pytest.raises(ConfigError, match="no metric of image sets is called 'cosine'"):
        ImageSetScorer(torch.ones(3, 2), metric="cosine")


@pytest.mark.gpu
def test_gpu_changes_nothing():
    features = clusters(7, 3000)
    on_cpu = nearest_in_set(ImageSetScorer(features), 21)
    for scorer in (
        ImageSetScorer(features, device=torch.device("cuda")),
        ImageSetScorer(features[:700].cuda(), features[700:].cuda()),
    ):
        assert_same(nearest_in_set(scorer, 21), on_cpu)
        assert_same(nearest_in_set(scorer, 21, chunk=257, tile=999), on_cpu)
