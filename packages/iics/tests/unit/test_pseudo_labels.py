"""Features to labels: cameras, rules for small ones, refusals."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from reid_core.errors import ConfigError, MemoryLimitError
from reid_core.memory import MemoryPlan
from reid_iics.cluster_distances import num_pairs
from reid_iics.clustering import FixedClusters, ThresholdClusters, number_by_appearance
from reid_iics.clustering_memory import plan_pseudo_labels
from reid_iics.linkage import ClusteringError
from reid_iics.pseudo_labels import inter_camera_labels, intra_camera_labels

NUM_PIDS, PER_CAMERA = 8, 4


@pytest.fixture
def people():
    """Identities, cameras and features that are easy to tell apart within a camera."""
    rng = np.random.default_rng(0)
    pids = np.tile(np.arange(NUM_PIDS), 2 * PER_CAMERA)
    camids = np.repeat([5, 2], NUM_PIDS * PER_CAMERA)
    centres, styles = rng.standard_normal((NUM_PIDS, 32)), rng.standard_normal((6, 32))
    features = centres[pids] + 0.2 * styles[camids] + 0.1 * rng.standard_normal((len(pids), 32))
    order = rng.permutation(len(pids))
    return pids[order], camids[order], torch.from_numpy(features[order]).float()


def same_clusters(labels, pids):
    return np.array_equal(number_by_appearance(labels), number_by_appearance(pids))


def test_cameras_come_in_the_order_of_their_first_image(people):
    pids, camids, features = people
    found = intra_camera_labels(features, camids, FixedClusters(num_clusters=NUM_PIDS))
    assert [one.camid for one in found] == list(dict.fromkeys(camids.tolist()))
    for one in found:
        np.testing.assert_array_equal(one.images, np.flatnonzero(camids == one.camid))
        assert one.num_clusters == NUM_PIDS
        assert one.threshold is None
        assert same_clusters(one.labels, pids[one.images])


@pytest.mark.parametrize("rerank", ["default", None])
def test_all_images(people, rerank):
    pids, camids, features = people
    options = {} if rerank else {"rerank": None}
    found = inter_camera_labels(features, camids, FixedClusters(num_clusters=NUM_PIDS), **options)
    assert same_clusters(found.labels, pids)
    np.testing.assert_array_equal(found.images, np.arange(len(pids)))
    assert (found.camid, found.num_clusters) == (None, NUM_PIDS)


def test_reranking_changes_distances(people):
    _, camids, features = people
    rule = ThresholdClusters(share=0.05)
    thresholds = [
        inter_camera_labels(features, camids, rule, **options).threshold
        for options in ({}, {"rerank": None})
    ]
    assert thresholds[0] != pytest.approx(thresholds[1])


def test_class_scores_bring_images_of_two_cameras_together():
    """Two people in two cameras that shift features the more; the heads know who is who."""
    features = torch.tensor([[1.0, 0.2], [1.0, -0.2], [-0.2, 1.0], [0.2, 1.0]])
    camids, pids = [0, 0, 1, 1], [0, 1, 0, 1]
    scores = torch.eye(2)[pids].repeat(1, 2)
    rule = FixedClusters(num_clusters=2)
    options = {"scores": scores, "rerank": None}
    by_camera = inter_camera_labels(features, camids, rule, **options)
    assert same_clusters(by_camera.labels, camids)
    by_person = inter_camera_labels(features, camids, rule, mixing_rate=2, **options)
    assert same_clusters(by_person.labels, pids)


def test_threshold_of_every_camera_is_its_own(people):
    _, camids, features = people
    features = features.clone()
    features[camids == 2] *= 3  # lengths do not count
    found = intra_camera_labels(features, camids, ThresholdClusters(share=0.1))
    assert len({one.threshold for one in found}) == 2
    for one in found:
        assert one.num_clusters == one.labels.max() + 1
        assert 1 < one.num_clusters < len(one.images)


@pytest.mark.parametrize("rule", [FixedClusters(num_clusters=3), ThresholdClusters(share=0.2)])
def test_cameras_of_one_and_two_images(people, rule):
    _, _, features = people
    found = intra_camera_labels(features[:3], [1, 0, 0], rule)
    assert found[0].num_clusters == 1
    assert found[0].labels.tolist() == [0]
    assert found[0].threshold is None
    assert len(found[1].labels) == 2


def test_a_small_camera_gets_half_as_many_clusters_as_images(people, caplog):
    _, camids, features = people
    kept = np.r_[np.flatnonzero(camids == 2)[:9], np.flatnonzero(camids == 5)]
    rule = FixedClusters(num_clusters=10)
    with caplog.at_level(logging.WARNING):
        small, large = intra_camera_labels(features[kept], camids[kept], rule)
    assert (small.num_clusters, large.num_clusters) == (4, 10)
    assert "camera 2 has 9 images, fewer than the 10 clusters asked for; it gets 4" in caplog.text


@pytest.mark.parametrize("rerank", ["default", None])
def test_official_rule_for_small_cameras_sticks(people, rerank):
    _, camids, features = people
    kept = np.r_[np.flatnonzero(camids == 2)[:9], np.flatnonzero(camids == 5)]
    options = {} if rerank else {"rerank": None}
    small, large = intra_camera_labels(
        features[kept],
        camids[kept],
        FixedClusters(num_clusters=10),
        legacy_small_cameras=True,
        **options,
    )
    assert (len(small.labels), small.num_clusters, large.num_clusters) == (9, 4, 4)


def test_fewer_images_than_clusters(people):
    _, camids, features = people
    found = inter_camera_labels(features[:9], camids[:9], FixedClusters(num_clusters=800))
    assert found.num_clusters == 4


def test_same_labels_again(people):
    _, camids, features = people
    first, second = (
        inter_camera_labels(features, camids, ThresholdClusters(share=0.02)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.threshold == second.threshold


def test_progress_names_the_work(people):
    _, camids, features = people
    told = []
    rule = FixedClusters(num_clusters=3)
    intra_camera_labels(features, camids, rule, progress=lambda *x: told.append(x))
    inter_camera_labels(features, camids, rule, progress=lambda *x: told.append(x))
    count = len(camids)
    assert [*dict.fromkeys(what for what, *_ in told)][-3:] == [
        f"all cameras: {what}" for what in ("distances", "re-ranking", "merging")
    ]
    assert ("all cameras: re-ranking", count, count) in told
    assert ("all cameras: merging", count - 1, count - 1) in told
    assert any(what == "camera 2: merging" for what, *_ in told)


@pytest.mark.parametrize("cluster", [intra_camera_labels, inter_camera_labels])
def test_memory(people, cluster):
    _, camids, features = people
    with pytest.raises(MemoryLimitError, match="distances of all pairs of") as caught:
        cluster(features, camids, FixedClusters(num_clusters=3), memory_limit="10MB")
    assert "fewer training images" in str(caught.value)


def test_memory_of_msmt17():
    """30,248 training images fit into 24 GB several times, in any case into 8."""
    plan = MemoryPlan("8GB")
    before = plan.total
    plan_pseudo_labels(plan, 30_248)
    needed = plan.total - before
    assert 4 * num_pairs(30_248) < needed < 2.5e9
    plan.require("clustering")


@pytest.mark.parametrize("cluster", [intra_camera_labels, inter_camera_labels])
@pytest.mark.parametrize(
    ("count", "camids", "message"),
    [(0, [], "0 images"), (4, [0, 1, 0], r"4 images and cameras of shape \(3,\)")],
)
def test_images_and_cameras(cluster, count, camids, message):
    with pytest.raises(ConfigError, match=message):
        cluster(torch.ones(count, 3), camids, FixedClusters(num_clusters=2))


def test_images_that_are_all_alike():
    with pytest.raises(ClusteringError, match="none of 45 distances differs from 0"):
        inter_camera_labels(
            torch.eye(4)[:1].repeat(10, 1), [0] * 10, ThresholdClusters(share=0.1), rerank=None
        )


def test_scores_are_missing():
    with pytest.raises(ConfigError, match=r"mixing_rate=0.02 mixes .* there are none"):
        inter_camera_labels(
            torch.eye(4), [0, 0, 1, 1], FixedClusters(num_clusters=2), mixing_rate=0.02
        )


@pytest.mark.gpu
def test_cuda(people):
    pids, camids, features = people
    rule = FixedClusters(num_clusters=NUM_PIDS)
    found = inter_camera_labels(features, camids, rule, device=torch.device("cuda"))
    assert same_clusters(found.labels, pids)
