"""``deskpro-prepare`` as people use it, on raw synthetic PRCC and its annotations."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from reid_core.data.companions import attach_companions, has_companions
from reid_core.data.readers import load_dataset
from reid_core.testing.commands import installed, run_installed


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return a raw data set, its annotations, and the cache that both are in."""
    from reid_core.data.synthetic import ensure_synthetic
    from reid_core.data.synthetic.annotations import ensure_annotations

    cache = tmp_path_factory.mktemp("cache")
    data = ensure_synthetic("prcc", size="tiny", cache_dir=cache)
    return data, ensure_annotations("prcc", size="tiny", cache_dir=cache), cache


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    """Return a folder prepared from raw images in one go, and what was printed."""
    data, found, _ = raw
    folder = tmp_path_factory.mktemp("prepared")
    done = run_installed(
        *("deskpro-prepare", "--data", data, "--dataset", "prcc", "--out", "P"),
        *("--parsing", found / "parsing", "--faces", found / "faces.json"),
        *("--restored", found / "restored", "--workers", "2", "--official-layout", "link"),
        cwd=folder,
    )
    return folder / "P", done.stdout


def test_everything_is_there(prepared, raw):
    folder, printed = prepared
    names = {path.name for path in folder.iterdir() if path.name != ".lock"}
    assert names == {
        *("lr_face", "hr_face", "mask", "records", "official"),
        *("manifest.json", "contact-sheet.png"),
    }
    assert not [path for path in folder.rglob("*.tmp")]
    for word in ("prcc (synthetic images) prepared in P", "all three", "no face was detected"):
        assert word in printed
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["complete"] is True
    assert manifest["dataset"]["synthetic"] is True
    dataset = attach_companions(load_dataset("prcc", raw[0]), folder)
    train = manifest["splits"]["train"]
    assert sum(map(has_companions, dataset.train)) == train["complete"] > 0.7 * train["images"]
    assert manifest["training"]["train"] == {"identities": 8, "lost": []}


def test_masks_show_skin_and_hair_and_no_clothes(prepared, raw):
    found = raw[1]
    folder, _ = prepared
    for path in sorted((folder / "mask").rglob("*.png"))[::10]:
        below = path.relative_to(folder / "mask")
        labels = np.asarray(Image.open(found / "parsing" / below))
        kept = np.isin(labels, (2, 13, 14, 15, 16, 17))
        assert (np.asarray(Image.open(path)) == 255 * kept).all()
        assert 0.01 < kept.mean() < 0.5


def test_face_crops_are_what_the_images_show(prepared, raw):
    data, found, _ = raw
    folder, _ = prepared
    boxes = json.loads((found / "faces.json").read_text())
    for name in sorted(boxes)[::7]:
        path = (folder / "lr_face" / name).with_suffix(".png")
        assert path.exists() == bool(boxes[name])
        if path.exists():
            left, top, right, bottom, _ = map(round, boxes[name][0])
            crop = np.asarray(Image.open(path))
            assert crop.shape[0] == round(1.3 * max(right - left, bottom - top))
            image = np.asarray(Image.open(data / name).convert("RGB"))
            inner = image[top + 1 : bottom - 1, left + 1 : right - 1]
            windows = np.lib.stride_tricks.sliding_window_view(crop, inner.shape)
            assert (windows == inner).all(axis=(-1, -2, -3)).any()


def test_a_second_run_does_nothing_again(prepared, raw):
    data, found, _ = raw
    done = run_installed(
        *("deskpro-prepare", "--data", data, "--out", "P", "--parsing", found / "parsing"),
        *("--faces", found / "faces.json", "--restored", found / "restored"),
        cwd=prepared[0].parent,
    )
    assert "images worked on in this run: mask 0, lr_face 0, hr_face 0" in done.stdout


def test_the_doctor_agrees(prepared):
    done = run_installed("deskpro-prepare", "--check", "P", cwd=prepared[0].parent)
    assert "healthy" in done.stdout
    path = next((prepared[0] / "hr_face").rglob("*.png"))
    content = path.read_bytes()
    path.write_bytes(content[:40])
    done = run_installed("deskpro-prepare", "--check", "P", cwd=prepared[0].parent, check=False)
    path.write_bytes(content)
    assert done.returncode == 1
    assert path.name in done.stdout


def test_the_official_layout_is_a_data_set(prepared):
    done = run_installed(
        *("reid-data", "check", "--data", prepared[0] / "official", "--dataset", "prcc_lr_hr_mask"),
        cwd=prepared[0].parent,
    )
    assert "synthetic" in done.stdout
    assert "healthy" in done.stdout


def test_synthetic_data_need_no_more_words(raw, tmp_path):
    done = run_installed(
        *("deskpro-prepare", "--data", "synthetic:celeb", "--synthetic-size", "tiny"),
        cwd=tmp_path,
        env={"REID_CACHE": str(tmp_path / "cache")},
    )
    assert "celeb (synthetic images) prepared in" in done.stdout
    (folder,) = (tmp_path / "cache" / "synthetic").glob("celeb-tiny-*-prepared")
    assert (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--data is missing"),
        (("--data", "nowhere", "--out", "P"), "there is no"),
        (("--check", "nowhere"), "nowhere"),
        (("--data", "DATA", "--out", "P"), "nothing to make: give --parsing"),
        (("--data", "DATA", "--out", "P", "--parsing", "missing"), "no such folder of label maps"),
        (("--data", "DATA", "--out", "P", "--keep", "77"), "LIP"),
    ],
)
def test_mistakes_are_one_message(raw, tmp_path, arguments, message):
    arguments = [raw[0] if argument == "DATA" else argument for argument in arguments]
    done = run_installed("deskpro-prepare", *arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_run_is_continued(raw, prepared, tmp_path):
    data, found, _ = raw
    arguments = ["--data", str(data), "--out", "P", "--parsing", str(found / "parsing")]
    arguments += ["--workers", "1", "--sheet-images", "0"]
    process = subprocess.Popen([installed("deskpro-prepare"), *arguments], cwd=tmp_path)
    journal = tmp_path / "P" / "records" / "mask.jsonl"
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size > 2000:
            process.kill()
            break
    process.wait()
    run_installed("deskpro-prepare", *arguments, cwd=tmp_path)
    for path in sorted((prepared[0] / "mask").rglob("*.png")):
        below = path.relative_to(prepared[0])
        assert (tmp_path / "P" / below).read_bytes() == path.read_bytes()
    assert not [path for path in (tmp_path / "P").rglob("*.tmp")]


def test_help_answers_at_once(tmp_path):
    done = run_installed("deskpro-prepare", "--help", cwd=tmp_path)
    for option in ("--parsing", "--faces", "--restored", "--official-layout", "--check"):
        assert option in done.stdout
    code = (
        "import sys; from reid_deskpro.prepare.command import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    ).stdout
    assert printed.endswith("[]\n")
