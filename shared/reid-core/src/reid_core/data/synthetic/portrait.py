"""The restored face: a person's head as a good camera nearby would have seen it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid_core.data.synthetic.body import draw_figure
from reid_core.data.synthetic.infrared import seen_outfit, seen_person
from reid_core.data.synthetic.raster import Canvas
from reid_core.data.synthetic.render import FaceBox, Framing
from reid_core.data.synthetic.world import Scene

__all__ = ["PORTRAIT_SIZE", "FaceSquare", "draw_portrait", "face_square"]

PORTRAIT_SIZE = 128
"""Height and width of a restored face, pixels."""

_MARGIN = 1.3
_SUPERSAMPLE = 2
_BACKGROUND = 0.5


class FaceSquare(NamedTuple):
    """A square around a face; pixels of the image, over whose border it may reach."""

    left: float
    top: float
    side: float


def face_square(box: FaceBox, margin: float = _MARGIN) -> FaceSquare:
    """Return the square with the centre of a face box and ``margin`` times its longer side."""
    side = margin * max(box.right - box.left, box.bottom - box.top)
    return FaceSquare(
        left=0.5 * (box.left + box.right - side),
        top=0.5 * (box.top + box.bottom - side),
        side=side,
    )


def draw_portrait(
    scene: Scene, framing: Framing, square: FaceSquare, *, size: int = PORTRAIT_SIZE
) -> NDArray[np.uint8]:
    """Draw what a square of an image shows, in full resolution and without the camera's faults.

    Pose, viewpoint and direction of the light are those of the image; its colour cast, contrast,
    blur and noise, and what stood in front of the person, are gone. The background is grey.

    Args:
        scene: What the image shows.
        framing: Where the person stands in the image (`RenderedImage.framing`).
        square: Which part of the image.
        size: Height and width, pixels.

    Returns:
        (size, size, 3) uint8 RGB; three equal channels where the camera sees no colours.
    """
    camera = scene.camera
    zoom = _SUPERSAMPLE * size / square.side
    canvas = Canvas(
        size * _SUPERSAMPLE,
        size * _SUPERSAMPLE,
        pixels_per_metre=framing.scale * zoom,
        origin=((framing.row - square.top) * zoom, (framing.column - square.left) * zoom),
        light=camera.light,
        ambient=camera.ambient,
    )
    person = seen_person(scene.person, camera.spectrum)
    draw_figure(
        canvas, person, seen_outfit(scene.outfit, camera.spectrum), scene.pose, camera.pitch
    )
    picture = np.where(canvas.part[:, :, None] > 0, canvas.color, np.float32(_BACKGROUND))
    blocks = picture.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE, 3)
    picture = blocks.mean(axis=(1, 3))
    if camera.spectrum != "visible":
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    portrait: NDArray[np.uint8] = np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
    return portrait
