"""Sparse re-ranking against a dense definition, and that nothing but the input decides."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.errors import ConfigError, MemoryLimitError, ProtocolError
from reid_core.evaluation import (
    ImageSetScorer,
    Labels,
    Ranking,
    RerankConfig,
    l2_normalize,
    rank_scores,
    rerank,
    rerank_bytes,
    rerank_set,
)
from reid_core.testing.score_matrix import ScoreMatrix

MIN_MAX = RerankConfig(normalization="min_max")


def dense(scores, config):
    """Final distances of all pairs, (N, N): Zhong et al., with sets and arrays of N x N cells."""
    count = len(scores)
    offset = scores.max(axis=1) if config.normalization == "min_max" else np.zeros(count)
    extent = offset - scores.min(axis=1)
    shifted = offset[:, None] - scores
    d = np.divide(shifted, extent[:, None], out=np.zeros_like(scores), where=extent[:, None] > 0)
    every = np.arange(count)
    rank = np.array([np.lexsort((every, every != i, -scores[i])) for i in every])

    def reciprocal(k):
        return [{j for j in rank[i, : k + 1] if i in rank[j, : k + 1]} for i in every]

    near, half = reciprocal(config.k1), reciprocal(int(np.rint(config.k1 / 2)))
    weights = np.zeros((count, count))
    for i in every:
        adopted = [half[j] for j in near[i] if 3 * len(half[j] & near[i]) > 2 * len(half[j])]
        members = list(near[i].union(*adopted))
        weights[i, members] = np.exp(-d[i, members])
        weights[i] /= max(weights[i].sum(), 1e-300)
    if config.k2 > 1:
        weights = np.array([weights[rank[i, : config.k2]].mean(axis=0) for i in every])
    shared = np.minimum(weights[:, None], weights).sum(axis=2)
    jaccard = 1 - shared / (2 - shared)
    return (1 - config.lambda_value) * jaccard + config.lambda_value * d


def all_distances(scores):
    """Exact, precise and fast final distances of a scorer, (Q, G) each."""
    shape = (scores.num_queries, scores.num_gallery)
    exact = -scores.exact(*(axis.ravel() for axis in np.indices(shape))).reshape(shape)
    precise = -scores.precise(*(np.arange(count) for count in shape))
    fast = scores.distances(*(slice(0, count) for count in shape)).double().cpu().numpy()
    return exact, precise, fast


def assert_dense(scores, expected):
    exact, precise, fast = all_distances(scores)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
    assert (np.abs(precise - exact) <= scores.precise_tolerance[:, None]).all()
    assert (np.abs(fast - exact) <= scores.tolerance[:, None]).all()
    assert scores.precise_tolerance.max() < 1e-11
    assert scores.tolerance.max() < 1e-4


def clusters(seed, count, dim=16, per_identity=6, duplicates=0):
    """Unit features that cluster by identity, the last ones copies of the first, and labels."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, count // per_identity + 1, count)
    centres = rng.standard_normal((pids.max() + 1, dim))
    rows = centres[pids] + 0.8 * rng.standard_normal((count, dim))
    if duplicates:
        rows[-duplicates:] = rows[rng.integers(0, count - duplicates, duplicates)]
    labels = Labels(pids=pids, camids=rng.integers(0, 3, count))
    return l2_normalize(torch.from_numpy(rows)), labels


def set_scores(features, metric="half_squared_distance"):
    scorer = ImageSetScorer(features, metric=metric)
    count = len(features)
    cells = np.indices((count, count))
    return scorer.exact(*(axis.ravel() for axis in cells)).reshape(count, count)


@pytest.fixture
def num_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 40),
    st.integers(0, 12),
    st.sampled_from([1, 2, 5, 7, 20]),
    st.sampled_from([1, 2, 6]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["max", "min_max"]),
)
def test_equals_the_dense_definition(seed, count, duplicates, k1, k2, lambda_value, normalization):
    config = RerankConfig(k1=k1, k2=k2, lambda_value=lambda_value, normalization=normalization)
    features, _ = clusters(seed, count, dim=6, duplicates=min(duplicates, count - 1))
    metric = "half_squared_distance" if normalization == "max" else "inner_product"
    scorer = ImageSetScorer(features, metric=metric)
    expected = dense(set_scores(features, metric), config)
    cut = 1 + seed % (count - 1)
    queries, gallery = slice(0, cut), slice(cut, count)
    assert_dense(rerank_set(scorer, queries, gallery, config), expected[queries, gallery])


