"""Class scores, distances of all pairs, and what re-ranking puts in their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.errors import ConfigError
from reid_core.evaluation import RerankConfig, rerank_set
from reid_iics import pair_distances
from reid_iics.cluster_distances import num_pairs
from reid_iics.linkage import ClusteringError
from reid_iics.pair_distances import PairDistances, put_reranked
from reid_iics.similarity import ClassScores, mixed_distances

NUM_IMAGES, NUM_HEADS = 23, 3
EVERY = slice(0, NUM_IMAGES)


@pytest.fixture(params=[4, 1024])
def tile(request, monkeypatch):
    monkeypatch.setattr(pair_distances, "_CPU_TILE", request.param)


@pytest.fixture
def features():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((NUM_IMAGES, 8))).float() * 5


@pytest.fixture
def scores():
    logits = np.random.default_rng(1).standard_normal((NUM_IMAGES, NUM_HEADS, 6)) * 2
    return torch.softmax(torch.from_numpy(logits), dim=2).flatten(1).float()


@pytest.fixture
def cameras():
    return np.random.default_rng(2).integers(0, 3, NUM_IMAGES)


def dense_cosines(features):
    values = features.double().numpy()
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return 1 - values @ values.T


def dense_jaccard(scores):
    left, right = scores.double().numpy()[:, None], scores.double().numpy()[None]
    return np.minimum(left, right).sum(2) / np.maximum(left, right).sum(2)


def upper(matrix):
    return matrix[np.triu_indices(len(matrix), 1)]


def test_jaccard_is_that_of_minima_and_maxima(scores):
    found = ClassScores(scores, NUM_HEADS).jaccard(slice(2, 9), slice(5, NUM_IMAGES))
    np.testing.assert_allclose(found, dense_jaccard(scores)[2:9, 5:], atol=1e-6)


def test_jaccard_of_equal_and_disjoint_scores():
    rows = torch.tensor([[1.0, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]])
    found = ClassScores(rows, 2).jaccard(slice(0, 1), slice(0, 4))
    # Of the last, L1 = 2 and C = 2: 2 / 6.
    torch.testing.assert_close(found, torch.tensor([[1, 1, 0, 1 / 3]]))


@pytest.mark.parametrize("num_heads", [2, 4])
def test_scores_of_another_number_of_heads(scores, num_heads):
    with pytest.raises(ConfigError, match=f"the soft-max of {num_heads} heads"):
        ClassScores(scores, num_heads)


def test_scores_that_are_not_finite(scores):
    scores[3, 2] = torch.nan
    with pytest.raises(ConfigError, match="soft-max"):
        ClassScores(scores, NUM_HEADS)


@pytest.mark.usefixtures("tile")
def test_cosine_distances(features):
    pairs = mixed_distances(features)
    np.testing.assert_allclose(pairs.condensed, upper(dense_cosines(features)), atol=1e-6)
    np.testing.assert_array_equal(pairs.diagonal, 0)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("sort", [False, True])
def test_mixed_distances(features, scores, cameras, sort):
    cameras = np.sort(cameras) if sort else cameras
    pairs = mixed_distances(
        features,
        class_scores=ClassScores(scores, NUM_HEADS),
        camids=cameras,
        mixing_rate=0.3,
    )
    differs = cameras[:, None] != cameras
    expected = dense_cosines(features) - 0.3 * differs * dense_jaccard(scores)
    np.testing.assert_allclose(pairs.condensed, upper(expected), atol=1e-6)
    np.testing.assert_array_equal(pairs.diagonal, 0)


def test_scores_are_left_out_where_they_count_nothing(features, scores):
    plain = mixed_distances(features)
    found = mixed_distances(features, class_scores=ClassScores(scores, NUM_HEADS), mixing_rate=0)
    np.testing.assert_array_equal(found.condensed, plain.condensed)


def test_images_without_features(features):
    features[4] = 0
    pairs = mixed_distances(features)
    matrix = as_matrix(pairs)
    np.testing.assert_array_equal(matrix[4], 1)


def test_features_that_are_not_finite(features):
    features[7, 2] = torch.inf
    features[9, 0] = torch.nan
    with pytest.raises(ClusteringError, match="2 of 23 images are not finite, first those of im"):
        mixed_distances(features)


@pytest.mark.parametrize(
    ("rate", "camids", "count", "message"),
    [
        (-0.1, [0] * 23, 23, "mixing_rate=-0.1"),
        (float("nan"), [0] * 23, 23, "mixing_rate=nan"),
        (0.1, [0] * 22, 23, r"cameras of shape \(22,\)"),
        (0.1, None, 23, "one of each for every image"),
        (0.1, [0] * 23, 20, "class scores of 20"),
    ],
)
def test_what_does_not_go_together(features, scores, rate, camids, count, message):
    given = ClassScores(scores[:count], NUM_HEADS)
    with pytest.raises(ConfigError, match=message):
        mixed_distances(features, class_scores=given, camids=camids, mixing_rate=rate)


def as_matrix(pairs):
    count = pairs.num_queries
    out = torch.empty(count, count)
    pairs.tile(np.arange(count), slice(0, count), out)
    return -out.numpy()


@pytest.fixture
def pairs(features, scores, cameras):
    """Distances, some negative, with diagonals that are not the smallest."""
    found = mixed_distances(
        features, class_scores=ClassScores(scores, NUM_HEADS), camids=cameras, mixing_rate=1.5
    )
    found.diagonal[:] = np.linspace(-0.1, 0.1, NUM_IMAGES)
    return found


@pytest.fixture
def matrix(pairs):
    found = np.diag(pairs.diagonal)
    found[np.triu_indices(NUM_IMAGES, 1)] = pairs.condensed
    found.T[np.triu_indices(NUM_IMAGES, 1)] = pairs.condensed
    return found


def test_scores_of_pairs(pairs, matrix):
    rows, columns = (axis.ravel() for axis in np.indices(matrix.shape))
    np.testing.assert_array_equal(pairs.exact(rows, columns), -matrix.ravel().astype(float))
    some = np.array([20, 3, 7])
    np.testing.assert_array_equal(pairs.precise(some, np.arange(4, 9)), -matrix[some, 4:9])
    assert not pairs.tolerance.any()
    assert not pairs.precise_tolerance.any()


@pytest.mark.parametrize("columns", [(0, 23), (0, 5), (5, 12), (20, 23), (7, 8)])
def test_tiles(pairs, matrix, columns):
    rows = np.array([0, 6, 7, 8, 22])
    columns = slice(*columns)
    out = torch.empty(len(rows), columns.stop - columns.start)
    pairs.tile(rows, columns, out)
    np.testing.assert_array_equal(out, -matrix[rows, columns])


@pytest.mark.usefixtures("tile")
def test_reranked_distances_take_the_place_of_the_others(pairs):
    config = RerankConfig(k1=6, k2=3, normalization="min_max")
    scores = rerank_set(pairs, config=config)
    expected = scores.distances(EVERY, EVERY).numpy()
    assert np.abs(expected - expected.T).max() > 0.01
    told = []
    put_reranked(pairs, scores, progress=lambda *done: told.append(done))
    np.testing.assert_array_equal(pairs.condensed, upper(expected))
    assert told[-1] == (NUM_IMAGES, NUM_IMAGES)


def test_as_many_distances_as_pairs():
    with pytest.raises(ConfigError, match="all pairs of 4 images; use 6"):
        PairDistances(np.zeros(5, np.float32), np.zeros(4, np.float32))


def test_threads_and_tiles_change_little(features, monkeypatch):
    expected = mixed_distances(features).condensed
    monkeypatch.setattr(pair_distances, "_CPU_TILE", 7)
    np.testing.assert_allclose(mixed_distances(features).condensed, expected, atol=1e-6)


@pytest.mark.gpu
def test_cuda(features, scores, cameras):
    options = {"camids": cameras, "mixing_rate": 0.3}
    expected = mixed_distances(features, class_scores=ClassScores(scores, NUM_HEADS), **options)
    device = torch.device("cuda")
    found = mixed_distances(
        features,
        class_scores=ClassScores(scores, NUM_HEADS, device=device),
        device=device,
        **options,
    )
    assert len(found.condensed) == num_pairs(NUM_IMAGES)
    np.testing.assert_allclose(found.condensed, expected.condensed, atol=1e-6)
