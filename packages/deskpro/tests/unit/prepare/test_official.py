"""The official layout: names, links, and that our readers take it."""

import os
import shutil

import numpy as np
import pytest

from reid_core.data.readers import load_dataset
from reid_core.errors import ConfigError, DatasetError
from reid_core.testing.miniatures import MINIATURES
from reid_deskpro.prepare import PrepareConfig, prepare
from reid_deskpro.prepare.official import OFFICIAL_LAYOUTS

from .conftest import draw_labels, save

TRAIN = "imgs/bounding_box_train"


def listing(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()}


def prepare_miniature(name, tmp_path, **settings):
    """Prepare a data set of small pictures with everything there is."""
    for number, file in enumerate(MINIATURES[name]):
        own, _, below = file.partition("/")
        save(tmp_path / file, np.full((48, 24, 3), 10 * number, np.uint8))
        tree = tmp_path / "labels" / below
        save(tree.with_suffix(".png"), draw_labels(has_face=True))
    return prepare(
        PrepareConfig(
            data=str(tmp_path / own),
            dataset=name,
            out=tmp_path / "out",
            parsing=tmp_path / "labels",
            hr="fallback",
            sheet_images=0,
            workers=1,
            **settings,
        )
    )


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("celeb", "train/12_3_0.jpg", "12_c3_0"),
        ("celeb_light", "query/12_3_0.jpg", "12_3_0"),
        ("prcc", "rgb/train/001/B_cropped_rgb017.jpg", "001_c2_017"),
        ("prcc", "rgb/val/150/A_cropped_rgb4.png", "150_c1_4"),
        ("prcc", "rgb/test/C/005/cropped_rgb003.jpg", "005_c3_003"),
    ],
)
def test_names(name, path, expected):
    layout = OFFICIAL_LAYOUTS[name]
    assert layout.name(layout.pattern.fullmatch(path)) == expected


@pytest.mark.parametrize("name", ["celeb", "celeb_light", "prcc"])
def test_our_reader_takes_it(name, tmp_path):
    made = prepare_miniature(name, tmp_path, official_layout="link")
    raw = made.dataset
    found = load_dataset(f"{name}_lr_hr_mask", made.official.parent)
    assert len(found.train) == len(raw.train)
    assert {sample.extra["identity"] for sample in found.train} == {
        sample.extra["identity"] for sample in raw.train
    }
    for split, samples in found.splits.items():
        assert len(samples) == len(raw.splits[split])
        for sample in samples:
            assert sample.path.suffix == ".jpg"
            for kind in ("lr_face", "hr_face", "mask"):
                assert sample.extra[kind].name == sample.path.name


def test_prcc_has_both_queries_and_validation_on_demand(tmp_path):
    made = prepare_miniature("prcc", tmp_path, official_layout="copy")
    assert made.official == tmp_path / "out" / "official" / "prcc"
    names = listing(made.official)
    assert {
        f"{TRAIN}/001_c1_001.jpg",
        f"{TRAIN}/001_c2_002.jpg",
        f"{TRAIN}/001_c3_003.jpg",
    } <= names
    assert "imgs/bounding_box_test/005_c1_001.jpg" in names
    assert "imgs/query/005_c3_005.jpg" in names
    assert "mask/query_same/018_c2_004.jpg" in names
    assert f"{TRAIN}/001_c1_004.jpg" not in names
    with_val = prepare_miniature("prcc", tmp_path, official_layout="copy", official_val=True)
    assert listing(with_val.official) - names == {
        f"{kind}/bounding_box_train/{name}.jpg"
        for kind in ("imgs", "lr_face", "hr_face", "mask")
        for name in ("001_c1_004", "002_c3_005")
    }


@pytest.mark.parametrize("how", ["link", "copy"])
def test_files_are_linked_or_copied_once(tmp_path, how):
    made = prepare_miniature("prcc", tmp_path, official_layout=how)
    source = tmp_path / "prcc" / "rgb" / "train" / "001" / "A_cropped_rgb001.jpg"
    target = made.official / TRAIN / "001_c1_001.jpg"
    assert target.samefile(source) == (how == "link")
    assert target.read_bytes() == source.read_bytes()
    before = {path: path.stat().st_ctime_ns for path in made.official.rglob("*.jpg")}
    again = prepare_miniature("prcc", tmp_path, official_layout=how)
    changed = {path for path in before if path.stat().st_ctime_ns != before[path]}
    # The miniature's pictures were written once more: these alone may have been placed again.
    assert all("imgs" in path.parts for path in changed)
    assert listing(again.official) == listing(made.official)


def test_what_has_gone_is_removed(tmp_path):
    made = prepare_miniature("prcc", tmp_path, official_layout="link")
    face = made.official / "lr_face" / "bounding_box_train" / "001_c1_001.jpg"
    assert face.exists()
    shutil.rmtree(tmp_path / "labels" / "rgb" / "train" / "001")
    prepare(
        PrepareConfig(
            data=str(tmp_path / "prcc"),
            out=tmp_path / "out",
            parsing=tmp_path / "labels",
            official_layout="link",
            workers=1,
        )
    )
    assert not face.exists()
    assert (made.official / TRAIN / "001_c1_001.jpg").exists()


def test_an_earlier_layout_is_not_forgotten(tmp_path, caplog):
    prepare_miniature("prcc", tmp_path, official_layout="link")
    prepare_miniature("prcc", tmp_path, keep=(2,))
    assert "official is of an earlier run" in caplog.text


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ltcc", {}, "the official program knows celeb, celeb_light, prcc, not ltcc"),
        ("celeb", {"official_val": True}, "celeb has no validation images"),
    ],
)
def test_what_the_official_program_does_not_know(name, settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepare_miniature(name, tmp_path, official_layout="link", **settings)
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused(tmp_path):
    other = tmp_path / "prcc" / "rgb" / "train" / "001" / "A_other001.jpg"
    save(other, np.zeros((48, 24, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"would both be called imgs/bounding_box_train/001_c1"):
        prepare_miniature("prcc", tmp_path, official_layout="link")


def test_images_that_are_symbolic_links(tmp_path):
    images = [tmp_path / file for file in MINIATURES["celeb"]]
    for number, path in enumerate(images):
        store = tmp_path / "store" / f"{number}.jpg"
        save(store, np.full((48, 24, 3), 10 * number, np.uint8))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(store, path.parent))
        below = path.relative_to(tmp_path / "Celeb-reID").with_suffix(".png")
        save(tmp_path / "labels" / below, draw_labels(has_face=True))
    made = prepare(
        PrepareConfig(
            data=str(tmp_path / "Celeb-reID"),
            dataset="celeb",
            out=tmp_path / "out",
            parsing=tmp_path / "labels",
            sheet_images=0,
            workers=1,
            official_layout="link",
        )
    )
    laid_out = sorted((made.official / "imgs").rglob("*.jpg"))
    assert len(laid_out) == len(images)
    assert all(path.is_file() and not path.is_symlink() for path in laid_out)