def test_half_the_squared_distance_is_scaled_away():
    """Distances are divided by the largest, so their half serves as well."""
    features, _ = clusters(0, 60)
    squared = 2 * set_scores(features)
    scores = rerank(features[:20], features[20:])
    np.testing.assert_allclose(
        all_distances(scores)[0], dense(squared, RerankConfig())[:20, 20:], rtol=0, atol=1e-12
    )


def test_an_image_that_is_not_in_its_own_list():
    """Mixed scores can be lower for an image and itself than for many others."""
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((50, 50))
    scores += scores.T
    scores[np.diag_indices(50)] = -10
    config = RerankConfig(k1=5, k2=1, normalization="min_max")
    assert_dense(rerank_set(ScoreMatrix(scores), config=config), dense(scores, config))


def test_images_that_cannot_be_told_apart():
    """Their distance counts as 0, not as 0 / 0."""
    scores = rerank(torch.ones(3, 4), torch.ones(30, 4))
    exact, precise, fast = all_distances(scores)
    expected = dense(np.zeros((33, 33)), RerankConfig())[:3, 3:]
    for found, tolerance in ((exact, 1e-12), (precise, 1e-12), (fast, 1e-6)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_exact_scores_do_not_depend_on_what_is_asked_beside_them():
    features, _ = clusters(2, 120)
    scores = rerank(features[:40], features[40:])
    whole = -all_distances(scores)[0]
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 40, 300), rng.integers(0, 80, 300)
    np.testing.assert_array_equal(scores.exact(rows, columns), whole[rows, columns])
    for row, column in zip(rows[:20], columns[:20], strict=True):
        assert scores.exact(np.array([row]), np.array([column])) == whole[row, column]
    assert len(scores.exact(rows[:0], columns[:0])) == 0


def test_precise_blocks_of_any_columns():
    features, _ = clusters(3, 120)
    scores = rerank(features[:40], features[40:])
    whole = -all_distances(scores)[0]
    for columns in (np.arange(17, 60), np.array([70, 3, 4, 9]), np.array([5]), np.array([], int)):
        found = scores.precise(np.array([39, 0, 7]), columns)
        np.testing.assert_allclose(found, whole[[39, 0, 7]][:, columns], rtol=0, atol=1e-12)


def test_tiles_and_threads_change_nothing(num_threads):
    features, labels = clusters(4, 300, duplicates=30)
    query, gallery = labels.take(np.arange(80)), labels.take(np.arange(80, 300))
    num_threads(1)
    one = rerank(features[:80], features[80:])
    wanted = rank_scores(one, query, gallery)
    assert 0.1 < wanted.mean_ap < 0.999
    for threads, chunk, tile in ((1, 7, 11), (3, 16, 64), (2, None, None)):
        num_threads(threads)
        scores = rerank(features[:80], features[80:])
        np.testing.assert_array_equal(all_distances(scores)[0], all_distances(one)[0])
        found = rank_scores(scores, query, gallery, chunk=chunk, tile=tile)
        for name in Ranking.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)


def test_many_column_ranges():
    """More borders than are remembered."""
    features, _ = clusters(5, 200)
    scores = rerank(features[:30], features[30:])
    whole = all_distances(scores)[2]
    tiles = [scores.distances(slice(0, 30), slice(at, at + 1)) for at in range(170)]
    np.testing.assert_allclose(torch.cat(tiles, dim=1), whole, rtol=0, atol=1e-6)


def test_improves_a_ranking():
    features, labels = clusters(6, 600, dim=8, per_identity=12)
    query, gallery = labels.take(np.arange(100)), labels.take(np.arange(100, 600))
    plain = rank_scores(
        ScoreMatrix((features[:100].double() @ features[100:].double().T).numpy()), query, gallery
    )
    assert rank_scores(rerank(features[:100], features[100:]), query, gallery).mean_ap > (
        plain.mean_ap + 0.01
    )


