"""Sizes and encodings of single pictures."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_core.data.archives import split_member
from reid_core.data.array_rows import split_row
from reid_core.data.images import read_image
from reid_core.errors import ImageFileError

__all__ = ["Pixels", "encode_png", "image_size"]

Pixels = npt.NDArray[np.uint8]


def encode_png(pixels: Pixels) -> bytes:
    """Return (H, W) or (H, W, 3) uint8 pixels as an 8-bit PNG file."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image, pixels; of most files only the start is read.

    Raises:
        ImageFileError: As ``read_image``.
    """
    if split_row(path) is not None or split_member(path) is not None:
        return read_image(path).size
    try:
        with Image.open(path) as image:
            return image.size
    except MemoryError:
        raise
    # Pillow raises almost any type on damaged data; read_image says what is wrong.
    except Exception as error:
        read_image(path)
        raise ImageFileError(f"cannot read image {path}: {error}") from error
