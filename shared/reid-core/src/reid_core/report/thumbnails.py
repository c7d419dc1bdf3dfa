"""Small embedded copies of images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from reid_core.data.images import read_image
from reid_core.errors import ImageFileError

__all__ = ["MAX_SIZE", "Thumbnail", "make_thumbnail"]

MAX_SIZE = (112, 224)
"""Largest width and height in pixels; about 5 KB per photograph, 11 KB for pure noise."""

_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG as a ``data:`` address, with its size in pixels."""

    uri: str
    width: int
    height: int


def make_thumbnail(path: Path) -> Thumbnail | None:
    """Shrink an image to fit ``MAX_SIZE``, keeping its shape; small images are not enlarged.

    Args:
        path: Image file.

    Returns:
        The picture, or None where the file is missing or cannot be decoded: a report that was
        asked for after hours of training is not lost for one picture.
    """
    try:
        image = read_image(path)
    except ImageFileError:
        return None
    image.thumbnail(MAX_SIZE, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{data}", *image.size)
