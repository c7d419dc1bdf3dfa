"""Rendering of one image of one person, with its mask and face box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from reid_core.data.synthetic.backdrop import backdrop
from reid_core.data.synthetic.body import draw_figure
from reid_core.data.synthetic.infrared import seen_outfit, seen_person
from reid_core.data.synthetic.people import Person
from reid_core.data.synthetic.pose import Pose
from reid_core.data.synthetic.raster import Canvas
from reid_core.data.synthetic.scene import Camera
from reid_core.data.synthetic.sections import FloatArray
from reid_core.data.synthetic.wardrobe import Outfit
from reid_core.errors import ConfigError

__all__ = ["FaceBox", "Framing", "RenderedImage", "render"]

# Canvas pixels per image pixel and axis; their average smooths the edges. Small images need more.
_SUPERSAMPLE, _SUPERSAMPLE_SMALL, _SMALL_HEIGHT = 2, 3, 96
_MIN_HEIGHT, _MIN_WIDTH = 24, 8
# A face counts as seen when this share of a frontal, unhidden face is.
_MIN_FACE_SHARE = 0.4


class FaceBox(NamedTuple):
    """Box around a visible face; pixels, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class Framing(NamedTuple):
    """Where the person stands in the picture, and how large: pixels, pixels per metre."""

    row: float
    column: float
    scale: float


