"""Preparation as a whole: what is made, and what a second run does again."""

import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from reid_core.data.companions import has_companions
from reid_core.errors import (
    ConfigError,
    DatasetError,
    DatasetNotFoundError,
    ImageFileError,
    MemoryLimitError,
)
from reid_deskpro.prepare import PrepareConfig, ensure_prepared, prepare, recipe
from reid_deskpro.prepare.manifest import read_manifest, require_finished
from reid_deskpro.prepare.runner import run_step

from .conftest import FACELESS, HEIGHT, WIDTH, draw_labels, save

NUM_IMAGES = 13


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def files(folder):
    """Return contents by path, of everything that a run writes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


class TestResults:
    def test_masks_have_the_size_of_their_images_and_two_values(self, make, label_maps, names):
        out = make(parsing=label_maps).folder
        expected = np.isin(draw_labels(has_face=True), (2, 13)) * 255
        for name in names:
            with Image.open((out / "mask" / name).with_suffix(".png")) as mask:
                assert (mask.mode, mask.format, mask.size) == ("L", "PNG", (WIDTH, HEIGHT))
                if name not in FACELESS:
                    assert (np.asarray(mask) == expected).all()

    def test_faces_are_cut_out_where_heads_are(self, make, prcc, label_maps, names):
        out = make(parsing=label_maps).folder
        for name in names:
            path = (out / "lr_face" / name).with_suffix(".png")
            assert path.exists() == (name not in FACELESS)
            if path.exists():
                # A box of 8 x 6 pixels at (8, 8): its square has 10 pixels.
                assert (pixels(path) == pixels(prcc / name)[6:16, 7:17]).all()

    def test_detections_decide_where_they_are_given(self, make, prcc, tmp_path, names):
        found = {name: [[4, 4, 14, 14, 0.9]] for name in names[2:]}
        found[names[0]] = []
        (tmp_path / "faces.json").write_text(json.dumps(found))
        made = make(faces=tmp_path / "faces.json")
        crop = pixels((made.folder / "lr_face" / names[5]).with_suffix(".png"))
        assert (crop == pixels(prcc / names[5])[3:16, 3:16]).all()
        assert made.missing == {
            "lr_face": {"no face was detected": 1, "not in the detector's file": 1}
        }
        assert not (made.folder / "mask").exists()

    def test_entries_of_other_images_are_counted(self, make, tmp_path, names, caplog):
        found = {names[0]: [[4, 4, 14, 14, 0.9]], "elsewhere.jpg": []}
        (tmp_path / "faces.json").write_text(json.dumps(found))
        make(faces=tmp_path / "faces.json")
        assert "entries that belong to no image: 1" in caplog.text

    def test_restored_faces_are_taken_over_as_they_are(self, make, restored, names):
        jpeg = (restored / names[1]).with_suffix(".jpg")
        save(jpeg, np.full((16, 16, 3), 99, np.uint8))
        jpeg.with_suffix(".png").unlink()
        (restored / names[2]).with_suffix(".png").unlink()
        made = make(restored=restored)
        first = (made.folder / "hr_face" / names[0]).with_suffix(".png")
        assert first.read_bytes() == (restored / names[0]).with_suffix(".png").read_bytes()
        assert (made.folder / "hr_face" / names[1]).with_suffix(".jpg").read_bytes() == (
            jpeg.read_bytes()
        )
        assert made.missing["hr_face"] == {"no restored face": 1}

    def test_enlarged_crops_can_stand_in_for_them(self, make, label_maps, names, caplog):
        out = make(parsing=label_maps, hr="fallback").folder
        crop = Image.open((out / "lr_face" / names[0]).with_suffix(".png"))
        enlarged = pixels((out / "hr_face" / names[0]).with_suffix(".png"))
        expected = crop.resize((20, 20), Image.Resampling.LANCZOS)
        assert (enlarged == np.asarray(expected)).all()
        assert "the teacher sees little more" in caplog.text

    def test_ready_crops_may_be_given(self, make, restored, names):
        out = make(faces=restored).folder
        path = (out / "lr_face" / names[3]).with_suffix(".png")
        assert path.read_bytes() == (restored / names[3]).with_suffix(".png").read_bytes()

    def test_samples_find_what_was_made(self, make, label_maps, restored):
        made = make(parsing=label_maps, restored=restored)
        assert [has_companions(sample) for sample in made.dataset.train] == [
            *[True] * 4,
            False,
        ]

    def test_processes_do_not_matter(self, make, label_maps, tmp_path):
        one = make(parsing=label_maps, out=tmp_path / "one", workers=1).folder
        two = make(parsing=label_maps, out=tmp_path / "two", workers=2).folder
        assert files(one) == files(two)


class TestCounts:
    def test_are_in_the_manifest(self, make, label_maps, restored):
        made = make(parsing=label_maps, restored=restored)
        content = json.loads((made.folder / "manifest.json").read_text())
        assert content["complete"] is True
        assert content["dataset"]["name"] == "prcc"
        train = content["splits"]["train"]
        assert train["having"] == {"lr_face": 4, "hr_face": 5, "mask": 5}
        assert (train["images"], train["identities"], train["complete"]) == (5, 2, 4)
        assert content["splits"]["query_diff"]["having"]["lr_face"] == 1
        assert content["steps"]["mask"]["parameters"]["kept"] == [2, 13, 14, 15, 16, 17]
        assert content["steps"]["lr_face"]["missing"] == {"the head is turned away": 2}
        assert content["training"]["train"] == {"identities": 2, "lost": []}

    def test_people_who_are_lost_are_named(self, make, label_maps, restored, names):
        for name in names:
            if name.startswith("rgb/train/002/"):
                (restored / name).with_suffix(".png").unlink()
        made = make(parsing=label_maps, restored=restored)
        assert made.census.classes == {"train": 1}
        assert made.census.lost == {"train": ("002",)}
        assert "that can be trained on: 3, of 1 identities; lost are 1 of 2 identities: 002" in (
            made.census.format()
        )

    def test_a_kind_that_is_absent_is_no_loss_of_people(self, make, label_maps):
        made = make(parsing=label_maps)
        assert "train: no image has a hr_face yet; training needs all three" in made.census.format()

    def test_records_say_what_was_used(self, make, prcc, label_maps, names):
        made = make(parsing=label_maps)
        lines = (made.folder / "records" / "lr_face.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["parameters"]["margin"] == 1.3
        records = {record["image"]: record for record in map(json.loads, lines[1:])}
        assert sorted(records) == sorted(names)
        record = records[names[0]]
        assert set(record["sources"]) == {"image", "labels"}
        assert record["sources"]["image"][0] == (prcc / names[0]).stat().st_size
        assert record["box"] == [7, 6, 10]


class TestSecondRuns:
    def test_do_nothing_where_nothing_has_changed(self, make, label_maps, restored):
        sources = {"parsing": label_maps, "restored": restored, "sheet_images": 2}
        first = make(**sources)
        before = files(first.folder)
        times = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.png")}
        second = make(**sources)
        assert first.done == dict.fromkeys(("mask", "lr_face", "hr_face"), NUM_IMAGES)
        assert second.done == dict.fromkeys(("mask", "lr_face", "hr_face"), 0)
        assert files(first.folder) == before
        assert {path: path.stat().st_mtime_ns for path in times} == times

    def test_add_what_is_new(self, make, label_maps, restored):
        make(parsing=label_maps)
        made = make(restored=restored)
        assert made.done == {"hr_face": NUM_IMAGES}
        assert set(read_manifest(made.folder).steps) == {"mask", "lr_face", "hr_face"}
        assert made.census.splits["train"].complete == 4

    @pytest.mark.parametrize(
        ("settings", "again"),
        [
            ({"keep": (2,)}, {"mask"}),
            ({"background": 1}, {"mask"}),
            ({"labels": "atr", "keep": (2,)}, {"mask", "lr_face"}),
        ],
    )
    def test_redo_what_other_settings_change(self, make, label_maps, settings, again, names):
        for name in names:  # labels that both sets have
            save((label_maps / name).with_suffix(".png"), draw_labels(has_face=True) % 14)
        made = make(parsing=label_maps)
        before = files(made.folder)
        done = make(parsing=label_maps, **settings).done
        assert {step for step, count in done.items() if count} == again
        mask = f"mask/{names[0]}".replace(".jpg", ".png")
        assert files(made.folder)[mask] != before[mask]

    def test_redo_what_other_sources_change(self, make, label_maps, names):
        make(parsing=label_maps)
        save((label_maps / names[0]).with_suffix(".png"), draw_labels(has_face=False))
        made = make(parsing=label_maps)
        assert made.done == {"mask": 1, "lr_face": 1}
        assert not (made.folder / "lr_face" / names[0]).with_suffix(".png").exists()
        assert made.missing["lr_face"] == {"the head is turned away": 3}

    def test_say_which_restored_faces_are_of_other_crops(
        self, make, label_maps, restored, names, caplog
    ):
        make(parsing=label_maps, restored=restored)
        assert "restore them again" not in caplog.text
        save((label_maps / names[0]).with_suffix(".png"), draw_labels(has_face=True))
        make(parsing=label_maps)
        assert "made or looked at again: 1" in caplog.text

    def test_files_that_were_only_touched_are_left_alone(self, make, label_maps, names):
        made = make(parsing=label_maps)
        output = (made.folder / "mask" / names[0]).with_suffix(".png")
        time = output.stat().st_mtime_ns
        source = (label_maps / names[0]).with_suffix(".png")
        copy = source.read_bytes()
        source.unlink()
        source.write_bytes(copy)
        assert make(parsing=label_maps).done == {"mask": 1, "lr_face": 1}  # read, not made
        assert output.stat().st_mtime_ns == time
        assert make(parsing=label_maps).done == {"mask": 0, "lr_face": 0}

    def test_detections_that_change_concern_their_images(self, make, tmp_path, names):
        path = tmp_path / "faces.json"
        found = {name: [[4, 4, 14, 14, 0.9]] for name in names}
        path.write_text(json.dumps(found))
        make(faces=path)
        path.write_text(json.dumps({**found, names[3]: [[5, 4, 15, 14, 0.9]]}))
        assert make(faces=path).done == {"lr_face": 1}

    def test_lost_and_cut_files_are_made_again(self, make, label_maps, names):
        made = make(parsing=label_maps)
        whole = files(made.folder)
        (made.folder / "mask" / names[0]).with_suffix(".png").unlink()
        (made.folder / "lr_face" / names[1]).with_suffix(".png").write_bytes(b"")
        assert make(parsing=label_maps).done == {"mask": 1, "lr_face": 1}
        assert files(made.folder) == whole

    def test_another_ending_leaves_no_second_file(self, make, restored, names):
        make(restored=restored)
        png = (restored / names[0]).with_suffix(".png")
        png.unlink()
        save(png.with_suffix(".jpg"), np.zeros((8, 8, 3), np.uint8))
        made = make(restored=restored)
        assert [
            path.suffix
            for path in (made.folder / "hr_face" / names[0]).parent.glob(f"{png.stem}.*")
        ] == [".jpg"]

    def test_a_stopped_run_goes_on_and_ends_alike(self, make, label_maps, tmp_path, monkeypatch):
        whole = files(make(parsing=label_maps, out=tmp_path / "whole").folder)
        monkeypatch.setattr("reid_deskpro.prepare.runner._CHUNK", 4)

        class Stop(Exception):
            pass

        def stop(done, total):
            if done == 6:
                raise Stop

        def stopping(*args, **options):
            return run_step(*args, **{**options, "progress": stop})

        monkeypatch.setattr(recipe, "run_step", stopping)
        with pytest.raises(Stop):
            make(parsing=label_maps)
        monkeypatch.setattr(recipe, "run_step", run_step)
        out = tmp_path / "out"
        with pytest.raises(DatasetError, match="stopped before its end"):
            require_finished(out)
        journal = out / "records" / "mask.jsonl"
        journal.write_text(journal.read_text()[:-20])  # as a power cut leaves it
        assert make(parsing=label_maps).done == {"mask": NUM_IMAGES - 5, "lr_face": NUM_IMAGES}
        assert files(out) == whole
        require_finished(out)


class TestDamage:
    def test_is_named_and_stops(self, make, prcc, label_maps, names):
        (prcc / names[4]).write_bytes(b"damaged")
        (label_maps / names[6]).with_suffix(".png").write_bytes(b"")
        with pytest.raises(ImageFileError) as error:
            make(parsing=label_maps)
        assert "step mask: files that cannot be used: 2" in str(error.value)
        assert names[4] in str(error.value)
        assert "--skip-corrupt" in str(error.value)

    def test_is_counted_where_it_may_be(self, make, prcc, label_maps, names):
        original = (prcc / names[4]).read_bytes()
        (prcc / names[4]).write_bytes(b"damaged")
        made = make(parsing=label_maps, skip_corrupt=True)
        assert made.missing == {
            "mask": {"damaged": 1},
            "lr_face": {"the head is turned away": 1, "damaged": 1},
        }
        (prcc / names[4]).write_bytes(original)
        assert make(parsing=label_maps).missing["mask"] == {}

    def test_goes_on_being_looked_at(self, make, prcc, label_maps, names):
        (prcc / names[4]).write_bytes(b"damaged")
        make(parsing=label_maps, skip_corrupt=True)
        with pytest.raises(ImageFileError, match="files that cannot be used: 1"):
            make(parsing=label_maps)


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "nothing to make: give --parsing"),
            ({"data": ""}, "--data is missing"),
            ({"out": None, "hr": "fallback"}, "--out is missing"),
            ({"parsing": "no.onnx"}, "there is no such file"),
            ({"data": "synthetic:prcc", "dataset": "celeb"}, "contradict each other"),
            ({"hr": "fallback", "official_layout": "link", "official_val": True}, None),
            (
                {"hr": "fallback", "keep": (2,)},
                "--keep and --background say .* give --parsing, too",
            ),
        ],
    )
    def test_of_settings(self, make, tmp_path, settings, message):
        if "parsing" in settings:
            settings = {"parsing": tmp_path / settings["parsing"]}
        expected = DatasetNotFoundError if message is None else ConfigError
        with pytest.raises(expected, match=message or "no such folder of face crops"):
            make(**settings)

    @pytest.mark.parametrize(
        ("option", "what"), [("parsing", "label map"), ("restored", "restored face")]
    )
    def test_of_folders_of_something_else(self, make, tmp_path, option, what):
        with pytest.raises(DatasetNotFoundError, match=f"--{option} .*no such folder of {what}s"):
            make(**{option: tmp_path / "absent"})
        (tmp_path / "other" / "rgb").mkdir(parents=True)
        with pytest.raises(DatasetError, match=f"a {what} of none of the 13 images.*rgb/"):
            make(**{option: tmp_path / "other"})

    def test_of_files_that_are_neither(self, make, tmp_path):
        (tmp_path / "faces.txt").write_text("")
        with pytest.raises(ConfigError, match=r"neither a detector's \.json file nor a folder"):
            make(faces=tmp_path / "faces.txt")

    def test_of_images_that_would_share_a_mask(self, make, prcc, label_maps, names):
        shutil.copy(prcc / names[0], (prcc / names[0]).with_suffix(".png"))
        with pytest.raises(DatasetError, match="differ in their ending only"):
            make(parsing=label_maps)

    def test_of_a_folder_of_another_data_set(self, make, label_maps, tmp_path):
        make(parsing=label_maps)
        path = tmp_path / "out" / "manifest.json"
        path.write_text(path.read_text().replace('"name": "prcc"', '"name": "ltcc"'))
        with pytest.raises(DatasetError, match="was prepared from ltcc"):
            make(parsing=label_maps)
        path.write_text("{}")
        with pytest.raises(DatasetError, match="no manifest of deskpro-prepare"):
            make(parsing=label_maps)

    def test_of_the_data_sets_own_folder(self, make, prcc, label_maps):
        with pytest.raises(ConfigError, match="the data set's own folder"):
            make(parsing=label_maps, out=prcc)
        with pytest.raises(ConfigError, match="the data set's own folder"):
            make(parsing=label_maps, data=str(prcc.parent), out=prcc)
        assert {path.name for path in prcc.iterdir()} == {"rgb"}

    def test_of_a_second_process(self, make, label_maps, tmp_path):
        from reid_core.testing.commands import run_installed  # a lock is per process

        make(parsing=label_maps)
        script = (
            "from pathlib import Path; from reid_core.folder_lock import FolderLock\n"
            f"FolderLock(Path({str(tmp_path / 'out')!r}), 'prepared folder')"
        )
        from reid_core.folder_lock import FolderLock

        with FolderLock(tmp_path / "out", "prepared folder"):
            done = run_installed("python", "-c", script, cwd=tmp_path, check=False)
        assert "prepared folder" in done.stderr
        assert "is in use by process" in done.stderr

    def test_of_synthetic_people_waits_for_a_second_process(self, tmp_path, monkeypatch):
        monkeypatch.setenv("REID_CACHE", str(tmp_path))
        folder = ensure_prepared("prcc", size="tiny")
        # A lock is per process. It is dropped once this process is known to wait for it.
        script = (
            "import sys; from pathlib import Path; from reid_core.folder_lock import FolderLock\n"
            f"lock = FolderLock(Path({str(folder)!r}), 'prepared folder')\n"
            "print('locked', flush=True); sys.stdin.readline()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout.readline() == "locked\n"

            def release(_):
                if holder.poll() is None:
                    holder.communicate("\n")

            monkeypatch.setattr("reid_core.folder_lock.time.sleep", release)
            assert ensure_prepared("prcc", size="tiny") == folder
            assert holder.poll() == 0

    def test_of_work_that_needs_more_memory(self, make, label_maps):
        with pytest.raises(MemoryLimitError, match="names and records of 13 images"):
            make(parsing=label_maps, memory_limit="40MB")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"keep": (44,)}, "keep=44"),
            ({"workers": -1}, "workers=-1"),
            ({"sheet_images": -1}, "sheet_images=-1"),
            ({"hr": "fallback", "restored": "x"}, "give one of them"),
            ({"memory_limit": "much"}, "no size of memory"),
            ({"official_val": True}, "belongs to --official-layout"),
            ({"check": "P", "out": "P"}, "--check P makes nothing"),
        ],
    )
    def test_of_single_settings(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            PrepareConfig(**settings)


def test_progress_names_the_steps(prcc, label_maps, tmp_path):
    seen = {}
    prepare(
        PrepareConfig(data=str(prcc), out=tmp_path / "out", parsing=label_maps, workers=1),
        progress=lambda what, done, total: seen.update({what: (done, total)}),
    )
    assert seen == {"making masks": (13, 13), "cutting out faces": (13, 13)}


def test_nothing_is_logged_by_a_plain_run(make, label_maps, restored, caplog):
    with caplog.at_level(logging.WARNING, "reid_deskpro"):
        make(parsing=label_maps, restored=restored)
    assert not caplog.records or {record.name for record in caplog.records} == {
        "reid_core.data.readers"
    }
