"""The contact sheet: some images of each split with what was made of them, to check by eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reid_core.data.images import read_image
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.errors import ImageFileError
from reid_core.files import atomic_file

__all__ = ["SHEET_NAME", "choose_samples", "draw_sheet"]

SHEET_NAME = "contact-sheet.png"

Square = tuple[int, int, int]

_HEIGHT = 144  # of a picture, pixels
_BODY_WIDTH = 72
_GAP = 4
_LINE = 16
_COLUMNS = 4
_MAX_SPLITS = 8
_TITLE = 28
_PAPER, _INK, _BLANK = (255, 255, 255), (20, 20, 20), (226, 226, 226)
_KEPT, _FRAME = (40, 200, 90), (230, 40, 40)
_LEGEND = (
    "each: image with the square of the face crop, mask (green is kept, dark is hidden), "
    "face crop, restored face"
)


def draw_sheet(
    dataset: ReIDDataset,
    path: Path,
    *,
    per_split: int,
    boxes: Mapping[str, Square] | None = None,
) -> None:
    """Draw the contact sheet; of many splits (of trials) the first few are on it.

    Args:
        dataset: A data set with its companions attached.
        path: PNG to write.
        per_split: Images of each split.
        boxes: Squares that were cut out as faces (left, top, side), pixels, by path of the image
            below the data set's folder; they are drawn.

    Raises:
        OutputError: When the sheet cannot be written.
    """
    width = _COLUMNS * (_tile_width() + 3 * _GAP) + _GAP
    blocks = [
        _draw_split(dataset, split, choose_samples(samples, per_split), boxes or {}, width)
        for split, samples in list(dataset.splits.items())[:_MAX_SPLITS]
        if samples
    ]
    sheet = Image.new("RGB", (width, _TITLE + sum(block.height for block in blocks)), _PAPER)
    ImageDraw.Draw(sheet).text((_GAP, _GAP), _LEGEND, _INK, _font(14))
    top = _TITLE
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    with atomic_file(path) as file:
        sheet.save(file, "PNG")


def choose_samples(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Choose samples that are spread evenly over a split, in its order."""
    if len(samples) <= number:
        return list(samples)
    return [samples[position * len(samples) // number] for position in range(number)]


def _draw_split(
    dataset: ReIDDataset,
    split: str,
    samples: Sequence[Sample],
    boxes: Mapping[str, Square],
    width: int,
) -> Image.Image:
    rows = -(-len(samples) // _COLUMNS)
    tile_height = _HEIGHT + _LINE + 2 * _GAP
    block = Image.new("RGB", (width, _TITLE + rows * tile_height), _PAPER)
    total = len(dataset.splits[split])
    title = f"{dataset.name}  {split}: {len(samples)} of {total:,} images"
    pen = ImageDraw.Draw(block)
    pen.text((_GAP, _GAP), title, _INK, _font(16))
    for number, sample in enumerate(samples):
        row, column = divmod(number, _COLUMNS)
        left = _GAP + column * (_tile_width() + 3 * _GAP)
        top = _TITLE + row * tile_height
        name = sample.path.relative_to(dataset.root).as_posix()
        for picture in _pictures(sample, boxes.get(name)):
            block.paste(picture, (left, top))
            left += picture.width + _GAP
        left = _GAP + column * (_tile_width() + 3 * _GAP)
        _write(pen, name, left, top + _HEIGHT + 1)
    return block


def _pictures(sample: Sample, box: Square | None) -> list[Image.Image]:
    """Return image, mask, face crop and restored face in the size of the sheet."""
    body = _open(sample.path, _BODY_WIDTH)
    if body is None:
        return [_blank(_BODY_WIDTH, "damaged")]
    original, fitted = body
    framed = fitted.copy()
    if box is not None:
        _draw_square(framed, box, original)
    pictures = [framed, _overlay(fitted, sample.extra.get("mask"))]
    for kind in ("lr_face", "hr_face"):
        face = _open(sample.extra[kind], _HEIGHT) if kind in sample.extra else None
        missing = "damaged" if kind in sample.extra else f"no {kind}"
        pictures.append(_blank(_HEIGHT, missing) if face is None else face[1])
    return pictures


def _open(path: Path, width: int) -> tuple[tuple[int, int], Image.Image] | None:
    """Return the size of an image and the image as the sheet shows it; None where it is damaged."""
    try:
        image = read_image(path)
    except ImageFileError:
        return None
    enlarged = image.width < width or image.height < _HEIGHT
    # Pixels of small images stay visible as such.
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
    return image.size, image.resize((width, _HEIGHT), method)


def _draw_square(picture: Image.Image, box: Square, size: tuple[int, int]) -> None:
    left, top, side = box
    across, down = picture.width / size[0], picture.height / size[1]
    corners = (left * across, top * down, (left + side) * across, (top + side) * down)
    ImageDraw.Draw(picture).rectangle([round(value) for value in corners], outline=_FRAME)


def _overlay(picture: Image.Image, mask: Path | None) -> Image.Image:
    if mask is None:
        return _blank(picture.width, "no mask")
    found = _open(mask, picture.width)
    if found is None:
        return _blank(picture.width, "damaged")
    share = np.asarray(found[1].convert("L"), np.float32)[:, :, None] / 255.0
    pixels = np.asarray(picture, np.float32)
    kept = 0.6 * pixels + 0.4 * np.asarray(_KEPT, np.float32)
    return Image.fromarray(np.rint(share * kept + (1.0 - share) * 0.3 * pixels).astype(np.uint8))


def _blank(width: int, text: str) -> Image.Image:
    picture = Image.new("RGB", (width, _HEIGHT), _BLANK)
    pen = ImageDraw.Draw(picture)
    pen.text((width / 2, _HEIGHT / 2), text, (110, 110, 110), _font(11), anchor="mm")
    return picture


def _write(pen: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
    """Write a path; of a long one the end, which tells images apart."""
    font = _font(11)
    while text and font.getlength(text) > _tile_width():
        text = f"..{text[3:]}" if text.startswith("..") else f"..{text[1:]}"
    pen.text((left, top), text, _INK, font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _tile_width() -> int:
    return 2 * _BODY_WIDTH + 2 * _HEIGHT + 3 * _GAP
