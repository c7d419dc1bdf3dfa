"""What an image cache holds of each image, and the hash by which it is found again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from reid_core.data.archives import stamp
from reid_core.data.array_rows import stored_file
from reid_core.data.augment_draws import enlarged_size
from reid_core.data.images import Interpolation, Pixels, read_image, resize_image, to_planar
from reid_core.errors import ConfigError, ImageFileError

__all__ = ["CacheSpec", "content_key"]


@dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """What is stored of each image.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        interpolation: Filter of the resize to that size.
        crop_scale: Where given, the image enlarged by this factor (bilinear, from the resized
            pixels, as the random crop does it) is stored as well: crops become slices.
    """

    height: int
    width: int
    interpolation: Interpolation = "bilinear"
    crop_scale: float | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ConfigError(f"image size {self.height} x {self.width} must be at least 1 x 1.")

    @property
    def image_bytes(self) -> int:
        """Bytes of one image at its size."""
        return 3 * self.height * self.width

    @property
    def enlarged_size(self) -> tuple[int, int]:
        """Height and width of the enlarged version, (0, 0) where none is stored."""
        if self.crop_scale is None:
            return 0, 0
        return enlarged_size(self.height, self.width, self.crop_scale)

    @property
    def record_bytes(self) -> int:
        """Bytes of everything that is stored of one image."""
        height, width = self.enlarged_size
        return self.image_bytes + 3 * height * width

    def encode(self, path: Path) -> Pixels | ImageFileError:
        """Return the record of an image file, or why there is none."""
        try:
            image = read_image(path)
        except ImageFileError as error:
            return error
        image = resize_image(image, self.height, self.width, self.interpolation)
        record = np.empty(self.record_bytes, np.uint8)
        record[: self.image_bytes] = to_planar(image).reshape(-1)
        if self.crop_scale is not None:
            large = resize_image(image, *self.enlarged_size)
            record[self.image_bytes :] = to_planar(large).reshape(-1)
        return record


def content_key(spec: CacheSpec, paths: Sequence[Path]) -> str:
    """Hash everything that the pixels depend on, without reading the images.

    Paths, file sizes and modification times (also of files that are missing), sizes and filters,
    and the versions of Pillow and its JPEG decoder.
    """
    digest = hashlib.sha256()
    decoder = (PIL.__version__, features.version("libjpeg_turbo"), features.version("jpg"))
    digest.update(repr((spec, decoder)).encode())
    for path in paths:
        try:
            found = stamp(stored_file(path))
        except OSError:
            found = (-1, -1)
        digest.update(f"{path.absolute()}\0{found}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
