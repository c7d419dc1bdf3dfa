"""Batches of every camera, side by side; refusal of too few clusters."""

import numpy as np
import pytest

from reid_core.errors import ConfigError
from reid_iics.batches import CameraSampler, require_clusters
from reid_iics.config import IICSConfig, InterConfig
from reid_iics.pseudo_labels import PseudoLabels

SIZES = (17, 9, 30)  # images of each camera
SIZE = 4


@pytest.fixture
def cameras():
    order = np.random.default_rng(0).permutation(sum(SIZES))
    return np.split(order, np.cumsum(SIZES)[:-1])


def batches(sampler, epoch):
    """Return (iterations, cameras, images)."""
    return sampler.epoch(epoch).reshape(-1, len(SIZES), SIZE)


def test_every_iteration_has_a_batch_of_every_camera_in_order(cameras):
    found = batches(CameraSampler(cameras, SIZE, seed=1), 0)
    assert len(found) == min(SIZES) // SIZE
    for iteration in found:
        for images, camera in zip(iteration, cameras, strict=True):
            assert set(images) <= set(camera)
    assert len(np.unique(found)) == found.size, "an image came twice in one epoch"


def test_epochs_and_seeds_differ_and_repeat(cameras):
    sampler = CameraSampler(cameras, SIZE, seed=1)
    first = sampler.epoch(0)
    assert not np.array_equal(first, sampler.epoch(1))
    assert not np.array_equal(first, CameraSampler(cameras, SIZE, seed=2).epoch(0))
    assert np.array_equal(first, CameraSampler(cameras, SIZE, seed=1).epoch(0))


def test_order_is_not_drawn_from_the_numbers_of_the_loader(cameras):
    """A batch of the loader draws from (seed, epoch, step, process)."""
    found = batches(CameraSampler(cameras, SIZE, seed=1), 5)
    for number, images in enumerate(cameras):
        order = np.random.default_rng([1, 5, number, 0]).permutation(images)
        assert not np.array_equal(found[:, number].ravel(), order[: found[:, number].size])


def test_all_images_of_a_large_camera_come_in_some_epoch(cameras):
    sampler = CameraSampler(cameras, SIZE, seed=1)
    seen = {image for epoch in range(40) for image in batches(sampler, epoch)[:, 2].ravel()}
    assert seen == set(cameras[2])


def test_processes_share_the_iterations_out(cameras):
    alone = batches(CameraSampler(cameras, SIZE, seed=1), 3)
    parts = [CameraSampler(cameras, SIZE, 1, rank, 2) for rank in range(2)]
    assert [len(part) for part in parts] == [SIZE * len(SIZES)] * 2
    for rank, part in enumerate(parts):
        assert np.array_equal(batches(part, 3), alone[rank::2])


def test_a_camera_without_a_batch_is_refused(cameras):
    with pytest.raises(ConfigError, match=r"the smallest with 9 images.* 10 images of each"):
        CameraSampler(cameras, 10, seed=1)
    with pytest.raises(ConfigError, match="for each of 3 process"):
        CameraSampler(cameras, SIZE, 1, 0, 3)


def clusters(count):
    labels = np.arange(40) % count
    return PseudoLabels(images=np.arange(40), labels=labels, num_clusters=count)


def test_clusters_must_fill_a_batch():
    config = IICSConfig(inter=InterConfig(batch_size=16, num_instances=4))
    require_clusters(config, clusters(4))
    with pytest.raises(ConfigError, match=r"form 3 cluster.* 4 different .*--inter.batch-size 12"):
        require_clusters(config, clusters(3))
    with pytest.raises(ConfigError, match=r"a smaller --inter.share \(now 0.0017\)") as raised:
        require_clusters(IICSConfig(variant="threshold"), clusters(1))
    assert "batch-size" not in str(raised.value)
