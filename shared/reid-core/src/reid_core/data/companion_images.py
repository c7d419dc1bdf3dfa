"""Pixels of companion images, which some images of a list may lack.

Legend: N entries of a list, n of them with an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reid_core.config import DataConfig
from reid_core.data.cache import ImageCache
from reid_core.data.companions import COMPANION_NAMES
from reid_core.data.opening import open_images
from reid_core.data.sample import Sample
from reid_core.data.stream import ImageSource, ReadImages
from reid_core.errors import DatasetError

__all__ = ["AccompaniedImages", "SparseImages", "open_accompanied", "open_companions"]

Indices = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


class SparseImages:
    """Images of the entries of a list, some of which have none; an ``ImageSource``.

    Args:
        source: The n images; None where there are none.
        positions: (n,) int64, the entries that they belong to, in the order of the source.
        num_entries: N.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Attributes:
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        present: (N,) bool, whether an entry has an image.
    """

    def __init__(
        self,
        source: ImageSource | None,
        positions: Indices,
        num_entries: int,
        *,
        height: int,
        width: int,
    ) -> None:
        self.height = height
        self.width = width
        self._source = source
        self._positions = positions
        self._rows = np.full(num_entries, -1, np.int64)
        self._rows[positions] = np.arange(len(positions))
        self.present = self._rows >= 0

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Indices) -> ReadImages:
        """Return the images of those of some entries that have one; the others are left out.

        Args:
            indices: Entries, int64.

        Returns:
            The images, and the entries that they belong to, in the order asked for.

        Raises:
            ImageFileError: As the source does.
        """
        rows = self._rows[indices]
        rows = rows[rows >= 0]
        if self._source is None or not len(rows):
            empty = np.empty((0, 3, self.height, self.width), np.uint8)
            return ReadImages(empty, np.empty(0, np.int64))
        found = self._source.read(rows)
        return ReadImages(found.images, self._positions[found.indices])


def open_companions(
    samples: Sequence[Sample],
    kind: str,
    size: tuple[int, int],
    config: DataConfig,
    *,
    num_processes: int = 1,
    progress: Progress | None = None,
) -> SparseImages:
    """Decode the companions that samples have, of one kind, as ``open_images`` does images.

    Args:
        samples: The images that they stand beside.
        kind: One of ``COMPANION_KINDS``.
        size: Height and width in pixels.
        config: As in ``open_images``, but for the size. Damaged companions that may be left out
            count as missing.
        num_processes: As in ``open_images``.
        progress: As in ``open_images``.

    Raises:
        ReIDError: As ``open_images``.
    """
    height, width = size
    positions = np.array([i for i, sample in enumerate(samples) if kind in sample.extra], np.int64)
    cache: ImageCache | None = None
    if len(positions):
        cache = open_images(
            [_companion(samples[i], kind) for i in positions],
            replace(config, height=height, width=width),
            num_processes=num_processes,
            progress=progress,
        )
        positions = positions[cache.kept]
    return SparseImages(cache, positions, len(samples), height=height, width=width)


class AccompaniedImages(NamedTuple):
    """Images that all have companions: row i of each cache belongs to sample i.

    Attributes:
        images: Pixels of the images.
        companions: Pixels of their companions, by kind.
        samples: The samples; those with a damaged picture left out.
    """

    images: ImageCache
    companions: Mapping[str, ImageCache]
    samples: Sequence[Sample]


def open_accompanied(
    samples: Sequence[Sample],
    config: DataConfig,
    companions: Mapping[str, tuple[int, int]],
    *,
    crop_scale: float | None = None,
    num_processes: int = 1,
    progress: Progress | None = None,
) -> AccompaniedImages:
    """Decode images together with companions that all of them have, for training.

    Args:
        samples: The images.
        config: As in ``open_images``. Of a damaged picture that may be left out, the others of the
            same sample are left out, too.
        companions: Height and width by kind; may be empty.
        crop_scale: As in ``open_images``, of all pictures.
        num_processes: As in ``open_images``.
        progress: As in ``open_images``, for one kind of picture after the other.

    Raises:
        DatasetError: A sample lacks a companion.
        ReIDError: As ``open_images``.
    """

    def open_all(pictures: Sequence[Sample], settings: DataConfig) -> ImageCache:
        return open_images(
            pictures,
            settings,
            crop_scale=crop_scale,
            num_processes=num_processes,
            progress=progress,
        )

    images = open_all(samples, config)
    kept = images.select(samples)
    caches: dict[str, ImageCache] = {}
    for kind, (height, width) in companions.items():
        pictures = [_companion(sample, kind) for sample in kept]
        cache = caches[kind] = open_all(pictures, replace(config, height=height, width=width))
        if len(cache) < len(kept):
            # Few data sets have damaged files: their lists are read anew, from the start.
            return open_accompanied(
                cache.select(kept),
                config,
                companions,
                crop_scale=crop_scale,
                num_processes=num_processes,
                progress=progress,
            )
    return AccompaniedImages(images, caches, kept)


def _companion(sample: Sample, kind: str) -> Sample:
    """Return a sample whose image is the companion of another one's."""
    if kind not in sample.extra:
        raise DatasetError(
            f"{sample.path} has no {COMPANION_NAMES[kind]} ({kind}), which training needs of "
            "every image; leave the image out, or prepare it"
        )
    return replace(sample, path=sample.extra[kind])