def test_all_images_against_each_other():
    features, _ = clusters(7, 70)
    scorer = ImageSetScorer(features, metric="inner_product")
    scores = rerank_set(scorer, config=MIN_MAX)
    assert (scores.num_queries, scores.num_gallery) == (70, 70)
    assert_dense(scores, dense(set_scores(features, "inner_product"), MIN_MAX))
    triangle = [scores.distances(slice(i, i + 1), slice(i + 1, 70)) for i in range(69)]
    expected = all_distances(scores)[0][np.triu_indices(70, 1)]
    np.testing.assert_allclose(torch.cat(triangle, dim=1)[0], expected, rtol=0, atol=1e-5)


def test_memory_that_may_be_used():
    features, _ = clusters(8, 200)
    free = rerank(features[:50], features[50:])
    threads = torch.get_num_threads()
    least = rerank_bytes(200, chunk=128, tile=512, num_threads=threads)
    most = rerank_bytes(200, num_threads=threads)
    assert least < most
    small = rerank(features[:50], features[50:], max_bytes=least)
    np.testing.assert_array_equal(all_distances(small)[0], all_distances(free)[0])
    with pytest.raises(MemoryLimitError, match=r"re-ranking 200 images needs about [\d,]+ MB"):
        rerank(features[:50], features[50:], max_bytes=least - 1)


MEMORY_SCRIPT = """
import resource
import torch
from reid_core.evaluation import rerank, rerank_bytes
torch.set_num_threads(1)
features = torch.nn.functional.normalize(torch.randn(8000, 16))
rerank(features[:100], features[100:400])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rerank(features[:1000], features[1000:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, rerank_bytes(8000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="units of ru_maxrss differ")
def test_memory_stays_below_the_estimate():
    result = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True
    )
    kilobytes, estimate = map(int, result.stdout.split())
    assert 1024 * kilobytes < estimate
    assert estimate < 8000**2 * 4 / 2  # half of one dense matrix


def test_more_images_and_neighbours_need_more_memory():
    sizes = [rerank_bytes(count) for count in (1_000, 19_281, 93_820)]
    assert sizes == sorted(set(sizes))
    assert rerank_bytes(93_820, RerankConfig(k1=40)) > sizes[-1]
    assert rerank_bytes(1_000, num_threads=4) > sizes[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1=0 of re-ranking"),
        ({"k2": 0}, "k2=0 of re-ranking"),
        ({"lambda_value": 1.5}, "lambda_value=1.5 of re-ranking; use 0 to 1"),
        ({"lambda_value": float("nan")}, "lambda_value=nan"),
        ({"normalization": "rows"}, "no normalization of re-ranking is called 'rows'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        RerankConfig(**settings)


@pytest.mark.parametrize(("k1", "half"), [(20, 10), (5, 2), (7, 4), (1, 0)])
def test_half_k1_is_rounded_to_even(k1, half):
    assert RerankConfig(k1=k1).half_k1 == half


def test_bad_features():
    good, bad = torch.ones(3, 4), torch.ones(5, 4)
    bad[2, 1] = float("nan")
    with pytest.raises(ProtocolError, match="gallery features hold NaN"):
        rerank(good, bad)
    with pytest.raises(ProtocolError, match="query features have 4 dimensions"):
        rerank(good, torch.ones(5, 3))


@pytest.mark.gpu
def test_gpu_changes_nothing():
    features, labels = clusters(9, 3000, dim=64)
    query, gallery = labels.take(np.arange(500)), labels.take(np.arange(500, 3000))
    on_cpu = rerank(features[:500], features[500:])
    on_gpu = rerank(features[:500], features[500:], device=torch.device("cuda"))
    np.testing.assert_array_equal(all_distances(on_gpu)[0], all_distances(on_cpu)[0])
    found, wanted = (rank_scores(scores, query, gallery) for scores in (on_gpu, on_cpu))
    np.testing.assert_array_equal(found.average_precision, wanted.average_precision)
