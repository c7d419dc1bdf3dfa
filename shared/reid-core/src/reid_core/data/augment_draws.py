"""What is drawn to vary one training image, in the official order, and the geometry of it.

Official behaviour of CAL (CVPR 2022) and AIM (CVPR 2023): the order of the draws, rounding to whole
pixels with halves to even, and the rule by which an erased rectangle is accepted. ``random.Random``
serves as source. Distances are in pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from reid_core.data.augment_config import AugmentConfig

__all__ = [
    "MAX_ERASE_ATTEMPTS",
    "CropOffset",
    "DrawSource",
    "EraseBox",
    "draw_crop",
    "draw_erase",
    "enlarged_size",
    "erase_size",
]

MAX_ERASE_ATTEMPTS = 100
"""Rectangles that are tried for one image; when none is accepted the image stays whole."""


class DrawSource(Protocol):
    """Source of single draws; ``random.Random`` is one."""

    def uniform(self, a: float, b: float) -> float:
        """Return a real number between a and b."""

    def randint(self, a: int, b: int) -> int:
        """Return an integer between a and b, both included."""


class CropOffset(NamedTuple):
    """Upper left corner of the crop in the enlarged image, in pixels."""

    top: int
    left: int


class EraseBox(NamedTuple):
    """Erased rectangle, in pixels."""

    top: int
    left: int
    height: int
    width: int


def enlarged_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Return height and width of the enlarged image; halves round to even (official behaviour)."""
    return round(height * scale), round(width * scale)


def erase_size(area: npt.ArrayLike, ratio: npt.ArrayLike) -> tuple[Any, Any]:
    """Return height and width of rectangles, in whole pixels; halves round to even.

    Args:
        area: Target area in square pixels, any shape.
        ratio: Target height / width, same shape.

    Returns:
        round(sqrt(area * ratio)) and round(sqrt(area / ratio)), int64, same shape.
    """
    area, ratio = np.asarray(area, np.float64), np.asarray(ratio, np.float64)
    height = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    width = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    return height, width


def draw_crop(
    source: DrawSource, height: int, width: int, config: AugmentConfig
) -> CropOffset | None:
    """Draw the crop of one image, in the official order: test, left, top.

    Offsets are real numbers rounded to whole pixels, so the two outermost places are half as likely
    as the others.

    Returns:
        Place of the crop in the enlarged image; None where the image is used as it is.
    """
    if not source.uniform(0, 1) < config.crop_prob:
        return None
    large_height, large_width = enlarged_size(height, width, config.crop_scale)
    left = round(source.uniform(0, large_width - width))
    top = round(source.uniform(0, large_height - height))
    return CropOffset(top, left)


def draw_erase(
    source: DrawSource, height: int, width: int, config: AugmentConfig
) -> EraseBox | None:
    """Draw the erased rectangle of one image, in the official order.

    Order: test; area, ratio until the rectangle is smaller than the image in both directions (at
    most 100 times); top, left.

    Returns:
        Rectangle; None where nothing is erased.
    """
    if not source.uniform(0, 1) < config.erase_prob:
        return None
    min_ratio = config.erase_min_ratio
    for _ in range(MAX_ERASE_ATTEMPTS):
        area = source.uniform(*config.erase_area) * (height * width)
        ratio = source.uniform(min_ratio, 1 / min_ratio)
        box_height, box_width = map(int, erase_size(area, ratio))
        if box_height < height and box_width < width:
            top = source.randint(0, height - box_height)
            left = source.randint(0, width - box_width)
            return EraseBox(top, left, box_height, box_width)
    return None
