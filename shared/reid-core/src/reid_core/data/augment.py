"""Training augmentation of the clothes-changing methods: enlarge and crop, flip, pad, erase.

The steps, in this order, for an image already resized to (H, W):

1. with ``crop_prob``: enlarge to (round(1.125 H), round(1.125 W)) with Pillow's bilinear filter and
   cut out H x W at a random place;
2. with ``flip_prob``: mirror left-right;
3. with ``pad``: put so many black pixels around it and cut out H x W at a random place;
4. scale to [0, 1], subtract the mean, divide by the standard deviation;
5. with ``erase_prob``: fill one random rectangle of the normalised image (Random Erasing, Zhong et
   al., AAAI 2020).

Semantics and rounding are the official ones (CAL, CVPR 2022; AIM, CVPR 2023; without the first step
CSSC, ICASSP 2025). ``augment_draws`` says what is drawn for one image; ``BatchAugment`` draws for
whole batches with the same geometry and applies the result bit for bit as Pillow and torchvision
would. Nothing here holds a random state: the generator is an argument. B: batch, H W: height and
width in pixels. Does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_core.data.augment_config import AugmentConfig, Channels
from reid_core.data.augment_draws import MAX_ERASE_ATTEMPTS, enlarged_size, erase_size
from reid_core.data.images import Pixels, resize_planar
from reid_core.errors import ConfigError

__all__ = ["AugmentConfig", "AugmentParams", "BatchAugment", "Floats", "mirror", "normalize_pixels"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """What was drawn for the B images of a batch.

    Attributes:
        crop: (B,) bool, whether image i is enlarged and cropped.
        crop_offsets: (B, 2) int64, top and left in the enlarged image; 0 where not cropped.
        flip: (B,) bool.
        erase_boxes: (B, 4) int64, top, left, height, width; height 0 where nothing is erased.
        pad_offsets: (B, 2) int64, top and left in the padded image, 0 to 2 ``pad``; None where
            nothing is padded.
    """

    crop: npt.NDArray[np.bool_]
    crop_offsets: npt.NDArray[np.int64]
    flip: npt.NDArray[np.bool_]
    erase_boxes: npt.NDArray[np.int64]
    pad_offsets: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.crop)


class BatchAugment:
    """Augmentation of whole batches: draw, then apply.

    Args:
        config: Probabilities and ranges.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Raises:
        ConfigError: The padding is as large as the image.
    """

    def __init__(self, config: AugmentConfig, height: int, width: int) -> None:
        if config.pad >= min(height, width):
            raise ConfigError(
                f"pad={config.pad} could push images of {height} x {width} pixels out of sight; "
                f"use at most {min(height, width) - 1}."
            )
        self.config = config
        self.height = height
        self.width = width
        self.enlarged_size = enlarged_size(height, width, config.crop_scale)

    def draw(self, rng: np.random.Generator, count: int) -> AugmentParams:
        """Draw for ``count`` images; distributed as ``draw_crop`` and ``draw_erase``."""
        config = self.config
        crop = rng.random(count) < config.crop_prob
        slack = np.subtract(self.enlarged_size, (self.height, self.width))
        offsets = np.rint(rng.random((count, 2)) * slack).astype(np.int64)
        offsets[~crop] = 0
        flip = rng.random(count) < config.flip_prob
        shifts = None
        if config.pad:
            shifts = rng.integers(0, 2 * config.pad, (count, 2), endpoint=True)
        boxes = self._draw_boxes(rng, count)
        return AugmentParams(
            crop=crop, crop_offsets=offsets, flip=flip, erase_boxes=boxes, pad_offsets=shifts
        )

    def _draw_boxes(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        boxes = np.zeros((count, 4), np.int64)
        pending = np.flatnonzero(rng.random(count) < self.config.erase_prob)
        min_ratio = self.config.erase_min_ratio
        for _ in range(MAX_ERASE_ATTEMPTS):
            if not pending.size:
                break
            area = rng.uniform(*self.config.erase_area, pending.size) * (self.height * self.width)
            ratio = rng.uniform(min_ratio, 1 / min_ratio, pending.size)
            height, width = erase_size(area, ratio)
            fits = (height < self.height) & (width < self.width)
            chosen, height, width = pending[fits], height[fits], width[fits]
            top = rng.integers(0, self.height - height, endpoint=True)
            left = rng.integers(0, self.width - width, endpoint=True)
            boxes[chosen] = np.stack([top, left, height, width], axis=1)
            pending = pending[~fits]
        return boxes

    def apply_uint8(
        self,
        images: Sequence[Pixels] | Pixels,
        params: AugmentParams,
        *,
        enlarged: Sequence[Pixels] | Pixels | None = None,
        out: Pixels | None = None,
    ) -> Pixels:
        """Crop, flip and pad; normalising and erasing are left to the device.

        Args:
            images: B images, each (3, H, W) uint8; an array or a list of views.
            params: What was drawn for them.
            enlarged: The same images enlarged, each (3, *enlarged_size) uint8, so that a crop is a
                slice. Without it the cropped images are enlarged here, which takes Pillow longer
                than everything else together.
            out: Where to write, (B, 3, H, W) uint8; by default a new array.

        Returns:
            (B, 3, H, W) uint8.
        """
        if out is None:
            out = np.empty((len(params), 3, self.height, self.width), np.uint8)
        flipped = np.empty((3, self.height, self.width), np.uint8)
        for i, target in enumerate(out):
            pixels = self._crop(i, images, params, enlarged)
            if params.pad_offsets is not None:
                pixels = mirror(pixels, out=flipped) if params.flip[i] else pixels
                self._pad(i, pixels, params.pad_offsets, out=target)
            elif params.flip[i]:
                mirror(pixels, out=target)
            else:
                np.copyto(target, pixels)
        return out

    def apply_float(
        self,
        images: Sequence[Pixels] | Pixels,
        params: AugmentParams,
        *,
        enlarged: Sequence[Pixels] | Pixels | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Do all steps: crop, flip, pad, normalise, erase.

        Args:
            images: As in ``apply_uint8``.
            params: As in ``apply_uint8``.
            enlarged: As in ``apply_uint8``.
            out: Where to write, (B, 3, H, W) float32; by default a new array.

        Returns:
            (B, 3, H, W) float32, normalised; equal to torchvision's ``to_tensor`` and ``normalize``
            bit for bit.
        """
        config = self.config
        if out is None:
            out = np.empty((len(params), 3, self.height, self.width), np.float32)
        flipped, padded = np.empty((2, 3, self.height, self.width), np.uint8)
        fill = _per_channel(config.erase_fill)
        # Image by image, so that all passes over one image find it in the core's cache.
        for i, target in enumerate(out):
            pixels = self._crop(i, images, params, enlarged)
            if params.flip[i]:
                pixels = mirror(pixels, out=flipped)
            if params.pad_offsets is not None:
                pixels = self._pad(i, pixels, params.pad_offsets, out=padded)
            normalize_pixels(pixels, config.mean, config.std, out=target)
            top, left, height, width = params.erase_boxes[i]
            if height:
                target[:, top : top + height, left : left + width] = fill
        return out

    def _crop(
        self,
        index: int,
        images: Sequence[Pixels] | Pixels,
        params: AugmentParams,
        enlarged: Sequence[Pixels] | Pixels | None,
    ) -> Pixels:
        image: Pixels = images[index]
        if not params.crop[index]:
            return image
        large: Pixels
        large = resize_planar(image, *self.enlarged_size) if enlarged is None else enlarged[index]
        top, left = params.crop_offsets[index]
        return large[:, top : top + self.height, left : left + self.width]

    def _pad(
        self, index: int, pixels: Pixels, offsets: npt.NDArray[np.int64], *, out: Pixels
    ) -> Pixels:
        """Cut (3, H, W) out of the padded image without making it: shift, and blacken the rest."""
        down, right = (self.config.pad - offsets[index]).tolist()
        to_rows, rows = _shift(down, self.height)
        to_columns, columns = _shift(right, self.width)
        out.fill(0)
        out[:, to_rows, to_columns] = pixels[:, rows, columns]
        return out


