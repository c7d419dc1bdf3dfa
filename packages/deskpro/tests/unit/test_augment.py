"""Draws that the pictures of an image share, and what becomes of masks."""

from dataclasses import replace

import numpy as np
import pytest

from reid_core.data.augment import BatchAugment
from reid_core.data.images import resize_planar
from reid_deskpro.augment import SharedDraws, apply_to_masks, draw_params, share_draws
from reid_deskpro.stage_config import SyncAugmentConfig

CONFIG = SyncAugmentConfig()
BODY, FACE = BatchAugment(CONFIG, 64, 32), BatchAugment(CONFIG, 48, 48)


def test_a_batch_depends_on_its_place_only():
    first = share_draws(CONFIG, (1, 2, 3, 0), 8)
    again = share_draws(CONFIG, (1, 2, 3, 0), 8)
    assert first.seeds == again.seeds
    assert first.flip.tolist() == again.flip.tolist()
    for place in ((2, 2, 3, 0), (1, 3, 3, 0), (1, 2, 4, 0), (1, 2, 3, 1)):
        assert share_draws(CONFIG, place, 8).seeds != first.seeds


def test_images_draw_for_themselves():
    draws = share_draws(CONFIG, (1, 0, 0, 0), 64)
    assert len(set(draws.seeds)) == 64
    assert 0 < draws.flip.sum() < 64


def test_workers_draw_once_for_an_epoch():
    config = replace(CONFIG, rng="worker", workers=3)
    batches = [share_draws(config, (1, 5, step, 0), 4) for step in range(9)]
    assert all(len(set(draws.seeds)) == 1 for draws in batches)
    assert all(len(set(draws.flip.tolist())) == 1 for draws in batches)
    seeds = [draws.seeds[0] for draws in batches]
    assert seeds[:3] == seeds[3:6] == seeds[6:]
    assert len(set(seeds)) == 3
    assert share_draws(config, (1, 6, 0, 0), 4).seeds[0] not in seeds


def test_how_often_each_step_is_drawn():
    draws = share_draws(CONFIG, (1, 0, 0, 0), 4000)
    for augment in (BODY, FACE):
        params = draw_params(draws, augment)
        for share in (params.flip, params.crop, params.erase_boxes[:, 2] > 0):
            assert share.mean() == pytest.approx(0.5, abs=0.03)
        slack = np.subtract(augment.enlarged_size, (augment.height, augment.width))
        assert (params.crop_offsets >= 0).all()
        assert (params.crop_offsets <= slack).all()
        assert (params.crop_offsets.max(axis=0) == slack).all()


def test_pictures_of_an_image_are_decided_alike():
    draws = share_draws(CONFIG, (1, 0, 0, 0), 500)
    body, face = draw_params(draws, BODY), draw_params(draws, FACE)
    assert body.flip.tolist() == face.flip.tolist()
    assert body.crop.tolist() == face.crop.tolist()
    erased = [(params.erase_boxes[:, 2] > 0).tolist() for params in (body, face)]
    assert erased[0] == erased[1]


@pytest.mark.parametrize("flip", [False, True])
def test_masks_move_with_their_images(flip):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3, 64, 32), dtype=np.uint8)
    draws = SharedDraws(np.full(6, flip), share_draws(CONFIG, (1, 0, 0, 0), 6).seeds)
    params = draw_params(draws, BODY)
    assert 0 < params.crop.sum() < 6
    expected = BODY.apply_uint8(images, params)[:, :1]
    enlarged = np.stack([resize_planar(image, *BODY.enlarged_size) for image in images])
    for large in (None, enlarged):
        out = np.empty((6, 1, 64, 32), np.uint8)
        found = apply_to_masks(images, params, BODY, enlarged=large, out=out)
        assert found is out
        np.testing.assert_array_equal(found, expected)
