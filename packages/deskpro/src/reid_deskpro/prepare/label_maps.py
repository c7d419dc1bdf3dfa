"""Label maps of human parsing: reading them, and turning them into masks.

H, W: height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_core.data.archives import read_file
from reid_core.errors import ImageFileError
from reid_deskpro.prepare.label_sets import IGNORED_LABEL, LABEL_SETS, LabelSetName

__all__ = ["LABEL_MAP_SUFFIXES", "Labels", "fit_labels", "not_clothing_mask", "read_label_map"]

Labels = npt.NDArray[np.uint8]

LABEL_MAP_SUFFIXES = (".png", ".npy")
"""Endings of label maps, the preferred one first."""

_INDEX_MODES = ("1", "L", "P", "I", "I;16")


def read_label_map(path: Path, label_set: LabelSetName) -> Labels:
    """Read a label map.

    Args:
        path: PNG whose pixels (or palette indices) are label numbers, or NPY of integers (H, W),
            (1, H, W) or (H, W, 1).
        label_set: Which labels it has.

    Returns:
        (H, W) uint8, numbers of the label set; what the map leaves open (255) is background.

    Raises:
        ImageFileError: When it cannot be read, holds colours instead of numbers, or holds numbers
            that the label set does not have.
    """
    values = _read_array(path) if path.suffix.lower() == ".npy" else _read_png(path)
    if values.size == 0:
        raise ImageFileError(f"the label map {path} is empty: its shape is {values.shape}")
    num_labels = len(LABEL_SETS[label_set].names)
    wrong = (values < 0) | ((values >= num_labels) & (values != IGNORED_LABEL))
    if wrong.any():
        found = ", ".join(map(str, np.unique(values[wrong])[:5]))
        raise ImageFileError(
            f"the label map {path} holds {found}, but {LABEL_SETS[label_set].title} has the labels "
            f"0 to {num_labels - 1} (and {IGNORED_LABEL} for nothing); choose another --labels"
        )
    return np.where(values == IGNORED_LABEL, 0, values).astype(np.uint8)


def fit_labels(labels: Labels, height: int, width: int) -> Labels:
    """Resize a label map to its image; every pixel takes the nearest label.

    Args:
        labels: (h, w) label numbers.
        height: Height of the image.
        width: Width of the image.

    Returns:
        (height, width) uint8.
    """
    if labels.shape == (height, width):
        return labels
    resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized)


def not_clothing_mask(labels: Labels, kept: Sequence[int]) -> Labels:
    """Return a mask of what is not clothing.

    Args:
        labels: (H, W) label numbers.
        kept: The labels that are not clothing.

    Returns:
        (H, W) uint8: 255 where a label is kept, 0 elsewhere. The exact zeros matter: training
        lifts them, and nothing else, to 0.1.
    """
    return np.where(np.isin(labels, kept), 255, 0).astype(np.uint8)


def _read_png(path: Path) -> npt.NDArray[np.int64]:
    try:
        with Image.open(BytesIO(read_file(path))) as image:
            mode = image.mode
            values = np.asarray(image)
    except MemoryError:
        raise
    # Pillow raises almost any type on damaged data.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageFileError(f"cannot read the label map {path}: {reason}") from error
    if mode not in _INDEX_MODES:
        raise ImageFileError(
            f"{path} is a picture in colours ({mode}), but a label map has one number per pixel; "
            "give the index images of the parser, not its coloured ones"
        )
    return values.astype(np.int64)


def _read_array(path: Path) -> npt.NDArray[np.int64]:
    try:
        values = np.load(BytesIO(read_file(path)), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageFileError(f"cannot read the label map {path}: {error}") from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[:, :, 0]
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise ImageFileError(
            f"the label map {path} is {values.dtype} of shape {values.shape}; a map has one "
            "integer per pixel, shape (H, W)"
        )
    labels: npt.NDArray[np.int64] = values.astype(np.int64)
    return labels