@dataclass(frozen=True)
class RenderedImage:
    """One image with its exact annotation.

    Attributes:
        image: (H, W, 3) uint8 RGB; infrared and thermal images have three equal channels.
        mask: (H, W) uint8, `Part` of each pixel.
        face_box: Where the face is, or None where it is turned away or hidden.
        framing: Where the person stands.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    face_box: FaceBox | None
    framing: Framing

    def face_crop(self) -> NDArray[np.uint8] | None:
        """Return the (h, w, 3) uint8 pixels of the face box, or None without one."""
        if self.face_box is None:
            return None
        box = self.face_box
        return self.image[box.top : box.bottom, box.left : box.right]


def render(
    person: Person,
    outfit: Outfit,
    camera: Camera,
    pose: Pose,
    rng: np.random.Generator,
    *,
    height: int = 128,
    width: int = 64,
) -> RenderedImage:
    """Render a person as a detector would crop them from a camera's picture.

    Args:
        person: Identity.
        outfit: Clothes.
        camera: Background, viewpoint, colours and image quality.
        pose: Pose; `draw_pose` with `draw_heading` gives one that suits the camera.
        rng: Decides what changes from image to image: crop, background window, occluder, light
            and noise.
        height: Pixels.
        width: Pixels.

    Returns:
        Image, mask and face box; the same arguments and generator state give the same bytes.

    Raises:
        ConfigError: The size is too small to show a person or wider than a camera's view.
    """
    if height < _MIN_HEIGHT or not _MIN_WIDTH <= width <= 4 * height:
        raise ConfigError(
            f"cannot render {height} x {width} pixels; the height must be at least {_MIN_HEIGHT} "
            f"and the width between {_MIN_WIDTH} and four times the height"
        )
    person, outfit = seen_person(person, camera.spectrum), seen_outfit(outfit, camera.spectrum)
    n = _SUPERSAMPLE_SMALL if height < _SMALL_HEIGHT else _SUPERSAMPLE
    framing = _frame_person(person, camera, rng, height, width)
    row, column, scale = framing
    canvas = Canvas(
        height * n,
        width * n,
        pixels_per_metre=scale * n,
        origin=(row * n, column * n),
        light=camera.light,
        ambient=camera.ambient,
    )
    draw_figure(canvas, person, outfit, pose, camera.pitch)
    drawn = canvas.part > 0
    coverage = _reduce(drawn[:, :, None].astype(np.float32), n)
    picture = _background(camera, rng, height, width)
    if camera.spectrum != "thermal":
        picture *= _ground_shadow(height, width, row, column, scale)[:, :, None]
    picture = picture * (1.0 - coverage) + _reduce(canvas.color, n)
    mask = canvas.part[n // 2 :: n, n // 2 :: n].copy()
    face = canvas.face[n // 2 :: n, n // 2 :: n].copy()
    if rng.uniform() < camera.occlusion:
        hidden = _occlude(picture, rng)
        mask[hidden], face[hidden] = 0, False
    image = _expose(picture, camera, rng)
    half = 0.5 * person.head * person.height * scale
    face_box = _face_box(face, np.pi * half * half * person.face.aspect)
    return RenderedImage(image, mask, face_box, framing)


def _frame_person(
    person: Person, camera: Camera, rng: np.random.Generator, height: int, width: int
) -> Framing:
    """Fit the standing figure, hair included, into the box, then shake the box."""
    fill = float(rng.uniform(0.90, 0.97)) * (1.0 + camera.jitter * float(rng.normal()))
    visible_height = person.height * float(np.cos(camera.pitch)) + 0.16
    return Framing(
        row=height * (0.48 + 0.5 * fill + camera.jitter * float(rng.normal())),
        column=width * (0.5 + 1.4 * camera.jitter * float(rng.normal())),
        scale=fill * height / visible_height,
    )


def _reduce(plane: FloatArray, n: int) -> FloatArray:
    """Average blocks of canvas pixels: (nH, nW, C) -> (H, W, C)."""
    rows, cols, channels = plane.shape
    blocks = plane.reshape(rows // n, n, cols // n, n * channels)
    columns = np.add.reduce(blocks, axis=1)  # (H, W, n C)
    total = np.add.reduce(columns.reshape(rows // n, cols // n, n, channels), axis=2)
    mean: FloatArray = total * np.float32(1.0 / (n * n))
    return mean


def _luma(picture: FloatArray) -> FloatArray:
    """Return (H, W, 1) brightness."""
    red, green, blue = (picture[:, :, channel, None] for channel in range(3))
    luma: FloatArray = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma


def _background(camera: Camera, rng: np.random.Generator, height: int, width: int) -> FloatArray:
    view = backdrop(camera, height)
    top = int(rng.integers(0, view.shape[0] - height + 1))
    left = int(rng.integers(0, view.shape[1] - width + 1))
    window = view[top : top + height, left : left + width]
    if camera.spectrum == "visible":
        return window.copy()
    # The lamp of a night camera hardly reaches what is behind people; and that is cold.
    level, contrast = (0.12, 0.52) if camera.spectrum == "infrared" else (0.16, 0.22)
    return np.repeat(level + contrast * _luma(window), 3, axis=2)


def _ground_shadow(height: int, width: int, row: float, column: float, scale: float) -> FloatArray:
    rows = (np.arange(height, dtype=np.float32) - np.float32(row)) / np.float32(0.10 * scale)
    cols = (np.arange(width, dtype=np.float32) - np.float32(column)) / np.float32(0.38 * scale)
    return 1.0 - np.float32(0.5) * np.exp(-(rows[:, None] ** 2) - cols[None, :] ** 2)


def _occlude(picture: FloatArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put a post, a hedge or a railing in front of the person; return what it hides."""
    height, width = picture.shape[:2]
    hidden = np.zeros((height, width), np.bool_)
    color = rng.uniform(0.25, 0.70) + rng.uniform(-0.05, 0.05, 3)
    kind = int(rng.integers(3))
    shade = np.ones((height, width), np.float32)
    if kind == 0:
        left, wide = int(rng.integers(0, width)), int(rng.uniform(0.08, 0.18) * width)
        hidden[:, left : left + wide] = True
        shade *= 1.0 - 0.3 * np.abs((np.arange(width) - left) / max(wide, 1) - 0.4)
    elif kind == 1:
        top = int(height * rng.uniform(0.66, 0.86))
        edge = top + np.rint(0.02 * height * np.sin(np.arange(width) * rng.uniform(0.2, 0.5)))
        hidden[:] = np.arange(height)[:, None] >= edge[None, :]
        color *= (0.55, 0.80, 0.45)
        shade *= 1.0 + 0.15 * rng.standard_normal((height, width), np.float32)
    else:
        top, bar = int(height * rng.uniform(0.55, 0.75)), max(round(0.025 * height), 1)
        for level in (top, top + 4 * bar, top + 8 * bar):
            hidden[level : level + bar] = True
        hidden[top:, :: max(width // 3, 1)] = True
    picture[hidden] = (color * shade[:, :, None])[hidden]
    return hidden


def _expose(picture: FloatArray, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn radiance into the camera's pixels: cast, contrast, vignette, blur and noise."""
    height, width = picture.shape[:2]
    exposure = 1.0 + 0.04 * float(rng.normal())
    if camera.spectrum == "infrared":
        # The camera's own lamp: bright in the middle, dark at the borders.
        rows, cols = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
        lamp = (1.1 - 0.35 * (rows**2 + 0.5 * cols**2)).astype(np.float32)
        picture = np.repeat(_luma(picture) * lamp[:, :, None], 3, axis=2)
    elif camera.spectrum == "thermal":
        picture = np.repeat(_luma(picture), 3, axis=2)
    else:
        grey = _luma(picture)
        picture = grey + (picture - grey) * np.float32(camera.saturation)
        slope = np.linspace(-0.06, 0.06, width) * float(rng.normal())
        picture = picture * np.asarray(camera.gain, np.float32) * (1.0 + slope)[None, :, None]
    picture = (picture * exposure - 0.5) * camera.contrast + 0.5
    levels = np.clip(picture * 255.0, 0.0, 255.0).astype(np.uint8)
    sigma = camera.blur * height * float(rng.uniform(0.6, 1.5))
    blurred = Image.fromarray(levels).filter(ImageFilter.GaussianBlur(sigma))
    channels = 3 if camera.spectrum == "visible" else 1
    noise = rng.standard_normal((height, width, channels), np.float32) * (255.0 * camera.noise)
    result: NDArray[np.uint8] = np.clip(np.rint(np.asarray(blurred) + noise), 0, 255).astype(
        np.uint8
    )
    return result


def _face_box(face: NDArray[np.bool_], frontal_area: float) -> FaceBox | None:
    """Return the box of the visible face; ``frontal_area`` is its full size, pixels."""
    if face.sum() < _MIN_FACE_SHARE * frontal_area:
        return None
    rows, cols = np.flatnonzero(face.any(axis=1)), np.flatnonzero(face.any(axis=0))
    return FaceBox(int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1)
