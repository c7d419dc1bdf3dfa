"""Synthetic data sets on disk: their bytes, and folders that are whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from reid_core.data.synthetic import LAYOUTS, SIZES, ensure_synthetic, synthesize
from reid_core.data.synthetic.files import Job
from reid_core.errors import ConfigError, OutputError

TINY = SIZES["tiny"]
SMALL = replace(TINY, train_pids=2, test_pids=2, val_pids=1, outfits=(1, 2), train_images=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with two layouts, masks included."""
    folder = tmp_path_factory.mktemp("synthetic")
    for layout in ("ltcc", "prcc"):
        synthesize(layout, folder, size="tiny", write_masks=True)
    return folder


def own_folder(root, layout):
    return root / Job(layout, 1, TINY, write_masks=False).layout.folder


def files_of(folder):
    """Map each file to the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestBytes:
    def test_the_seed_decides_them(self, tmp_path, root):
        first = synthesize("ltcc", tmp_path / "a", size="tiny", write_masks=True)
        other = synthesize("ltcc", tmp_path / "b", size="tiny", seed=2)
        assert files_of(first) == files_of(own_folder(root, "ltcc"))
        shared = set(files_of(first).values()) & set(files_of(other).values())
        assert not shared

    def test_the_processor_does_not(self, tmp_path):
        """BLAS and NumPy choose other kernels on other processors, which round differently."""
        script = (
            "import pathlib, sys; from reid_core.data.synthetic import synthesize;"
            "synthesize('ltcc', pathlib.Path(sys.argv[1]), size='tiny', workers=1)"
        )
        kernels = {
            "old": {
                "OPENBLAS_CORETYPE": "Prescott",
                "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX",
            },
            "new": {},
        }
        for name, variables in kernels.items():
            plain = {key: value for key, value in os.environ.items() if "BLAS" not in key}
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / name)],
                env={**plain, **variables},
                check=True,
            )
        assert files_of(tmp_path / "old") == files_of(tmp_path / "new")

    def test_the_number_of_workers_does_not(self, tmp_path):
        one, two = (
            synthesize("last", tmp_path / str(workers), size="tiny", workers=workers)
            for workers in (1, 2)
        )
        assert files_of(one) == files_of(two)

    def test_masks_leave_the_images_alone(self, tmp_path, root):
        bare = files_of(synthesize("prcc", tmp_path, size="tiny"))
        full = files_of(own_folder(root, "prcc"))
        images = {name for name in bare if name.startswith("rgb/")}
        assert {name: bare[name] for name in images} == {name: full[name] for name in images}
        assert not any(name.startswith(("masks/", "faces/")) for name in bare)

    def test_an_image_does_not_depend_on_the_others(self, root):
        job = Job("ltcc", 1, TINY, write_masks=False)
        for shot in job.shots()[::37]:
            with Image.open(own_folder(root, "ltcc") / shot.path) as image:
                stored = np.asarray(image)
            assert np.array_equal(job.world().photograph(shot, TINY.height).image, stored)

    def test_layouts_have_people_of_their_own(self):
        people = [Job(layout, 1, TINY, write_masks=False).world().person(3) for layout in LAYOUTS]
        assert len({person.height for person in people}) == len(LAYOUTS)


class TestFolders:
    def test_a_finished_one_is_reused(self, tmp_path):
        folder = synthesize("ltcc", tmp_path, size=SMALL)
        before = files_of(folder), folder.stat().st_mtime_ns
        calls = []
        again = synthesize("ltcc", tmp_path, size=SMALL, progress=lambda *done: calls.append(done))
        assert again == folder
        assert (files_of(folder), folder.stat().st_mtime_ns) == before
        assert not calls

    def test_progress_counts_every_image(self, tmp_path):
        calls = []
        synthesize("last", tmp_path, size=SMALL, progress=lambda *done: calls.append(done))
        total = len(Job("last", 1, SMALL, write_masks=False).shots())
        assert calls == [(done, total) for done in range(1, total + 1)]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_an_interrupted_one_leaves_nothing(self, tmp_path, workers):
        def interrupt(done, total):
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            synthesize("ltcc", tmp_path, size=SMALL, workers=workers, progress=interrupt)
        assert names(tmp_path) == []

    @pytest.mark.parametrize("damage", ["missing", "empty"])
    def test_a_damaged_one_is_made_again(self, tmp_path, damage, caplog):
        folder = synthesize("ltcc", tmp_path, size=SMALL)
        before = files_of(folder)
        image = next((folder / "train").iterdir())
        image.write_bytes(b"") if damage == "empty" else image.unlink()
        synthesize("ltcc", tmp_path, size=SMALL)
        assert f"lost 1 of its files, such as train/{image.name}" in caplog.text
        assert files_of(folder) == before
        assert names(tmp_path) == ["LTCC_ReID"]

    def test_what_is_not_ours_is_left_alone(self, tmp_path):
        real = tmp_path / "LTCC_ReID" / "train" / "000_1_c1_000001.png"
        real.parent.mkdir(parents=True)
        real.write_bytes(b"real")
        with pytest.raises(OutputError, match=r"is no synthetic data set .* left alone"):
            synthesize("ltcc", tmp_path, size=SMALL, overwrite=True)
        assert real.read_bytes() == b"real"

    def test_an_empty_folder_is_filled(self, tmp_path):
        (tmp_path / "LTCC_ReID").mkdir()
        folder = synthesize("ltcc", tmp_path, size=SMALL)
        assert (folder / "synthetic.json").is_file()

    def test_a_different_one_is_replaced_only_on_demand(self, tmp_path):
        folder = synthesize("ltcc", tmp_path, size=SMALL)
        before = files_of(folder)
        with pytest.raises(OutputError, match=r"another synthetic data set .*seed, spec"):
            synthesize("ltcc", tmp_path, size="tiny", seed=2)
        assert files_of(folder) == before
        synthesize("ltcc", tmp_path, size=SMALL, seed=2, overwrite=True)
        assert json.loads((folder / "synthetic.json").read_text())["seed"] == 2
        assert not set(before.values()) & set(files_of(folder).values())
        assert names(tmp_path) == ["LTCC_ReID"]

    def test_the_faster_of_two_processes_wins(self, tmp_path):
        made = []

        def race(done, total):
            if done == total:
                made.append(synthesize("ltcc", tmp_path, size=SMALL).stat().st_ino)

        folder = synthesize("ltcc", tmp_path, size=SMALL, progress=race)
        assert [folder.stat().st_ino] == made
        assert names(tmp_path) == ["LTCC_ReID"]

    def test_leftovers_of_killed_runs_are_cleared_after_a_day(self, tmp_path):
        old, recent = (tmp_path / f".LTCC_ReID.partial-{name}" for name in ("old", "recent"))
        for path in (old, recent):
            (path / "train").mkdir(parents=True)
        os.utime(old, (0, 0))
        synthesize("ltcc", tmp_path, size=SMALL)
        assert not old.exists()
        assert recent.exists()

    def test_a_refused_write_names_the_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"cannot write .*LTCC_ReID"):
            synthesize("ltcc", tmp_path / "file", size=SMALL)

    def test_the_marker_says_what_it_is(self, root):
        marker = json.loads((own_folder(root, "prcc") / "synthetic.json").read_text())
        assert marker["generator"] == "reid-core"
        assert (marker["layout"], marker["size"], marker["seed"]) == ("prcc", "tiny", 1)
        assert "say nothing about real people" in marker["notice"]


class TestCache:
    def test_each_recipe_has_its_own_place(self, tmp_path):
        folders = {
            ensure_synthetic("ltcc", size=size, seed=seed, cache_dir=tmp_path)
            for size, seed in ((SMALL, 1), (SMALL, 2), (replace(SMALL, height=48), 1))
        }
        assert len(folders) == 3
        assert all(folder.name == "LTCC_ReID" for folder in folders)
        assert ensure_synthetic("ltcc", size=SMALL, cache_dir=tmp_path) in folders

    def test_the_environment_names_the_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
        folder = ensure_synthetic("prcc", size=SMALL)
        assert folder.is_relative_to(tmp_path / "cache")
        assert names(folder.parent) == ["prcc"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"layout": "market"},
            "no synthetic layout is called 'market'; choose ltcc, prcc, last, celeb, celeb_light",
        ),
        ({"size": "huge"}, "unknown synthetic size 'huge'; choose tiny, demo, full"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    chosen = {"layout": "ltcc", "size": "tiny", **arguments}
    with pytest.raises(ConfigError, match=message):
        synthesize(chosen.pop("layout"), tmp_path, **chosen)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_pids": 0}, "train_pids is 0; it must be at least 1"),
        ({"outfits": (3, 2)}, r"outfits is \(3, 2\); it must be \(fewest, most\)"),
        ({"train_sharing": 1.5}, r"train_sharing is 1.5; it must be in \[0, 1\]"),
        ({"cameras": 13}, r"cameras is 13; it must be in 2\.\.12"),
        ({"height": 16}, r"height is 16; it must be in 32\.\.1024 pixels"),
    ],
)
def test_bad_numbers_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **change)


def test_it_works_without_torch():
    program = "import sys, reid_core.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_script_without_a_main_guard_gets_its_data(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import logging, pathlib\n"
        "from reid_core.data.synthetic import synthesize\n"
        "logging.basicConfig()\n"
        f"print(synthesize('ltcc', pathlib.Path({str(tmp_path)!r}), size='tiny', workers=2))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "LTCC_ReID")
    assert "going on with one process" in done.stderr
    assert names(tmp_path) == ["LTCC_ReID", "script.py"]
