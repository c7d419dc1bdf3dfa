"""Average linkage against its definition and SciPy, in every layout of the distances."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

from reid_iics import linkage as module
from reid_iics.cluster_distances import num_pairs, row_starts
from reid_iics.linkage import ClusteringError, average_linkage


def by_definition(distances, count):
    """Merge the clusters of the smallest mean distance; returns the clusters after each merge."""
    square = np.zeros((count, count))
    square[np.triu_indices(count, 1)] = distances
    square += square.T
    clusters, heights, history = [[point] for point in range(count)], [], []
    while len(clusters) > 1:
        means = {
            (a, b): square[np.ix_(clusters[a], clusters[b])].mean()
            for a in range(len(clusters))
            for b in range(a + 1, len(clusters))
        }
        (a, b), height = min(means.items(), key=lambda item: item[1])
        heights.append(height)
        clusters[a] = clusters[a] + clusters.pop(b)
        history.append({frozenset(cluster) for cluster in clusters})
    return heights, history


def clusters_after(merges, num_merges):
    clusters = {point: {point} for point in range(len(merges.pairs) + 1)}
    for left, right in merges.pairs[:num_merges].tolist():
        both = clusters[left] | clusters[right]
        clusters.update(dict.fromkeys(both, both))
    return {frozenset(cluster) for cluster in clusters.values()}


def any_length(size):
    """Stand for the row lengths that are fast, of which small squares have none."""
    return max(1, size)


@pytest.fixture(params=["triangle", "square", "packed"])
def layout(request, monkeypatch):
    """Make small sets take the way of large ones."""
    if request.param != "triangle":
        monkeypatch.setattr(module, "_row_length", any_length)
    if request.param == "packed":
        monkeypatch.setattr(module, "_PACK_LEAST", 4)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 24])
def test_definition(count):
    rng = np.random.default_rng(count)
    distances = rng.uniform(-0.5, 1, num_pairs(count))
    heights, history = by_definition(distances, count)
    merges = average_linkage(distances.copy())
    np.testing.assert_allclose(merges.heights, heights, atol=1e-12)
    for number, expected in enumerate(history, start=1):
        assert clusters_after(merges, number) == expected


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-7), (np.float64, 1e-14)])
@pytest.mark.parametrize("count", [30, 300, 700])
def test_scipy(count, dtype, tolerance):
    points = np.random.default_rng(count).standard_normal((count, 5))
    distances = pdist(points).astype(dtype)
    expected = linkage(distances.astype(np.float64), "average")
    merges = average_linkage(distances)
    np.testing.assert_allclose(merges.heights, expected[:, 2], rtol=tolerance * 8)


@pytest.mark.usefixtures("layout")
def test_one_chain_of_points():
    """Neighbours ever farther apart: every merge takes one more point."""
    count = 60
    places = np.cumsum(1.01 ** np.arange(count))
    distances = pdist(places[:, None])
    merges = average_linkage(distances.copy())
    np.testing.assert_allclose(merges.heights, linkage(distances, "average")[:, 2], rtol=1e-12)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("group", [slice(60), slice(70, 130), slice(140, 200)])
def test_places_that_are_gone(group):
    """Until the rest fits as a square, one group merges: rows move down when packed, or up."""
    points = np.random.default_rng(0).standard_normal((200, 5))
    points[group] *= 1e-3
    distances = pdist(points)
    merges = average_linkage(distances.copy())
    np.testing.assert_allclose(merges.heights, linkage(distances, "average")[:, 2], rtol=1e-12)


@pytest.mark.usefixtures("layout")
def test_pairs_are_first_points():
    count = 120
    distances = np.random.default_rng(0).integers(0, 9, num_pairs(count)).astype(np.float32)
    merges = average_linkage(distances)
    clusters = {point: {point} for point in range(count)}
    for kept, gone in merges.pairs.tolist():
        assert kept < gone
        clusters[kept] |= clusters.pop(gone)
        assert min(clusters[kept]) == kept
    assert list(clusters) == [0]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 14), st.integers(0, 2**32 - 1), st.booleans())
def test_equal_distances(count, seed, in_square):
    """Whatever is merged first: each merge is of two clusters whose mean distance is the height."""
    distances = np.random.default_rng(seed).integers(0, 3, num_pairs(count)).astype(np.float64)
    square = np.zeros((count, count))
    square[np.triu_indices(count, 1)] = distances
    square += square.T
    with pytest.MonkeyPatch.context() as patched:
        if in_square:
            patched.setattr(module, "_row_length", any_length)
        merges = average_linkage(distances)
    clusters = {point: [point] for point in range(count)}
    for (left, right), height in zip(merges.pairs.tolist(), merges.heights, strict=True):
        own, other = clusters[left], clusters[right]
        assert own is not other
        rest = {id(cluster): cluster for cluster in clusters.values()}.values()
        lowest = min(square[np.ix_(a, b)].mean() for a in rest for b in rest if a is not b)
        assert square[np.ix_(own, other)].mean() == pytest.approx(height, abs=1e-12)
        assert height == pytest.approx(lowest, abs=1e-12)
        clusters.update(dict.fromkeys(own + other, own + other))


@pytest.mark.usefixtures("layout")
def test_all_distances_alike():
    merges = average_linkage(np.full(num_pairs(40), 0.25, np.float32))
    np.testing.assert_array_equal(merges.heights, np.full(39, 0.25))
    assert len(clusters_after(merges, 39)) == 1


@pytest.mark.usefixtures("layout")
def test_same_bits_again():
    distances = np.random.default_rng(0).random(num_pairs(90), np.float32)
    first, second = (average_linkage(distances.copy()) for _ in range(2))
    np.testing.assert_array_equal(first.pairs, second.pairs)
    np.testing.assert_array_equal(first.heights, second.heights)


def test_heights_never_fall():
    """Rounding of averages must not put a merge below one that it contains."""
    distances = np.float32(0.3) + np.random.default_rng(1).random(num_pairs(200), np.float32) * 1e-6
    heights = average_linkage(distances.astype(np.float32)).heights
    assert (np.diff(heights) >= 0).all()


def test_works_in_the_memory_of_the_distances():
    distances = np.random.default_rng(0).random(num_pairs(2400), np.float32)
    tracemalloc.start()
    average_linkage(distances)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < distances.nbytes / 8


def test_places_of_pairs():
    count = 7
    starts = row_starts(count)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    assert [starts[i] + j for i, j in pairs] == list(range(num_pairs(count)))


def test_progress():
    told = []
    average_linkage(
        np.random.default_rng(0).random(num_pairs(1100)), progress=lambda *x: told.append(x)
    )
    assert told[-1] == (1099, 1099)
    assert [total for _, total in told] == [1099] * len(told)
    assert len(told) > 2


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.zeros(4), "4 distances of shape"),
        (np.zeros((3, 1)), r"3 distances of shape \(3, 1\)"),
        (np.zeros(6)[::2], "contiguous"),
        (np.zeros(3, np.float16), "float16; use float32 or float64"),
        (np.zeros(3, np.int64), "int64"),
        (np.array([0.1, np.nan, 0.2]), "finite ones are needed"),
        (np.array([0.1, np.inf, 0.2]), "finite ones are needed"),
        (np.array([0.1, -np.inf, 0.2]), "between -inf and 0.2"),
        (np.array([0.1, 1e30, 0.2]), "finite ones are needed"),
    ],
)
def test_errors(distances, message):
    with pytest.raises(ClusteringError, match=message):
        average_linkage(distances)
