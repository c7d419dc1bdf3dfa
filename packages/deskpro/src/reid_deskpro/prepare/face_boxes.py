"""Where the face is in an image of a person, and how it is cut out.

Boxes are (left, top, right, bottom) in pixels of the image, right and bottom exclusive. H, W:
height and width of the image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid_core.errors import DatasetError
from reid_deskpro.prepare.label_maps import Labels
from reid_deskpro.prepare.label_sets import LABEL_SETS, LabelSetName
from reid_deskpro.prepare.pictures import Pixels

__all__ = [
    "Box",
    "Face",
    "choose_face",
    "count_strangers",
    "crop_square",
    "find_face",
    "read_detections",
    "square",
]

_BOX_NUMBERS = 5  # left, top, right, bottom, score; landmarks may follow


class Box(NamedTuple):
    """A rectangle in an image; it may reach over the image's borders."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def size(self) -> float:
        """The shorter side, pixels."""
        return min(self.right - self.left, self.bottom - self.top)


class Face(NamedTuple):
    """A face in an image, or why there is none.

    Attributes:
        box: Where it is; None where there is none.
        reason: Why there is none; empty where there is one.
    """

    box: Box | None
    reason: str = ""


def read_detections(path: Path) -> dict[str, list[list[float]]]:
    """Read what a face detector found.

    Args:
        path: JSON object from the path of an image below the data set's folder (forward slashes)
            to a list of ``[x1, y1, x2, y2, score]``, pixels of the image, right and bottom
            exclusive; landmarks may follow in each and are not used. An empty list means that
            nothing was found.

    Returns:
        The five numbers of each face by the path of the image.

    Raises:
        DatasetError: When the file cannot be read or holds something else; the entry is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"cannot read the detections {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"the detections {path} are no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"the detections {path} must be one JSON object (image -> list of faces), not a "
            f"{type(content).__name__}"
        )
    return {name: _faces_of(path, name, faces) for name, faces in content.items()}


def choose_face(faces: Sequence[Sequence[float]], height: int, width: int, min_size: int) -> Face:
    """Choose among detected faces: the largest score times area, its centre in the upper half.

    Args:
        faces: ``[x1, y1, x2, y2, score]`` each.
        height: Height of the image.
        width: Width of the image.
        min_size: Smallest shorter side, pixels.

    Returns:
        The face of the person whom the image shows: below the middle, or outside the image, is
        somebody else or a mistake, as is a face of more than twice the image's size.
    """
    if not faces:
        return Face(None, "no face was detected")
    upper = [
        (score * (right - left) * (bottom - top), Box(left, top, right, bottom))
        for left, top, right, bottom, score in faces
        if 0 <= top + bottom < height
        and 0 <= left + right < 2 * width
        and max(right - left, bottom - top) <= 2 * max(height, width)
    ]
    if not upper:
        return Face(None, "no face in the upper half")
    large = [face for face in upper if face[1].size >= min_size]
    return Face(max(large)[1]) if large else Face(None, "the face is too small")


def find_face(labels: Labels, label_set: LabelSetName, min_size: int, min_share: float) -> Face:
    """Find the face in a label map: the largest connected piece in the upper half.

    Args:
        labels: (H, W) label numbers, in the size of the image.
        label_set: Which labels; of one without faces the whole head is taken, from all sides.
        min_size: Smallest shorter side, pixels.
        min_share: Smallest share of the head's pixels that the face has: a head seen from behind
            may have a few stray ones.
    """
    # Imported here: it takes longer than all else, and detections do not need it.
    from scipy import ndimage

    known = LABEL_SETS[label_set]
    is_head = np.isin(labels, known.head)
    is_face = np.isin(labels, known.face or known.head)
    if not is_head.any():
        return Face(None, "no head in the label map")
    pieces, count = ndimage.label(is_face, structure=np.ones((3, 3)))
    best, best_area = None, 0
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
        area = int((pieces[rows, columns] == number).sum())
        if rows.start + rows.stop < labels.shape[0] and area > best_area:
            best, best_area = Box(columns.start, rows.start, columns.stop, rows.stop), area
    if best is None:
        return Face(None, "no face in the upper half" if count else "the head is turned away")
    if best_area < min_share * is_head.sum():
        return Face(None, "the head is turned away")
    if best.size < min_size:
        return Face(None, "the face is too small")
    return Face(best)


def square(box: Box, margin: float) -> tuple[int, int, int]:
    """Return left, top and side, whole pixels, of the square around a box.

    Args:
        box: A face.
        margin: Side of the square as a multiple of the box's longer side.
    """
    side = max(round(margin * max(box.right - box.left, box.bottom - box.top)), 1)
    left = math.floor((box.left + box.right - side) / 2 + 0.5)
    top = math.floor((box.top + box.bottom - side) / 2 + 0.5)
    return left, top, side


def crop_square(pixels: Pixels, left: int, top: int, side: int) -> Pixels:
    """Cut a square out of an image; beyond its borders the outermost pixels are repeated.

    Args:
        pixels: (H, W, 3) uint8.
        left: Leftmost column; may lie outside.
        top: Uppermost row; may lie outside.
        side: Height and width.

    Returns:
        (side, side, 3) uint8, not resized.
    """
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return pixels[rows[:, None], columns[None, :]]


def count_strangers(detections: Mapping[str, Any], images: Sequence[str], path: Path) -> int:
    """Return how many entries belong to no image.

    Raises:
        DatasetError: When all of them do.
    """
    known = set(images)
    strangers = [name for name in detections if name not in known]
    if len(strangers) == len(detections) and images:
        shown = f"its entries are like {strangers[0]!r}, " if strangers else "it has no entries; "
        raise DatasetError(
            f"the detections {path} belong to none of the {len(images):,} images: {shown}images "
            f"are like {images[0]!r} (the path below the data set's folder)"
        )
    return len(strangers)


def _faces_of(path: Path, name: str, faces: Any) -> list[list[float]]:
    if not isinstance(faces, list):
        raise DatasetError(f"{path}: the entry {name!r} is no list of faces but {faces!r:.80}")
    return [_numbers(path, name, face) for face in faces]


def _numbers(path: Path, name: str, face: Any) -> list[float]:
    numbers = face[:_BOX_NUMBERS] if isinstance(face, list) else []
    if len(numbers) < _BOX_NUMBERS or not all(
        isinstance(number, int | float) and math.isfinite(number) for number in numbers
    ):
        raise DatasetError(
            f"{path}: the face {face!r:.80} of {name!r} must be [x1, y1, x2, y2, score]"
        )
    if numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise DatasetError(
            f"{path}: the face {face!r:.80} of {name!r} has no area; corners are left, top, right, "
            "bottom, not width and height"
        )
    return [float(number) for number in numbers]
