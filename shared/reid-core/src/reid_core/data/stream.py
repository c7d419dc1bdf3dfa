"""Images read when they are needed, for folders too large to keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from reid_core.data.images import Interpolation, Pixels, decode_resized
from reid_core.errors import ImageFileError

__all__ = ["ImageSource", "ImageStream", "ReadImages"]


class ReadImages(NamedTuple):
    """Pixels of the images that could be read.

    Attributes:
        images: (n, 3, H, W) uint8 RGB.
        indices: (n,) int64, their positions in the source's ``paths``.
    """

    images: Pixels
    indices: npt.NDArray[np.int64]


class ImageSource(Protocol):
    """What evaluation and embedding read images from: ``ImageCache`` or ``ImageStream``."""

    @property
    def height(self) -> int:
        """Height of the images in pixels."""

    @property
    def width(self) -> int:
        """Width of the images in pixels."""

    def __len__(self) -> int:
        """Return the number of images."""

    def read(self, indices: npt.NDArray[np.int64]) -> ReadImages:
        """Return the images at these positions; may be called from several threads at once."""


class ImageStream:
    """Images decoded and resized at every reading; nothing is kept.

    Args:
        paths: Image files.
        height: Height in pixels.
        width: Width in pixels.
        interpolation: Filter of the resize.
        skip_corrupt: Leave unreadable images out instead of stopping.

    Attributes:
        paths: The files.
        skipped: Files left out so far, and why.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        height: int,
        width: int,
        interpolation: Interpolation = "bilinear",
        skip_corrupt: bool = False,
    ) -> None:
        self.paths = tuple(paths)
        self.height = height
        self.width = width
        self.skipped: dict[Path, str] = {}
        self._interpolation = interpolation
        self._skip_corrupt = skip_corrupt

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: npt.NDArray[np.int64]) -> ReadImages:
        """Decode the images at these positions.

        Args:
            indices: (n,) int64.

        Returns:
            The readable ones, in this order.

        Raises:
            ImageFileError: An image cannot be read, and ``skip_corrupt`` is off.
        """
        images = np.empty((len(indices), 3, self.height, self.width), np.uint8)
        kept: list[np.int64] = []
        for index in indices:
            path = self.paths[index]
            try:
                images[len(kept)] = decode_resized(
                    path, self.height, self.width, self._interpolation
                )
            except ImageFileError as error:
                if not self._skip_corrupt:
                    raise
                self.skipped[path] = str(error)
            else:
                kept.append(index)
        return ReadImages(images[: len(kept)], np.array(kept, np.int64))
