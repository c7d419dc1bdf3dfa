"""Reading and resizing of single images with Pillow, the reference for every pixel of the library.

Decoders and antialiased resizers of other libraries differ from Pillow's by a grey level or two;
the published numbers were made with Pillow, so nothing else is used. C, H, W: channels (3, RGB),
height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from reid_core.config import Interpolation
from reid_core.data.archives import read_file, read_member, split_member
from reid_core.data.array_rows import map_array, split_row
from reid_core.errors import DatasetError, ImageFileError

__all__ = [
    "Interpolation",
    "Pixels",
    "decode_resized",
    "describe_failures",
    "read_image",
    "resize_image",
    "resize_planar",
    "to_planar",
]

Pixels = npt.NDArray[np.uint8]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def read_image(path: Path) -> Image.Image:
    """Read an image file and convert it to RGB; orientation tags are ignored, alpha is dropped.

    Args:
        path: File in any format that Pillow decodes, also in an archive (``archives``), or a row
            of an array of images (``array_rows.row_path``).

    Returns:
        The decoded image, mode RGB.

    Raises:
        ImageFileError: The file is missing, empty, unreadable, truncated or not an image; the
            message names the file and the reason. The file is tried once.
    """
    row, member = split_row(path), split_member(path)
    try:
        if row is not None:
            return Image.fromarray(map_array(row[0])[row[1]])
        with Image.open(path if member is None else BytesIO(read_member(*member))) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    # Pillow's decoders raise almost any type on damaged data (OSError, SyntaxError, ValueError,
    # struct.error, IndexError, DecompressionBombError, ...), so no list would be complete.
    except Exception as error:
        raise ImageFileError(f"cannot read image {path}: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if path.is_dir():
        return "this is a folder"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, DatasetError):  # of an array or an archive
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels ({error})"
    if isinstance(error, UnidentifiedImageError):
        start = read_file(path)[:8]
        if not start:
            return "the file is empty (0 bytes)"
        return f"not an image in a known format (it starts with {start!r})"
    return f"truncated or damaged ({error or type(error).__name__})"


def describe_failures(failures: Sequence[ImageFileError], num_images: int) -> str:
    """Put the failures of many files into one message.

    Args:
        failures: At least one error of ``read_image``; the first five are written out.
        num_images: How many files were tried.

    Returns:
        Message that says which files, why, and what to do.
    """
    shown = [f"  {failure}" for failure in failures[:5]]
    if len(failures) > len(shown):
        shown.append(f"  ... and {len(failures) - len(shown)} more")
    lines = "\n".join(shown)
    return (
        f"{len(failures):,} of {num_images:,} images cannot be read:\n{lines}\n"
        "Restore these files from the data set's archive, or leave them out with "
        "--data.skip-corrupt (--skip-corrupt where nothing is trained)."
    )


def resize_image(
    image: Image.Image, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> Image.Image:
    """Resize with Pillow; where the size is already right, the pixels stay as they are."""
    return image.resize((width, height), _FILTERS[interpolation])


def to_planar(image: Image.Image) -> Pixels:
    """Return an RGB image as uint8 (3, H, W): crops, flips and conversions are fastest there."""
    return np.stack([np.asarray(band) for band in image.split()])


def resize_planar(
    pixels: Pixels, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> Pixels:
    """Resize planar pixels with Pillow, bit for bit as it resizes the RGB image.

    Args:
        pixels: (3, H, W) uint8.
        height: New height in pixels.
        width: New width in pixels.
        interpolation: Filter.

    Returns:
        (3, height, width) uint8.
    """
    bands = [
        resize_image(Image.fromarray(band), height, width, interpolation)
        for band in np.ascontiguousarray(pixels)
    ]
    return np.stack([np.asarray(band) for band in bands])


def decode_resized(
    path: Path, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> Pixels:
    """Read an image file and resize it: the deterministic first step of every transform.

    Args:
        path: Image file.
        height: New height in pixels.
        width: New width in pixels.
        interpolation: Filter.

    Returns:
        (3, height, width) uint8.

    Raises:
        ImageFileError: As ``read_image``.
    """
    return to_planar(resize_image(read_image(path), height, width, interpolation))
