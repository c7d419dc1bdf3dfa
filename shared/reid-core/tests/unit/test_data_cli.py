"""The command reid-data, as people call it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_core.data import READERS
from reid_core.data.check import check_dataset
from reid_core.data.cli import main
from reid_core.data.tables import format_table
from reid_core.testing.miniatures import write_images, write_miniature


def run(*argv: str) -> int:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    return int(caught.value.code or 0)


def write_healthy(root: Path, name: str = "ltcc") -> Path:
    """Write a miniature whose counts are not compared and whose images decode."""
    own = write_miniature(name, root, decodable=True)
    (own / "synthetic.json").write_text("{}")
    return own


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from reid_core.data.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    sys.exit(end.code or bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("list", "synthesize", "check", "stats"):
        assert command in done.stdout


def test_list_names_every_data_set_and_where_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    out = capsys.readouterr().out
    for reader in READERS.values():
        assert f"{reader.info.name}  {reader.info.title}" in out
        assert f"ROOT/{reader.info.folder}" in out
    assert "train 9,576, query 493, gallery 7,050" in out
    assert "ltcc/cloth_changing" in out
    assert "path,pid,camid" in out


def test_stats_prints_the_split_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_miniature("ltcc", tmp_path)
    assert run("stats", "--data", str(tmp_path)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "3", "2", "3", "3", "9,576", "77"] in rows
    assert ["query+gallery", "5", "2", "3", "3", "7,543", "75"] in rows


def test_stats_leaves_out_what_is_not_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_miniature("last", tmp_path)
    assert run("stats", "--data", str(tmp_path), "--dataset", "last") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "3", "2", "3", "-", "71,248", "5,000"] in rows
    assert ["gallery", "2", "2", "-", "-", "125,353", "-"] in rows


def test_stats_shows_that_celeb_has_neither_outfits_nor_cameras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_miniature("celeb", tmp_path)
    assert run("stats", "--data", str(tmp_path)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "4", "3", "-", "-", "20,208", "632"] in rows
    assert ["gallery", "3", "2", "-", "-", "11,006", "420"] in rows


def test_stats_counts_each_modality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_miniature("sysu", tmp_path)
    assert run("stats", "--data", str(tmp_path)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "6", "2", "-", "5", "34,167", "395"] in rows
    assert ["train", "(infrared)", "3", "2", "-", "2", "11,909", "395"] in rows
    assert ["test", "(visible)", "5", "2", "-", "4", "6,775", "96"] in rows


def test_stats_has_a_row_for_each_split_of_a_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_miniature("regdb", tmp_path)
    for table in (own / "idx").glob("*_[13-9].txt"):
        table.unlink()
    assert run("stats", "--data", str(tmp_path)) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    names = [row[0] for row in rows if row and row[0].startswith(("train", "test"))]
    assert names == ["train_2", "train_10", "test_2", "test_10"]
    assert ["test_10", "8", "2", "-", "2", "4,120", "206"] in rows
    assert "note: lists of 2 of 10 trials are there: 2, 10" in out


def test_list_shows_one_trial_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "regdb") == 0
    out = capsys.readouterr().out
    assert "train_1 4,120, test_1 4,120 and so on, 10 trials" in out
    assert "idx/train_visible_1.txt" in out


def test_healthy_data_pass_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_healthy(tmp_path)
    assert run("check", "--data", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "LTCC (synthetic images)" in out
    assert "8 images decoded without error; healthy" in out
    assert "published" not in out
    rows = [line.split() for line in out.splitlines()]
    assert ["images", "by", "camid", "0", "1", "2", "11"] in rows
    assert ["gallery", "1", "1", ".", "1"] in rows
    assert ["identities", "by", "number", "of", "outfits", "1", "2"] in rows
    assert ["train", "1", "1"] in rows


def test_check_names_damaged_and_misnamed_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_healthy(tmp_path)
    whole = (own / "train/001_1_c1_000001.png").read_bytes()
    (own / "train/001_1_c1_000001.png").write_bytes(b"")
    (own / "test/010_1_c2_000006.png").write_bytes(whole[: len(whole) // 2])
    (own / "query/010_2_c2_000005.png").write_text("<html>not found</html>")
    write_images(own, ["query/copy.png"])
    assert run("check", "--data", str(tmp_path)) == 1
    out = capsys.readouterr().out
    assert "images that cannot be read: 3" in out
    for name in ("001_1_c1_000001.png", "010_1_c2_000006.png", "010_2_c2_000005.png"):
        assert name in out
    assert "0 bytes" in out
    assert "misnamed image files, whose names carry no labels: 1\n  query/copy.png" in out
    assert "5 images decoded without error; 2 problems" in out
    assert out.count("\n  fix: ") == 2


def test_check_compares_with_the_published_counts(tmp_path: Path) -> None:
    own = write_miniature("prcc", tmp_path, decodable=True)
    report = check_dataset("prcc", tmp_path)
    (problem,) = report.problems
    assert "train: images 5, published 17,896 (17,891 missing)" in problem.items
    for path in (own / "rgb/val").rglob("*.jpg"):
        path.unlink()
    for folder in ("rgb/val/001", "rgb/val/002", "rgb/val"):
        (own / folder).rmdir()
    report = check_dataset("prcc", tmp_path)
    assert "val: absent (published: 5,002 images)" in report.remarks
    assert not any(item.startswith("val") for item in report.problems[0].items)


def test_check_finds_queries_without_a_match(tmp_path: Path) -> None:
    names = ["query/1/c1_a.jpg", "query/2/c1_a.jpg", "gallery/1/c2_b.jpg", "gallery/2/c1_b.jpg"]
    write_images(tmp_path, names, decodable=True)
    report = check_dataset("folder", tmp_path)
    assert report.healthy
    assert report.remarks[0].startswith("query: 1 of 2 queries have no gallery image")
    (tmp_path / "gallery/1/c2_b.jpg").rename(tmp_path / "gallery/1/c1_b.jpg")
    (problem,) = check_dataset("folder", tmp_path).problems
    assert problem.what.startswith("no image of query has a gallery image of the same person")
    assert "leave the camera out" in problem.fix


def test_check_searches_across_modalities(tmp_path: Path) -> None:
    own = write_healthy(tmp_path, "llcm")
    report = check_dataset("llcm", tmp_path)
    assert report.healthy
    # Person 2 is searched for in camera 1, where the infrared image is, and found from camera 3.
    (remark,) = report.remarks
    assert remark.startswith("test (visible): 1 of 3 queries have no gallery image of the same")
    (own / "idx/test_id.txt").write_text("2")
    for path in (own / "test_vis/cam3/0002").iterdir():
        path.rename(own / "test_vis/cam1/0002" / path.name)
    problems = check_dataset("llcm", tmp_path).problems
    assert [problem.what.partition(" has")[0] for problem in problems] == [
        "no image of test (visible)",
        "no image of test (infrared)",
    ]


def test_check_reads_arrays(tmp_path: Path) -> None:
    own = write_healthy(tmp_path, "sysu")
    for folder in own.glob("cam*/000[12]"):
        shutil.rmtree(folder)
    for name in ("rgb", "ir"):
        np.save(own / f"train_{name}_resized_img.npy", np.zeros((3, 288, 144, 3), np.uint8))
        np.save(own / f"train_{name}_resized_label.npy", np.array([0, 0, 1]))
    report = check_dataset("sysu", tmp_path)
    assert report.healthy
    assert report.num_decoded == 6 + 7
    assert "train: 6 images from the pre-processed arrays" in report.format()


def test_check_reports_progress(tmp_path: Path) -> None:
    write_healthy(tmp_path)
    seen: list[tuple[int, int]] = []
    check_dataset("ltcc", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(index, 8) for index in range(1, 9)]


def test_check_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path, ["\xe4 b.jpg"], decodable=True)
    (tmp_path / "t.csv").write_text("path,pid\n\xe4 b.jpg,1\n", encoding="utf-8")
    assert run("check", "--data", str(tmp_path / "t.csv")) == 0
    assert "note: no camera labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["stats", "--data", "ROOT"], "no data set was recognised in"),
        (["check", "--data", "ROOT", "--dataset", "ltcc"], "LTCC was not found in"),
        (["check", "--data", "ROOT/nope"], "there is no"),
        (["stats", "--data", "ROOT", "--dataset", "lttc"], "did you mean 'ltcc'"),
        (["synthesize", "market", "ROOT"], "no synthetic layout is called 'market'"),
        (["check", "--dat", "ROOT"], "--data"),
        (["stats"], "--data"),
        (["frobnicate"], "frobnicate"),
        ([], "synthesize"),
    ],
)
def test_errors_are_one_message_and_status_2(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(arg.replace("ROOT", str(tmp_path)) for arg in argv)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_synthetic_data_are_written_and_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("synthesize", "prcc", str(tmp_path), "--seed", "3", "--size", "tiny") == 0
    assert str(tmp_path / "prcc") in capsys.readouterr().out
    assert run("check", "--data", str(tmp_path)) == 0
    assert "PRCC (synthetic images)" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file names that are not text")
def test_names_that_are_not_text_are_printed(tmp_path: Path) -> None:
    own = write_healthy(tmp_path)
    try:
        (own / "train" / os.fsdecode(b"001_1_c1_\xff.png")).touch()
    except OSError:
        pytest.skip("the file system takes text only")
    command = [sys.executable, "-c", "from reid_core.data.cli import main; main()"]
    argv = [*command, "check", "--data", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "001_1_c1_\\udcff.png" in done.stdout


def test_format_table_aligns_columns() -> None:
    assert format_table([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"


def test_check_decodes_and_counts_companion_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_healthy(tmp_path, "celeb_lr_hr_mask")
    (own / "lr_face/query/1_c5_0.jpg").unlink()
    assert run("check", "--data", str(own)) == 0
    out = capsys.readouterr().out
    assert "query: companions of 2 images: lr_face 1, hr_face 2, mask 2" in out
    (own / "mask/query/7_c2_0.jpg").write_text("no image")
    assert run("check", "--data", str(own)) == 1
    out = capsys.readouterr().out
    assert "images that cannot be read: 1" in out
    assert f"{own / 'mask/query/7_c2_0.jpg'}" in out
