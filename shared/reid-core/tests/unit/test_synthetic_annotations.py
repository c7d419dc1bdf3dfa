"""Annotations of synthetic images: exact, of the same scenes, and whole or not there."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from reid_core.data import load_dataset
from reid_core.data.cli import main as reid_data
from reid_core.data.synthetic import (
    CLOTHING_PARTS,
    IDENTITY_PARTS,
    SIZES,
    FaceBox,
    Part,
    annotate_synthetic,
    ensure_annotations,
    ensure_synthetic,
    generate,
    synthesize,
)
from reid_core.data.synthetic.annotations import LIP_LABELS
from reid_core.data.synthetic.portrait import PORTRAIT_SIZE, face_square
from reid_core.errors import DatasetError, OutputError

TINY = SIZES["tiny"]
SMALL = replace(TINY, train_pids=2, test_pids=2, val_pids=1, outfits=(1, 2), train_images=2)
# DeskPro's preset of what is no clothing, by LIP's numbers.
KEPT = (2, 13, 14, 15, 16, 17)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data set with its own masks, and its annotations."""
    root = tmp_path_factory.mktemp("annotations")
    data = synthesize("prcc", root, size="tiny", write_masks=True)
    return data, annotate_synthetic(data, root / "annotations")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A smaller data set, and its annotations; for copies."""
    root = tmp_path_factory.mktemp("small")
    data = synthesize("prcc", root, size=SMALL)
    return data, annotate_synthetic(data, root / "annotations")


def faces_of(folder):
    return json.loads((folder / "faces.json").read_text(encoding="utf-8"))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def crop(image, box):
    """Cut the square around a box out of an image as DeskPro does, 32 pixels large."""
    left, top, side = face_square(FaceBox(*box))
    area = (left, top, left + side, top + side)
    return image.transform((32, 32), Image.Transform.EXTENT, area, Image.Resampling.BILINEAR)


def test_label_maps_are_those_of_the_images(folders):
    data, annotations = folders
    for name in faces_of(annotations):
        labels = pixels((annotations / "parsing" / name).with_suffix(".png"))
        parts = pixels((data / "masks" / name).with_suffix(".png"))
        assert labels.shape == pixels(data / name).shape[:2]
        assert labels.dtype == np.uint8
        for part in Part:
            assert (labels[parts == part] == LIP_LABELS[part]).all(), (name, part)


def test_what_is_no_clothing_is_what_identity_is(folders):
    kept = {part for part in Part if LIP_LABELS[part] in KEPT}
    assert kept == IDENTITY_PARTS
    assert not kept & CLOTHING_PARTS
    assert set(LIP_LABELS) == set(Part)


def test_the_silhouette_is_that_of_the_picture(folders):
    """The border of the person is where the picture changes most."""
    data, annotations = folders
    inside, across = [], []
    for name in list(faces_of(annotations))[::3]:
        person = pixels((annotations / "parsing" / name).with_suffix(".png")) > 0
        grey = pixels(data / name).astype(float).mean(axis=2)
        change = np.abs(np.diff(grey, axis=1))
        border = person[:, 1:] != person[:, :-1]
        background = ~person[:, 1:] & ~person[:, :-1]
        across.append(change[border].mean())
        inside.append(change[background].mean())
    assert np.mean(across) > 4 * np.mean(inside)


def test_faces_are_in_the_boxes(folders):
    data, annotations = folders
    faces = faces_of(annotations)
    dataset = load_dataset("prcc", data)
    images = {
        s.path.relative_to(data).as_posix() for split in dataset.splits.values() for s in split
    }
    assert set(faces) == images
    seen = [name for name, found in faces.items() if found]
    assert 0.6 < len(seen) / len(faces) < 0.95
    for name in faces:
        restored = (annotations / "restored" / name).with_suffix(".png")
        assert restored.exists() == (name in seen)
    for name in seen:
        ((left, top, right, bottom, score),) = faces[name]
        labels = pixels((annotations / "parsing" / name).with_suffix(".png"))
        height, width = labels.shape
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height / 2
        assert score == 1.0
        box = labels[int(top) : int(bottom), int(left) : int(right)]
        assert (box == LIP_LABELS[Part.FACE]).mean() > 0.3


def test_a_restored_face_is_the_face_of_the_image(folders):
    """Colours of the restored face fit its own image better than they fit the others."""
    data, annotations = folders
    faces = {name: found[0] for name, found in faces_of(annotations).items() if found}
    seen, restored = [], []
    for name, (*box, _) in faces.items():
        with Image.open(data / name) as image:
            seen.append(np.asarray(crop(image, tuple(map(int, box))).resize((8, 8)), float))
        face = Image.open((annotations / "restored" / name).with_suffix(".png"))
        assert face.size == (PORTRAIT_SIZE, PORTRAIT_SIZE)
        assert face.mode == "RGB"
        restored.append(np.asarray(face.resize((8, 8)), float))
    middle = [np.stack(each)[:, 2:6, 2:6].reshape(len(each), -1) for each in (seen, restored)]
    first, second = ((each - each.mean(0)) for each in middle)
    cosines = first @ second.T
    cosines /= np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    rank = (cosines > np.diag(cosines)[:, None]).sum(axis=1)
    assert np.median(rank) <= 0.05 * len(rank)


def test_everybody_has_a_face_in_training(folders):
    data, annotations = folders
    faces = faces_of(annotations)
    counts = defaultdict(int)
    for sample in load_dataset("prcc", data).train:
        counts[sample.pid] += bool(faces[sample.path.relative_to(data).as_posix()])
    assert min(counts.values()) >= 4


# PNG and BMP images, of a detector's boxes and of one size, by daylight and by body heat.
@pytest.mark.parametrize("layout", ["ltcc", "regdb", "celeb_light"])
def test_other_layouts(layout, tmp_path):
    data = synthesize(layout, tmp_path, size=SMALL)
    before = files_of(data)
    annotations = annotate_synthetic(data, tmp_path / "annotations")
    assert files_of(data) == before
    faces = faces_of(annotations)
    assert any(faces.values())
    for name in faces:
        assert pixels((annotations / "parsing" / name).with_suffix(".png")).any()
        assert (data / name).exists()


class TestFolders:
    def test_the_number_of_workers_does_not_matter(self, tmp_path, small):
        data, annotations = small
        again = annotate_synthetic(data, tmp_path / "annotations", workers=2)
        assert files_of(again) == files_of(annotations)

    def test_the_cache_makes_both_and_reuses_them(self, tmp_path):
        calls = []
        folder = ensure_annotations(
            "prcc", size=SMALL, cache_dir=tmp_path, progress=lambda *done: calls.append(done)
        )
        data = ensure_synthetic("prcc", size=SMALL, cache_dir=tmp_path)
        assert folder.parent == data.parent.parent
        total = len(faces_of(folder))
        assert calls == 2 * [(done, total) for done in range(1, total + 1)]
        before = files_of(folder)
        again = ensure_annotations(
            "prcc", size=SMALL, cache_dir=tmp_path, progress=lambda *done: calls.append(done)
        )
        assert (again, files_of(again), len(calls)) == (folder, before, 2 * total)

    @pytest.mark.parametrize("damage", ["label map", "restored face", "marker"])
    def test_a_damaged_one_is_made_again(self, tmp_path, small, damage):
        data, annotations = small
        folder = shutil.copytree(annotations, tmp_path / "annotations")
        before = files_of(annotations)
        if damage == "label map":
            next((folder / "parsing").rglob("*.png")).unlink()
        elif damage == "restored face":
            next((folder / "restored").rglob("*.png")).write_bytes(b"")
        else:
            marker = json.loads((folder / "annotations.json").read_text())
            marker["of"]["seed"] = 2
            (folder / "annotations.json").write_text(json.dumps(marker))
        annotate_synthetic(data, folder)
        assert files_of(folder) == before

    def test_an_interrupted_one_leaves_nothing(self, tmp_path, small):
        def interrupt(done, total):
            if done == 3:
                raise KeyboardInterrupt

        data, _ = small
        with pytest.raises(KeyboardInterrupt):
            annotate_synthetic(data, tmp_path / "out" / "annotations", progress=interrupt)
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_folder_of_somebody_else_is_left_alone(self, tmp_path, small):
        data, _ = small
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        with pytest.raises(OutputError, match="holds no annotations of ours"):
            annotate_synthetic(data, tmp_path / "out")
        assert files_of(tmp_path / "out") == {"thesis.txt": b"mine"}

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda marker: marker.clear(), "is no synthetic data set"),
            (lambda marker: marker.update(revision=1), "made by another version of reid-core"),
            (lambda marker: marker.update(layout="atlantis"), "made by another version"),
            (lambda marker: marker["spec"].update(height="tall"), "made by another version"),
            (lambda marker: marker.update(spec=[1]), "made by another version"),
        ],
    )
    def test_other_data_sets_are_refused(self, tmp_path, small, spoil, message):
        marker = json.loads((small[0] / "synthetic.json").read_text())
        spoil(marker)
        (tmp_path / "synthetic.json").write_text(json.dumps(marker))
        with pytest.raises(DatasetError, match=message):
            annotate_synthetic(tmp_path, tmp_path / "annotations")
        assert not (tmp_path / "annotations").exists()

    def test_the_command_writes_them(self, tmp_path, small, monkeypatch, capsys):
        monkeypatch.setattr(generate, "resolve_size", lambda size: SMALL)
        arguments = ["prcc", str(tmp_path), "--annotations", str(tmp_path / "annotations")]
        with pytest.raises(SystemExit) as left:
            reid_data(["synthesize", *arguments])
        assert not left.value.code
        assert f"restored faces in {tmp_path / 'annotations'}" in capsys.readouterr().out
        assert files_of(tmp_path / "annotations") == files_of(small[1])