def _shift(distance: int, size: int) -> tuple[slice, slice]:
    """Return where a row of ``size`` moved by ``distance`` lands, and what of it stays inside."""
    return (
        slice(max(distance, 0), size + min(distance, 0)),
        slice(max(-distance, 0), size - max(distance, 0)),
    )


def mirror(pixels: Pixels, *, out: Pixels) -> Pixels:
    """Flip left-right into ``out``; both (3, H, W) uint8, ``out`` contiguous along W.

    NumPy reverses bytes one at a time; words of up to eight bytes taken in reverse order, each with
    its bytes swapped, give the same in less than half the time.
    """
    size = math.gcd(pixels.shape[-1], 8)
    words = np.ascontiguousarray(pixels).view(f"<u{size}")
    np.copyto(out.view(f">u{size}"), words[..., ::-1])
    return out


def normalize_pixels(pixels: Pixels, mean: Channels, std: Channels, *, out: Floats) -> Floats:
    """Scale to [0, 1], subtract the mean, divide by the standard deviation.

    The divisions are not folded into one factor: in this form the result equals torchvision's to
    the last bit, on every device.

    Args:
        pixels: (..., 3, H, W) uint8.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        out: Same shape, float32.

    Returns:
        ``out``.
    """
    np.copyto(out, pixels)
    np.divide(out, np.float32(255), out=out)
    np.subtract(out, _per_channel(mean), out=out)
    np.divide(out, _per_channel(std), out=out)
    return out


def _per_channel(values: Channels) -> Floats:
    return np.array(values, np.float32)[:, None, None]
