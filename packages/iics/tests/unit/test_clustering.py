"""Cuts of a dendrogram, the threshold, and the quality of clusters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from reid_core.errors import ConfigError
from reid_iics import clustering
from reid_iics.cluster_distances import num_pairs
from reid_iics.clustering import (
    Dendrogram,
    FixedClusters,
    ThresholdClusters,
    distance_quantile,
    number_by_appearance,
)
from reid_iics.linkage import ClusteringError
from reid_iics.quality import ClusterQuality, cluster_quality


@pytest.fixture
def dendrogram():
    #    0 - 1: 1, 2 - 3: 2, {0, 1} - {2, 3}: 5, 4 to all others: 9
    return Dendrogram.of(np.array([1, 5, 5, 9, 5, 5, 9, 2, 9, 9], np.float64))


def test_cut_into(dendrogram):
    expected = {
        1: [0, 0, 0, 0, 0],
        2: [0, 0, 0, 0, 1],
        3: [0, 0, 1, 1, 2],
        4: [0, 0, 1, 2, 3],
        5: [0, 1, 2, 3, 4],
    }
    for num_clusters, labels in expected.items():
        assert dendrogram.cut_into(num_clusters).tolist() == labels


def test_cut_below_leaves_merges_at_the_height(dendrogram):
    for height, num_clusters in ((0.5, 5), (1, 5), (1.5, 4), (2, 4), (5, 3), (9, 2), (9.5, 1)):
        assert dendrogram.cut_below(height).max() + 1 == num_clusters, height


def test_cut_of_a_chain():
    """The last two merge first, then every image with all that come after it."""
    count = 12
    places = -(3.0 ** -np.arange(count))
    chain = Dendrogram.of(pdist(places[:, None]))
    for num_clusters in range(1, count + 1):
        labels = np.minimum(np.arange(count), num_clusters - 1)
        np.testing.assert_array_equal(chain.cut_into(num_clusters), labels)


@pytest.mark.parametrize("num_clusters", [0, 6, -1])
def test_cut_into_what_there_is_not(dendrogram, num_clusters):
    with pytest.raises(ConfigError, match=f"num_clusters={num_clusters} of 5 images; use 1 to 5"):
        dendrogram.cut_into(num_clusters)


def test_equal_heights_give_as_many_clusters_as_asked_for():
    alike = Dendrogram.of(np.ones(num_pairs(12)))
    for num_clusters in range(1, 13):
        labels = alike.cut_into(num_clusters)
        assert len(np.unique(labels)) == num_clusters == labels.max() + 1


def test_one_image():
    alone = Dendrogram.of(np.empty(0))
    assert alone.cut_into(1).tolist() == alone.cut_below(0.5).tolist() == [0]


def test_numbers_by_appearance():
    assert number_by_appearance([7, 7, 2, 7, -3, 2]).tolist() == [0, 0, 1, 0, 2, 1]
    assert number_by_appearance([]).tolist() == []


@pytest.mark.parametrize("block", [3, 50, 2**20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantile_is_that_of_the_sorted_distances(monkeypatch, block, dtype):
    monkeypatch.setattr(clustering, "_BLOCK", block)
    rng = np.random.default_rng(0)
    distances = rng.normal(size=400).round(2).astype(dtype)
    assert (distances == 0).any()
    ascending = np.sort(distances[distances != 0])
    for share in (0, 0.0017, 0.01, 0.3, 0.9, 0.999):
        place = min(round(share * len(ascending)), len(ascending) - 1)
        assert distance_quantile(distances, share) == ascending[place]


@pytest.mark.parametrize(("share", "place"), [(0.25, 2), (0.35, 4), (0.45, 4)])
def test_halves_are_rounded_to_even(share, place):
    distances = np.arange(1.0, 11)[::-1].copy()
    assert distance_quantile(distances, share) == 1 + place


def test_quantile_of_zeros():
    with pytest.raises(ClusteringError, match="none of 10 distances differs from 0"):
        distance_quantile(np.zeros(10), 0.5)


def test_quantile_keeps_the_distances():
    distances = np.random.default_rng(0).random(100)
    before = distances.copy()
    distance_quantile(distances, 0.5)
    np.testing.assert_array_equal(distances, before)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, math.nan])
def test_share_out_of_range(share):
    with pytest.raises(ConfigError, match="use 0 to below 1"):
        ThresholdClusters(share=share)


def test_no_clusters():
    with pytest.raises(ConfigError, match="num_clusters=0; use 1 or more"):
        FixedClusters(num_clusters=0)


def by_pairs(labels, pids, camids):
    """Count pairs one by one: (in a cluster, of a person, both), of all and across cameras."""
    counts = np.zeros((2, 3), int)
    for i, j in itertools.combinations(range(len(labels)), 2):
        found = [labels[i] == labels[j], pids[i] == pids[j]]
        found.append(all(found))
        counts[0] += found
        counts[1] += [flag and camids[i] != camids[j] for flag in found]
    return counts


def test_quality_by_pairs():
    rng = np.random.default_rng(3)
    pids, camids = rng.integers(0, 9, 80), rng.integers(0, 3, 80)
    labels = np.where(rng.random(80) < 0.6, pids, rng.integers(20, 30, 80))
    quality = cluster_quality(labels, pids, camids)
    (clustered, same, both), across = by_pairs(labels, pids, camids)
    total = num_pairs(80)
    expected = clustered * same / total
    assert quality.ari == pytest.approx((both - expected) / ((clustered + same) / 2 - expected))
    assert quality.cross_camera_recall == pytest.approx(across[2] / across[1])
    assert quality.cross_camera_precision == pytest.approx(across[2] / across[0])
    majority = sum(np.bincount(pids[labels == label]).max() for label in np.unique(labels))
    assert quality.purity == pytest.approx(majority / 80)
    # Mutual information from its definition.
    shared = 0.0
    for label, pid in itertools.product(np.unique(labels), np.unique(pids)):
        share = ((labels == label) & (pids == pid)).mean()
        if share:
            shared += share * math.log(share / ((labels == label).mean() * (pids == pid).mean()))
    entropies = [
        -sum(share * math.log(share) for share in np.unique(x, return_counts=True)[1] / 80)
        for x in (labels, pids)
    ]
    assert quality.nmi == pytest.approx(2 * shared / sum(entropies))


def test_quality_of_a_small_case():
    #         cluster 5: two of person 1, one of 2; cluster 8: one of person 2
    quality = cluster_quality([5, 5, 5, 8], [1, 1, 2, 2], [0, 1, 0, 1])
    assert quality == ClusterQuality(
        num_images=4,
        num_clusters=2,
        num_singletons=1,
        largest=3,
        purity=0.75,
        ari=0.0,
        nmi=pytest.approx(0.343711),
        cross_camera_recall=0.5,
        cross_camera_precision=0.5,
    )


def test_quality_of_right_clusters_and_of_none():
    pids = np.repeat(np.arange(5), 4)
    right = cluster_quality(pids + 3, pids, np.tile([0, 1], 10))
    assert (right.purity, right.ari, right.cross_camera_recall) == (1, 1, 1)
    assert right.nmi == pytest.approx(1)
    alone = cluster_quality(np.arange(20), pids, np.tile([0, 1], 10))
    assert (alone.purity, alone.ari, alone.num_singletons) == (1, 0, 20)
    assert (alone.cross_camera_recall, alone.cross_camera_precision) == (0, None)
    assert cluster_quality([0], [3]).ari == cluster_quality([0], [3]).nmi == 1


def test_quality_where_little_is_known():
    quality = cluster_quality([0, 0, 1])
    assert (quality.num_clusters, quality.purity, quality.ari, quality.nmi) == (2, None, None, None)
    assert cluster_quality([0, 0, 1], [0, 0, 0]).cross_camera_recall is None
    # One camera: there are no pairs of two.
    assert cluster_quality([0, 0, 1], [0, 0, 0], [4, 4, 4]).cross_camera_recall is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "no images were clustered"),
        (([0, 1], [0], None), r"pids have shape \(1,\); one for each of 2 images"),
        (([0, 1], [0, 0], [0, 1, 2]), r"camids have shape \(3,\)"),
    ],
)
def test_quality_errors(arguments, message):
    with pytest.raises(ConfigError, match=message):
        cluster_quality(*arguments)
