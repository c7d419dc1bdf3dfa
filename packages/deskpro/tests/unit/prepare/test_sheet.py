"""The contact sheet."""

import numpy as np
from PIL import Image

from reid_deskpro.prepare.sheet import SHEET_NAME, choose_samples, draw_sheet

from .conftest import FACELESS


def test_samples_are_spread_over_the_split():
    assert choose_samples(list(range(5)), 9) == [0, 1, 2, 3, 4]
    assert choose_samples(list(range(100)), 4) == [0, 25, 50, 75]
    assert len(choose_samples(list(range(25)), 24)) == 24


def test_everything_is_on_it(make, label_maps, restored, names):
    made = make(parsing=label_maps, restored=restored, sheet_images=24)
    sheet = np.asarray(Image.open(made.folder / SHEET_NAME)).astype(int)
    # Restored faces are of one grey each, and large.
    for number, name in enumerate(names):
        expected = 0 if name in FACELESS else 140 * 140
        if number:
            assert (sheet == 10 * number).all(axis=2).sum() >= expected
    red = (sheet == (230, 40, 40)).all(axis=2)
    # A square of 10 of 24 pixels on a picture 72 wide, one per face.
    assert red.sum() > 100 * (len(names) - len(FACELESS))


def test_it_can_be_left_out(make, label_maps):
    assert not (make(parsing=label_maps, sheet_images=0).folder / SHEET_NAME).exists()


def test_it_is_drawn_again_when_something_has_changed(make, label_maps, restored):
    path = make(parsing=label_maps, sheet_images=3).folder / SHEET_NAME
    first = path.read_bytes()
    make(parsing=label_maps, restored=restored, sheet_images=3)
    assert path.read_bytes() != first
    second = path.read_bytes()
    make(parsing=label_maps, restored=restored, sheet_images=2)
    assert path.read_bytes() != second


def test_damaged_files_are_blank(make, label_maps, restored, names, tmp_path):
    def grey(number):
        path = tmp_path / f"{number}.png"
        draw_sheet(made.dataset, path, per_split=5)
        return (np.asarray(Image.open(path)) == 226).all(axis=2).sum()

    made = make(parsing=label_maps, restored=restored)
    before = grey(0)
    (made.folder / "mask" / names[0]).with_suffix(".png").write_bytes(b"x" * 500)
    # Nearly all of 72 x 144 pixels: the word takes some.
    assert 9_500 < grey(1) - before < 72 * 144
