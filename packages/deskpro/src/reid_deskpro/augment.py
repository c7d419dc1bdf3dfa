"""Draws that the pictures of one image share: body, face crop, restored face and mask.

The official code restores the state of its generators before each picture, so that all of them are
flipped, cropped and erased by the same random numbers, each at its own size. B: batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reid_core.data.augment import AugmentParams, BatchAugment, mirror
from reid_core.data.augment_draws import draw_crop, draw_erase
from reid_core.data.images import Pixels, resize_planar
from reid_deskpro.stage_config import SyncAugmentConfig

__all__ = ["SharedDraws", "apply_to_masks", "draw_params", "share_draws"]


class SharedDraws(NamedTuple):
    """Where the random numbers of B images come from.

    Attributes:
        flip: (B,) bool, whether all pictures of an image are mirrored; officially drawn from
            PyTorch's generator, apart from all else.
        seeds: B seeds of Python's generator, which every picture of an image starts from.
    """

    flip: npt.NDArray[np.bool_]
    seeds: Sequence[int]


def share_draws(
    config: SyncAugmentConfig, place: tuple[int, int, int, int], count: int
) -> SharedDraws:
    """Return the source of the draws of one batch.

    Args:
        config: ``rng`` says what shares them: ``sample`` gives each image its own; ``worker`` one
            to all images that one of ``workers`` loads in an epoch, batches dealt in turn (official
            behaviour: the state of the generators is put back after each image).
        place: Seed, epoch, number of the batch and rank.
        count: B.
    """
    seed, epoch, step, rank = place
    if config.rng == "sample":
        rng = np.random.default_rng([seed, epoch, step, rank])
        flip = rng.random(count) < config.flip_prob
        return SharedDraws(flip, rng.integers(2**63, size=count).tolist())
    rng = np.random.default_rng([seed, epoch, step % config.workers, rank])
    flip = np.full(count, rng.random() < config.flip_prob)
    return SharedDraws(flip, [int(rng.integers(2**63))] * count)


def draw_params(draws: SharedDraws, augment: BatchAugment) -> AugmentParams:
    """Draw for pictures of one size, in the official order: crop, left, top, erase.

    Args:
        draws: Of the images.
        augment: Augmentation for the size of the pictures.
    """
    height, width, config = augment.height, augment.width, augment.config
    slack = augment.enlarged_size[1] - width
    offsets = np.zeros((len(draws.seeds), 2), np.int64)
    crop = np.zeros(len(draws.seeds), np.bool_)
    boxes = np.zeros((len(draws.seeds), 4), np.int64)
    for index, seed in enumerate(draws.seeds):
        source = random.Random(seed)
        place = draw_crop(source, height, width, config)
        if place is not None:
            # Officially the flipped image is cropped; here the crop is flipped, with equal pixels.
            left = slack - place.left if draws.flip[index] else place.left
            crop[index], offsets[index] = True, (place.top, left)
        box = draw_erase(source, height, width, config)
        if box is not None:
            boxes[index] = box
    return AugmentParams(crop=crop, crop_offsets=offsets, flip=draws.flip, erase_boxes=boxes)


def apply_to_masks(
    masks: Sequence[Pixels],
    params: AugmentParams,
    augment: BatchAugment,
    *,
    enlarged: Sequence[Pixels] | None = None,
    out: Pixels,
) -> Pixels:
    """Crop and flip masks as their images; they are neither normalised nor erased (official).

    Args:
        masks: B masks, each (3, H, W) uint8 with equal channels.
        params: What was drawn for the images.
        augment: Augmentation of the images, which have the masks' size.
        enlarged: The same masks enlarged, each (3, *enlarged_size) uint8; without them those that
            are cropped are enlarged here.
        out: Where to write, (B, 1, H, W) uint8.

    Returns:
        ``out``.
    """
    height, width = augment.height, augment.width
    for index, target in enumerate(out):
        mask = masks[index][:1]
        if params.crop[index]:
            top, left = params.crop_offsets[index]
            large = (
                resize_planar(mask, *augment.enlarged_size)
                if enlarged is None
                else enlarged[index][:1]
            )
            mask = large[:, top : top + height, left : left + width]
        if params.flip[index]:
            mirror(mask, out=target)
        else:
            np.copyto(target, mask)
    return out
