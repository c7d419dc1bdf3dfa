"""Reading and resizing of single images."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.data.images import (
    decode_resized,
    describe_failures,
    read_image,
    resize_planar,
    to_planar,
)
from reid_core.errors import ImageFileError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def jpeg_bytes(tmp_path: Path) -> bytes:
    file = tmp_path / "whole.jpg"
    Image.fromarray(noise(64, 32)).save(file, quality=90)
    return file.read_bytes()


def png_with_a_broken_chunk(path: Path) -> None:
    Image.fromarray(noise(64, 32)).save(path.with_suffix(".png"))
    data = bytearray(path.with_suffix(".png").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)


BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda path, _: None, "does not exist"),
    "folder": (lambda path, _: path.mkdir(), "this is a folder"),
    "empty": (lambda path, _: path.touch(), "the file is empty (0 bytes)"),
    "text": (lambda path, _: path.write_text("hello world"), "not an image in a known format"),
    "text shows its start": (lambda path, _: path.write_text("<html>"), "b'<html>'"),
    "truncated": (
        lambda path, tmp: path.write_bytes(jpeg_bytes(tmp)[:-600]),
        "truncated or damaged (image file is truncated",
    ),
    "header only": (
        lambda path, tmp: path.write_bytes(jpeg_bytes(tmp)[:30]),
        "image",
    ),
    "broken png": (lambda path, _: png_with_a_broken_chunk(path), "truncated or damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unreadable_files_are_named_with_the_reason(name: str, tmp_path: Path) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "a person.jpg"
    make(path, tmp_path)
    with pytest.raises(ImageFileError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A chmod would not stop the superuser, as whom tests may run.
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(ImageFileError, match="no permission to read it"):
        read_image(tmp_path / "a.jpg")


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(64, 32)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageFileError, match="too many pixels"):
        read_image(tmp_path / "a.png")


def test_message_for_many_files_names_five() -> None:
    failures = [ImageFileError(f"cannot read image {i}.jpg: empty") for i in range(7)]
    text = describe_failures(failures, 9576)
    assert text.startswith("7 of 9,576 images cannot be read:")
    assert [f"{i}.jpg" in text for i in range(7)] == [True] * 5 + [False] * 2
    assert "... and 2 more" in text
    assert "--data.skip-corrupt" in text
    assert "more" not in describe_failures(failures[:5], 10).splitlines()[-2]


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(noise(16, 8))
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1", "I", "F"):
        name = tmp_path / f"{mode}.tiff"
        (rgb.convert("L").convert(mode) if mode in "IF" else rgb.convert(mode)).save(name)
        assert decode_resized(name, 16, 8).shape == (3, 16, 8)
    rgb.save(tmp_path / "alpha.png")
    rgb.putalpha(7)
    rgb.save(tmp_path / "with_alpha.png")
    assert (
        decode_resized(tmp_path / "with_alpha.png", 16, 8)
        == decode_resized(tmp_path / "alpha.png", 16, 8)
    ).all()


def test_orientation_tag_is_ignored(tmp_path: Path) -> None:
    image = Image.fromarray(noise(16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    assert (decode_resized(tmp_path / "turned.png", 16, 8) == to_planar(image)).all()


def test_unicode_and_spaces_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n \N{SNOWMAN} folder"
    folder.mkdir()
    Image.fromarray(noise(16, 8)).save(folder / "0001 c1.png")
    assert (
        decode_resized(folder / "0001 c1.png", 16, 8) == to_planar(Image.fromarray(noise(16, 8)))
    ).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("height", "width"), [(64, 32), (97, 41), (20, 50)])
def test_resize_is_pillows(interpolation: str, height: int, width: int, tmp_path: Path) -> None:
    image = Image.fromarray(noise(50, 21))
    image.save(tmp_path / "a.png")
    wanted = image.resize((width, height), getattr(Image.Resampling, interpolation.upper()))
    wanted_planar = np.asarray(wanted).transpose(2, 0, 1)
    assert (decode_resized(tmp_path / "a.png", height, width, interpolation) == wanted_planar).all()
    # A view that is not contiguous, as a slice of a cache is.
    pixels = np.asarray(image).transpose(2, 0, 1)
    assert (resize_planar(pixels, height, width, interpolation) == wanted_planar).all()
