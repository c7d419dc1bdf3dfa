"""Bad data sets with infrared cameras: each case ends in one message that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from reid_core.data import load_dataset
from reid_core.errors import DatasetError, DatasetNotFoundError, ReIDError
from reid_core.testing.miniatures import write_images, write_miniature

Change = Callable[[Path], object]


class Case(NamedTuple):
    """A way to spoil the miniature of a data set, in its own folder."""

    name: str
    dataset: str
    change: Change
    fragments: tuple[str, ...]
    error: type[ReIDError] = DatasetError


def write(file: str, text: str) -> Change:
    return lambda own: (own / file).write_text(text)


def remove(*files: str) -> Change:
    return lambda own: [(own / file).unlink() for file in files]


def remove_tree(folder: str) -> Change:
    return lambda own: shutil.rmtree(own / folder)


def remove_all(pattern: str) -> Change:
    return lambda own: [path.unlink() for path in own.glob(pattern)]


TRAIN = "idx/train_visible_1.txt"

CASES = [
    Case(
        "a camera is missing",
        "sysu",
        remove_tree("cam6"),
        ("SYSU-MM01/ is there, but it lacks cam6", "cam3/0001/0001.jpg", "signed agreement"),
        DatasetNotFoundError,
    ),
    Case(
        "a list is missing",
        "sysu",
        remove("exp/val_id.txt"),
        ("lacks exp/val_id.txt",),
        DatasetNotFoundError,
    ),
    Case(
        "a camera is empty",
        "sysu",
        remove_all("cam6/*/*"),
        ("no images in", "cam6: its subfolders hold no file", "e.g. 0001/0001.jpg"),
    ),
    Case(
        "list of people with a word",
        "sysu",
        write("exp/test_id.txt", "6,ten\n"),
        ("test_id.txt: its first line must hold", "e.g. 6,10,17; found 'ten'"),
    ),
    Case(
        "list of people with spaces for commas",
        "llcm",
        write("idx/test_id.txt", "2 10\n"),
        ("test_id.txt: its first line must hold", "found '2 10'"),
    ),
    Case(
        "list of people with other digits",
        "sysu",
        write("exp/test_id.txt", "\u0666\n"),
        ("found '\u0666'",),
    ),
    Case("empty list of people", "sysu", write("exp/train_id.txt", ""), ("found nothing",)),
    Case(
        "first line of a list is empty",
        "sysu",
        write("exp/train_id.txt", "\n2\n"),
        ("train_id.txt", "found nothing"),
    ),
    Case(
        "person twice in a list",
        "sysu",
        write("exp/test_id.txt", "6,10,6"),
        ("test_id.txt names 6 more than once",),
    ),
    Case(
        "list that is no text",
        "sysu",
        lambda own: (own / "exp/test_id.txt").write_bytes(b"\xff\xfe"),
        ("cannot read the list", "not a text file"),
    ),
    Case(
        "person in training and test",
        "sysu",
        write("exp/test_id.txt", "6,2,1"),
        ("(train_id.txt, val_id.txt) are in test_id.txt, too: 2 people (1, 2);",),
    ),
    Case(
        "folder that is no person",
        "sysu",
        lambda own: write_images(own, ["cam2/12/0001.jpg"]),
        ("cam2/12/0001.jpg", "<person, four digits>/<frame>.jpg"),
    ),
    Case(
        "nobody of the training lists",
        "sysu",
        lambda own: [shutil.rmtree(path) for path in own.glob("cam*/000[12]")],
        ("no images of the 2 people of exp/train_id.txt", "neither as files", "as pre-processed"),
    ),
    Case(
        "nobody in both modalities",
        "sysu",
        lambda own: [shutil.rmtree(path) for path in own.glob("cam[1245]/000[12]")],
        ("nobody in train of", "has both visible and infrared images"),
    ),
    Case(
        "nobody of the test list",
        "sysu",
        write("exp/test_id.txt", "400"),
        ("no images for test",),
    ),
    Case("no lists", "regdb", remove_tree("idx"), ("lacks idx",), DatasetNotFoundError),
    Case(
        "no list of any trial",
        "regdb",
        remove_all("idx/*.txt"),
        ("no lists of any trial in", "train_visible_1.txt", "it is empty"),
    ),
    Case(
        "trial without one list",
        "regdb",
        remove("idx/test_thermal_4.txt", "idx/test_visible_4.txt"),
        ("trial 4 in", "lacks idx/test_visible_4.txt, idx/test_thermal_4.txt; copy"),
    ),
    Case("empty list", "regdb", write(TRAIN, "\n\n"), (f"the list {{own}}/{TRAIN} is empty",)),
    Case(
        "line without a label",
        "regdb",
        write(TRAIN, "\nVisible/1/male_back_v_00001_1.bmp\n"),
        (f"{TRAIN}, line 2: 'Visible/1/male_back_v_00001_1.bmp' is not", "<person>"),
    ),
    Case(
        "label that is no number",
        "regdb",
        write(TRAIN, "Visible/1/male_back_v_00001_1.bmp one\n"),
        ("line 1:", "with a number for the person"),
    ),
    Case("path from the root", "regdb", write(TRAIN, "/Visible/1/x.bmp 0\n"), ("line 1:",)),
    Case("path that leads out", "regdb", write(TRAIN, "Visible/../../x.bmp 0\n"), ("line 1:",)),
    Case(
        "listed images are missing",
        "regdb",
        remove_tree("Thermal/9"),
        ("test_thermal_1.txt lists images that are not in", "(2 of 4): Thermal/9/male_back_t"),
    ),
    Case(
        "listed image is missing",
        "llcm",
        remove("nir/0003/0003_c04_s000001_f000001_nir.jpg"),
        ("train_nir.txt lists images", "(1 of 2): nir/0003/0003_c04_s000001_f000001_nir.jpg."),
    ),
    Case(
        "no cameras in a test folder",
        "llcm",
        lambda own: [path.rename(own / path.name) for path in (own / "test_nir").iterdir()],
        ("no folders cam1, cam2, ... in", "test_nir; it is empty"),
    ),
    Case(
        "test images one folder too high",
        "llcm",
        lambda own: write_images(own, ["test_vis/cam1/x/0002_c01_s000001_f000001_vis.jpg"]),
        ("test_vis/cam1/x/", "<person, four digits>/<image>.jpg"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.dataset}: {case.name}" for case in CASES])
def test_bad_input_is_explained(case: Case, tmp_path: Path) -> None:
    own = write_miniature(case.dataset, tmp_path)
    case.change(own)
    with pytest.raises(case.error) as caught:
        load_dataset(case.dataset, tmp_path)
    for fragment in case.fragments:
        assert fragment.replace("{own}", str(own)) in str(caught.value)


IMAGES = np.zeros((3, 288, 144, 3), np.uint8)
LABELS = np.array([0, 0, 1])
RGB = "train_rgb_resized_img.npy"
LABEL_FILE = "train_rgb_resized_label.npy"

# What stands in the four files instead, and what the message says; files are named by their ends.
ARRAYS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no labels": ({"rgb_label": None}, (f"lack {LABEL_FILE}; copy it",)),
    "one modality": ({"ir_img": None, "ir_label": None}, ("lack train_ir_resized_img.npy",)),
    "other size": (
        {"rgb_img": IMAGES[:, :256, :128]},
        (RGB, "uint8 (N, 288, 144, 3)", "found uint8 (3, 256, 128, 3)"),
    ),
    "channels first": ({"rgb_img": IMAGES.transpose(0, 3, 1, 2)}, ("(3, 3, 288, 144)",)),
    "one image": ({"rgb_img": IMAGES[0]}, ("found uint8 (288, 144, 3)",)),
    "no image": ({"rgb_img": IMAGES[:0]}, ("found uint8 (0, 288, 144, 3)",)),
    "other type": ({"rgb_img": IMAGES.astype(np.float32)}, ("found float32",)),
    "fewer labels": ({"rgb_label": LABELS[:2]}, (LABEL_FILE, "each of the 3 images", "(2,)")),
    "labels that are no integers": ({"rgb_label": LABELS / 1.0}, (LABEL_FILE, "found float64")),
    "labels in columns": ({"rgb_label": LABELS[:, None]}, (LABEL_FILE, "found int64 (3, 1)")),
    "labels with a gap": (
        {"rgb_label": LABELS * 2, "ir_label": LABELS * 2},
        ("must be 0 to K-1 in both modalities", "found 2 people up to label 2"),
    ),
    "negative labels": ({"rgb_label": LABELS - 1, "ir_label": LABELS - 1}, ("0 to K-1",)),
    "person in one modality": (
        {"ir_label": LABELS * 0},
        ("2 people up to label 1 in train_rgb", "1 up to 0 in train_ir_resized_label.npy"),
    ),
    "more people than in the lists": (
        {"rgb_label": np.arange(3), "ir_label": np.arange(3)},
        ("K at most 2 (the people in the lists); found 3 people",),
    ),
    "Python objects": (
        {"rgb_label": np.array([0, 0, None], object)},
        (f"{LABEL_FILE} is not a whole .npy array of numbers",),
    ),
    "no array": ({"rgb_img": b"PK\x03\x04 something else"}, (f"{RGB} is not a whole .npy array",)),
    "cut off": ({"rgb_img": 1000}, (f"{RGB} is not a whole .npy array",)),
    "empty file": ({"rgb_img": b""}, (f"{RGB} is not a whole .npy array",)),
}


def write_arrays(own: Path, changes: dict[str, Any]) -> None:
    whole = {"rgb_img": IMAGES, "rgb_label": LABELS, "ir_img": IMAGES, "ir_label": LABELS}
    for name, content in (whole | changes).items():
        file = own / f"train_{name.replace('_', '_resized_')}.npy"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif isinstance(content, int):
            np.save(file, whole[name])
            file.write_bytes(file.read_bytes()[:content])
        elif content is not None:
            np.save(file, content, allow_pickle=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_bad_arrays_are_explained(name: str, tmp_path: Path) -> None:
    changes, fragments = ARRAYS[name]
    own = write_miniature("sysu", tmp_path)
    for folder in own.glob("cam*/000[12]"):
        shutil.rmtree(folder)
    write_arrays(own, changes)
    with pytest.raises(DatasetError) as caught:
        load_dataset("sysu", own)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("inside", [False, True])
def test_arrays_beside_the_folder_are_found_and_named(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official script joins folder and file name without a slash."""
    own = write_miniature("sysu", tmp_path)
    for folder in own.glob("cam*/000[12]"):
        shutil.rmtree(folder)
    stray = tmp_path / f"SYSU-MM01{RGB}"
    np.save(stray, IMAGES)
    monkeypatch.chdir(own)
    with pytest.raises(DatasetError, match=f"lack {RGB}; move {stray} there"):
        load_dataset("sysu", "." if inside else own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb_img": IMAGES[:2], "rgb_label": LABELS[[0, 2]]}, "5 rows against 6 files;"),
        ({"rgb_label": LABELS[::-1]}, "6 rows against 6 files, or other labels;"),
    ],
)
def test_stale_arrays_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    own = write_miniature("sysu", tmp_path)
    write_arrays(own, changes)
    with pytest.raises(DatasetError, match=f"not made of its image files: {message} make them"):
        load_dataset("sysu", own, prefer_arrays=True)
    load_dataset("sysu", own)
