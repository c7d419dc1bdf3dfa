"""The doctor of prepared folders."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from reid_core.errors import DatasetError, DatasetNotFoundError
from reid_core.testing.miniatures import write_miniature
from reid_deskpro.prepare import PrepareConfig, check_prepared

from .conftest import HEIGHT, WIDTH, save


@pytest.fixture
def prepared(make, label_maps, restored):
    return make(parsing=label_maps, restored=restored).folder


def check(folder, **settings):
    return check_prepared(PrepareConfig(check=folder, workers=1, **settings))


def mask_of(folder, name):
    return (folder / "mask" / name).with_suffix(".png")


def test_a_whole_folder_is_healthy(prepared):
    report = check(prepared)
    assert report.healthy
    assert report.num_checked == 13 + 11 + 13
    assert "train: images that can be trained on: 4, of 2 identities" in report.format()
    assert report.format().endswith("37 masks and faces decoded; healthy")


@pytest.mark.parametrize(
    ("pixels", "what", "is_problem"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), "without a single white pixel: 1", False),
        (np.full((HEIGHT, WIDTH), 255, np.uint8), "without a single black pixel: 1", False),
        (np.tile(np.uint8([0, 9, 255, 0]), (HEIGHT, WIDTH // 4)), "grey values", False),
        (np.tile(np.uint8([0, 1]), (HEIGHT, WIDTH // 2)), "masks that are dark", True),
        (np.full((HEIGHT, WIDTH, 3), (0, 255, 0), np.uint8), "masks in colours", True),
        (np.tile(np.uint8([0, 255]), (HEIGHT, WIDTH)), "another size than their image", True),
    ],
)
def test_masks_that_look_wrong(prepared, names, pixels, what, is_problem):
    path = mask_of(prepared, names[0])
    save(path, pixels)
    report = check(prepared)
    assert report.healthy != is_problem
    found = report.problems if is_problem else report.remarks
    assert len(found) == 1
    assert what in found[0]
    assert str(path) in found[0]


def test_damaged_files_are_named(prepared, names):
    path = (prepared / "hr_face" / names[2]).with_suffix(".png")
    path.write_bytes(path.read_bytes()[:50])
    report = check(prepared)
    assert not report.healthy
    assert f"damaged files: 1\n  {path}" in report.format()


def test_what_training_lacks(make, label_maps):
    report = check(make(parsing=label_maps).folder)
    assert report.problems == ("train: no image has a hr_face; nothing can be trained",)


def test_a_stopped_run_is_said(prepared):
    path = prepared / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "complete": False}))
    assert "stopped before its end" in check(prepared).problems[0]


def test_images_that_were_moved(prepared, prcc, tmp_path):
    shutil.move(prcc, tmp_path / "elsewhere" / "prcc")
    with pytest.raises(DatasetNotFoundError):
        check(prepared)
    assert check(prepared, data=str(tmp_path / "elsewhere")).healthy


def test_a_folder_without_a_manifest(prepared, prcc):
    (prepared / "manifest.json").unlink()
    assert check(prepared, data=str(prcc)).healthy


def test_an_archive_of_the_official_layout(tmp_path):
    folder = write_miniature("prcc_lr_hr_mask", tmp_path, decodable=True)
    for path in (folder / "mask").rglob("*.jpg"):
        with Image.open(folder / "imgs" / path.relative_to(folder / "mask")) as image:
            noise = np.random.default_rng(0).integers(0, 256, (image.height, image.width), np.uint8)
        Image.fromarray(noise).save(path)
    report = check(folder)
    assert report.healthy
    assert "masks with grey values; most come from JPEG" in report.remarks[0]


def test_images_without_anything(prcc):
    with pytest.raises(DatasetError, match="neither masks nor faces"):
        check(prcc)
