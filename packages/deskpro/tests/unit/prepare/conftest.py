"""A small data set in PRCC's layout, with label maps of people whose heads are drawn by hand."""

import numpy as np
import pytest
from PIL import Image

from reid_core.testing.miniatures import MINIATURES

HEIGHT, WIDTH = 48, 24
HAIR, FACE, SHIRT, TROUSERS = 2, 13, 5, 9

# Where the head is turned away, and so no face is to be seen.
FACELESS = ("rgb/train/002/C_cropped_rgb002.jpg", "rgb/test/C/005/cropped_rgb005.jpg")


def draw_labels(*, has_face, height=HEIGHT, width=WIDTH):
    """Return a label map: hair over a face of 6 x 8 pixels, shirt, trousers."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4:8, 8:16] = HAIR
    labels[8:14, 8:16] = FACE if has_face else HAIR
    labels[14:28, 4:20] = SHIRT
    labels[28:44, 6:18] = TROUSERS
    resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def names():
    """Return the paths of all images below the data set's folder."""
    return [name.removeprefix("prcc/") for name in MINIATURES["prcc"]]


@pytest.fixture
def prcc(tmp_path, names):
    """Return a data set with one different picture per image."""
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        save(tmp_path / "prcc" / name, pixels, quality=95)
    return tmp_path / "prcc"


@pytest.fixture
def label_maps(tmp_path, names):
    """Return a folder of label maps of twice the images' size."""
    for name in names:
        labels = draw_labels(has_face=name not in FACELESS, height=2 * HEIGHT, width=2 * WIDTH)
        save((tmp_path / "labels" / name).with_suffix(".png"), labels)
    return tmp_path / "labels"


@pytest.fixture
def restored(tmp_path, names):
    """Return a folder of restored faces, of different colours."""
    for number, name in enumerate(names):
        pixels = np.full((32, 32, 3), 10 * number, np.uint8)
        save((tmp_path / "restored" / name).with_suffix(".png"), pixels)
    return tmp_path / "restored"


@pytest.fixture
def make(tmp_path, prcc):
    """Return a function that prepares the data set into ``out``."""
    from reid_deskpro.prepare import PrepareConfig, prepare

    def run(**settings):
        known = {"data": str(prcc), "out": tmp_path / "out", "sheet_images": 0, "workers": 1}
        return prepare(PrepareConfig(**{**known, **settings}))

    return run
