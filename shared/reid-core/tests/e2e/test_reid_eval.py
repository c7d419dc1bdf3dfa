"""``reid-eval`` as people use it: formats, figures, files left, and one clear message otherwise.

Most cases call the command's function in this process, with the same parsing and error handling as
the installed command, which some start.
"""

import csv
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.evaluation import Labels, l2_normalize, rank_gallery
from reid_core.evaluation.cli import main
from reid_core.testing.commands import run_installed, torchrun
from reid_core.testing.miniatures import write_images

NUM_QUERIES, NUM_GALLERY, NUM_TRAIN = 30, 90, 10


@pytest.fixture
def data():
    """Return the arrays of 130 images of 12 people: 30 queries, 90 gallery images, 10 others."""
    rng = np.random.default_rng(5)
    count = NUM_QUERIES + NUM_GALLERY + NUM_TRAIN
    pids = rng.integers(0, 12, count)
    features = rng.normal(size=(12, 24))[pids] + 1.5 * rng.normal(size=(count, 24))
    return {
        "features": features.astype(np.float32),
        "pid": pids,
        "camid": rng.integers(0, 4, count),
        "clothes_id": 10 * pids + rng.integers(0, 2, count),
        "path": np.array([f"images/{pid:02d}_{row:03d}.jpg" for row, pid in enumerate(pids)]),
        "split": np.repeat(["query", "gallery", "train"], [NUM_QUERIES, NUM_GALLERY, NUM_TRAIN]),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch, data):
    """Return an empty working folder with ``f.npz``."""
    monkeypatch.chdir(tmp_path)
    np.savez("f.npz", **data)
    yield tmp_path
    logging.getLogger("reid_core").handlers = []  # the command's console handler
    logging.getLogger("reid_core").propagate = True


@pytest.fixture
def run(folder, capsys):
    """Return a function that runs the command and returns results.json and what was printed."""

    def start(*args):
        with pytest.raises(SystemExit) as ending:
            main([*map(str, args), "--out", "out"])
        printed = capsys.readouterr()
        assert not ending.value.code, printed.err
        return json.loads(Path("out/results.json").read_text()), printed.out + printed.err

    return start


@pytest.fixture
def fails(folder, capsys):
    """Return a function that runs the command and checks that it fails as it should."""

    def check(*args, says):
        before = set(folder.rglob("*"))
        with pytest.raises(SystemExit) as ending:
            main([*map(str, args), *(() if "--out" in args else ("--out", "out"))])
        message = capsys.readouterr().err
        assert ending.value.code == 2
        assert "Traceback" not in message
        flat = " ".join(message.replace("│", " ").split())
        for part in says:
            assert part in flat, f"{part!r} is not in: {flat}"
        assert set(folder.rglob("*")) == before, "something was left behind"

    return check


def expected(data, match="standard"):
    """Return the ranking of the queries by the library."""
    sides = []
    for name in ("query", "gallery"):
        rows = data["split"] == name
        labels = Labels(
            pids=data["pid"][rows],
            camids=data["camid"][rows],
            clothes_ids=data["clothes_id"][rows],
        )
        sides.append((l2_normalize(torch.from_numpy(data["features"][rows])), labels))
    (query, query_labels), (gallery, gallery_labels) = sides
    return rank_gallery(query, gallery, query_labels, gallery_labels, match)


def write_table(path, data, names=("path", "pid", "camid", "clothes_id", "split")):
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows(zip(*(data[name].tolist() for name in names), strict=True))


# ------------------------------------------------------------------ results


def test_the_installed_command(folder, data):
    done = run_installed("reid-eval", "f.npz", cwd=folder)
    for word in ("custom/standard", "custom/cloth_changing", "scaled to length 1", "report.html"):
        assert word in done.stdout + done.stderr
    out = folder / "runs/reid-eval-f-1"
    record = json.loads((out / "results.json").read_text())
    for match in ("standard", "cloth_changing", "same_clothes"):
        ranking, figures = expected(data, match), record["results"][f"custom/{match}"]
        assert figures.items() >= ranking.summary().items()
        assert "junk" in figures["definition"]
    assert re.fullmatch("[0-9a-f]{64}", record["files"][0]["sha256"])
    assert record["command"] == "reid-eval f.npz"
    assert "Every image of" in (out / "report.html").read_text()


def test_a_table_of_queries(run, data):
    run("f.npz", "--protocol", "custom/same_clothes")
    with open("out/queries-custom-same_clothes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ranking = expected(data, "same_clothes")
    assert len(rows) == NUM_QUERIES
    assert 0 < ranking.num_valid < NUM_QUERIES
    for number, row in enumerate(rows):
        assert (row["path"], int(row["row"])) == (data["path"][number], number)
        assert int(row["num_junk"]) == ranking.num_junk[number]
        if ranking.valid[number]:
            assert float(row["ap"]) == ranking.average_precision[number]
            assert int(row["first_hit"]) == ranking.first_hit[number]
        else:
            assert row["ap"] == row["inp"] == row["first_hit"] == ""


def test_all_formats_give_the_same_figures(run, folder, data):
    pytest.importorskip("pyarrow")
    from reid_core.commands.embed import write_features

    rng = np.random.default_rng(0)
    order = rng.permutation(len(data["pid"]))
    shuffled = {name: values[order] for name, values in data.items()}
    np.save("f.npy", data["features"])
    write_table("f.csv", data)
    np.savez("shuffled.npz", **shuffled)
    np.savez("double.npz", **{**data, "features": data["features"].astype(np.float64)})
    write_features(Path("f.parquet"), data)
    for name in ("query", "gallery"):
        rows = data["split"] == name
        part = {key: values[rows] for key, values in data.items() if key != "split"}
        np.savez(f"{name}.npz", **part)
    np.savez(
        "both.npz",
        **{
            f"{name}_{key}": values[data["split"] == name]
            for key, values in data.items()
            for name in ("query", "gallery")
            if key != "split"
        },
    )
    sources = [
        ("f.npz",),
        ("f.npy", "--labels", "f.csv"),
        ("shuffled.npz",),
        ("double.npz",),
        ("f.parquet",),
        ("query.npz", "gallery.npz"),
        ("both.npz",),
        ("f.npy", "--labels", "f.csv", "--normalize-into", "unit"),
    ]
    found = []
    for number, source in enumerate(sources):
        record, _ = run(*source)
        found.append(record["results"])
        (folder / "out").rename(folder / f"out-{number}")
    assert all(results == found[0] for results in found)
    assert np.allclose(np.linalg.norm(np.load("unit/f.npy"), axis=1), 1)


def test_features_of_length_one_are_taken_as_they_are(run, data):
    features = l2_normalize(torch.from_numpy(data["features"])).numpy()
    np.savez("unit.npz", **{**data, "features": features})
    record, _ = run("unit.npz")
    assert not any("scaled" in note for note in record["notes"])


def test_parts_are_compared_one_by_one(run, data):
    parts = np.stack([data["features"][:, :12], 9 * data["features"][:, 12:]], axis=2)
    np.savez("parts.npz", **{**data, "features": parts})
    record, _ = run("parts.npz", "--protocol", "custom/standard")
    halves = [l2_normalize(torch.from_numpy(parts[..., part].copy())) for part in (0, 1)]
    joined = {**data, "features": torch.cat(halves, 1).numpy()}
    ranking = expected(joined)
    assert record["results"]["custom/standard"]["rank1"] == ranking.rank_k(1)
    assert record["results"]["custom/standard"]["mAP"] == pytest.approx(ranking.mean_ap, rel=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "inner-product"])
def test_other_metrics(run, data, metric):
    record, _ = run("f.npz", "--metric", metric, "--protocol", "custom/standard")
    query, gallery = (data["split"] == name for name in ("query", "gallery"))
    q, g = (data["features"][rows].astype(np.float64) for rows in (query, gallery))
    scores = q @ g.T
    if metric == "euclidean":
        scores = -((q[:, None] - g[None]) ** 2).sum(2)
    same = data["pid"][query][:, None] == data["pid"][gallery]
    junk = same & (data["camid"][query][:, None] == data["camid"][gallery])
    best = np.where(junk, -np.inf, scores).argmax(1)
    rank1 = same[np.arange(len(q)), best][(same & ~junk).any(1)].mean()
    assert record["results"]["custom/standard"]["rank1"] == rank1


def test_intervals(run, data):
    args = ("--protocol", "custom/standard", "--confidence", "90", "--resample", "identities")
    record, printed = run("f.npz", *args)
    figures = record["results"]["custom/standard"]
    assert figures["confidence"] == 90
    assert record["bootstrap"] == {"resample": "identities", "resamples": 10_000, "seed": 1}
    for name in ("rank1", "rank5", "rank10", "mAP", "mINP"):
        low, high = figures["intervals"][name]
        assert 0 <= low <= figures[name] <= high <= 1
    assert "90 % interval" in printed


def test_variants(run, data):
    args = ("--rerank", "--lambda", "0.5", "--k1", "8", "--expand", "3", "--confidence", "95")
    record, printed = run("f.npz", "--protocol", "custom/standard", *args)
    plain = record["results"]["custom/standard"]
    assert list(record["variants"]) == ["expansion", "re-ranking"]
    for variant, words in (
        ("expansion", "their 3 nearest"),
        ("re-ranking", "k1 8, k2 6, lambda 0.5"),
    ):
        figures = record["variants"][variant]["custom/standard"]
        assert words in figures["scoring"]
        assert figures["mAP"] != plain["mAP"]
        assert figures["num_valid"] == plain["num_valid"]
        assert Path(f"out/queries-custom-standard-{variant}.csv").exists()
        assert f"Evaluated + {variant}" in printed


def test_trials(run, data):
    test = {name: values for name, values in data.items() if name != "split"}
    np.savez("sysu.npz", **{**test, "camid": 1 + np.arange(len(test["pid"])) % 6})
    args = ("--protocol", "sysu/all_search", "--camid-base", "1", "--trials", "3")
    record, _ = run("sysu.npz", *args, "--confidence", "95")
    figures = record["results"]["sysu/all_search"]
    assert figures["num_trials"] == 3
    assert "means over 3 draws" in figures["definition"]
    with open("out/queries-sysu-all_search.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows[:: len(rows) // 3]] == ["1", "2", "3"]
    assert all(int(row["first_identity"]) <= int(row["first_hit"]) for row in rows if row["ap"])
    aps = [float(row["ap"]) for row in rows if row["ap"]]
    assert np.mean(aps) == pytest.approx(figures["mAP"], abs=0.02)


def test_ranked_lists_where_there_are_images(run, folder, data):
    write_images(folder / "photos", data["path"].tolist(), decodable=True)
    run("f.npz", "--images", "photos", "--queries", "4")
    page = Path("out/report.html").read_text()
    assert page.count("data:image/jpeg") > 20
    assert "Hardest queries" in page


def test_images_that_were_generated(run, folder):
    for marked in (False, True):
        (folder / "photos/images").mkdir(parents=True, exist_ok=True)
        if marked:
            (folder / "photos/synthetic.json").write_text("{}")
            shutil.rmtree("out")
        record, printed = run("f.npz", "--images", "photos", "--protocol", "custom/standard")
        assert record["synthetic"] is marked
        assert ("SYNTHETIC DATA" in printed) is marked
        assert ("synthetic data" in Path("out/report.html").read_text()) is marked


def test_says_why_there_are_no_ranked_lists(run):
    _, printed = run("f.npz", "--protocol", "custom/standard")
    assert "--images" in printed
    assert "Hardest queries" not in Path("out/report.html").read_text()


def test_json(folder):
    done = run_installed("reid-eval", "f.npz", "--json", cwd=folder)
    record = json.loads(done.stdout)
    assert record == json.loads((folder / "runs/reid-eval-f-1/results.json").read_text())
    assert "scaled to length 1" in done.stderr


def test_protocols_of_a_data_set(run, data):
    data = {name: values for name, values in data.items() if name != "clothes_id"}
    np.savez("plain.npz", **data)
    record, printed = run("plain.npz", "--protocol", "ltcc", "market1501/standard")
    assert list(record["results"]) == ["ltcc/standard", "market1501/standard"]
    assert "ltcc/cloth_changing compares outfits" in printed


def test_several_processes(folder, data):
    np.save("f.npy", l2_normalize(torch.from_numpy(data["features"])).numpy())
    write_table("f.csv", data)
    source = ("f.npy", "--labels", "f.csv")
    done = torchrun("reid-eval", *source, "--out", "many", cwd=folder)
    assert done.stdout.count("report.html") == 1, "more than one process printed"
    run_installed("reid-eval", *source, "--out", "one", cwd=folder)
    many, one = (
        json.loads((folder / name / "results.json").read_text())["results"]
        for name in ("many", "one")
    )
    assert many == one


def test_list(capsys):
    for args, words in (
        (["--list"], ["sysu/all_search", "market1501/standard", "Zheng et al."]),
        (["--list", "ltcc"], ["ltcc/cloth_changing", "clothes_id", "Qian et al."]),
        (["--list", "prcc/cloth_changing", "last"], ["prcc/cloth_changing", "last/standard"]),
    ):
        with pytest.raises(SystemExit) as ending:
            main(args)
        printed = capsys.readouterr().out
        assert not ending.value.code
        for word in words:
            assert word in printed
    assert "market1501" not in printed


@pytest.mark.parametrize("args", [["--help"], ["--list"]])
def test_torch_is_not_imported_for(args):
    code = (
        "import sys; from reid_core.evaluation.cli import main\n"
        f"try: main({args!r})\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], ["name a file of features", "--list"]),
        (["gone.npz"], ["gone.npz does not exist"]),
        (["."], [". is a folder"]),
        (["f.npz", "f.npz", "f.npz"], ["3 files of features"]),
        (["f.npy"], ["f.npy does not exist"]),
        (["f.npz", "--labels", "gone.csv"], ["cannot read the labels gone.csv"]),
        (["f.npz", "--protocol", "custom/standrd"], ["Did you mean custom/standard?"]),
        (["f.npz", "--protocol", "lttc"], ["Did you mean ltcc?"]),
        (["--protocol", "ltcc", "f.npz"], ["f.npz included", "put the files first"]),
        (["ltcc/standard"], ["--protocol ltcc/standard"]),
        (["f.npz", "--protocl", "ltcc"], ["--protocol"]),
        (["f.npz", "--protocol", "prcc"], ["'query_same'", "gallery (90), query (30), train (10)"]),
        (["f.npz", "--protocol", "sysu_official"], ["sysu"]),
        (["f.npz", "--protocol", "llcm/ir2vis"], ["modality"]),
        (["f.npz", "--protocol", "sysu/all_search_official"], ["--permutation"]),
        (["f.npz", "--k1", "5"], ["add --rerank"]),
        (["f.npz", "--rerank", "--lambda", "2"], ["lambda_value=2"]),
        (["f.npz", "--rerank", "--metric", "inner-product"], ["--rerank goes by distances"]),
        (["f.npz", "--expand", "5", "--metric", "euclidean"], ["--expand needs --metric cosine"]),
        (["f.npz", "--protocol", "custom/standard", "--trials", "3"], ["has no trials"]),
        (["f.npz", "--trials", "0"], ["trials=0"]),
        (["f.npz", "--confidence", "100"], ["confidence=100"]),
        (["f.npz", "--resamples", "0"], ["resamples=0"]),
        (["f.npz", "--seed", "-1"], ["seed=-1"]),
        (["f.npz", "--queries", "-1"], ["queries=-1"]),
        (["f.npz", "--metric", "manhattan"], ["manhattan", "cosine"]),
        (["f.npz", "--camid-base", "1"], ["camid 0 is below 1"]),
        (["f.npz", "--device", "abacus"], ["abacus"]),
        (["f.npz", "--memory-limit", "much"], ["'much' is no size"]),
        (["f.npz", "--memory-limit", "1MB"], ["--memory-limit allows 1"]),
        (["f.npz", "--normalize-into", "unit"], ["is for .npy files"]),
        (["f.npz", "--permutation", "f.npz"], ["rand_perm_cam.mat"]),
        (["f.npz", "--out", "f.npz"], ["f.npz is a file"]),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_bad_arguments(fails, args, says):
    fails(*args, says=says)


def with_nan(data):
    features = data["features"].copy()
    features[[3, 35], 7] = np.nan, np.inf
    return {**data, "features": features}


BAD_FILES = {
    "names of arrays": (
        lambda data: {"embs": data["features"], "pid": data["pid"]},
        ["no array 'features'", "embs, pid"],
    ),
    "lengths": (lambda data: {**data, "camid": data["camid"][1:]}, ["camid has shape (129,)"]),
    "objects": (
        lambda data: {**data, "pid": data["pid"].astype(object)},
        ["the array 'pid' holds Python objects"],
    ),
    "NaN": (with_nan, ["f.npz, row 3 (images/", "NaN or infinite"]),
    "identity": (lambda data: {**data, "pid": data["pid"] + 0.5}, ["in row 0 is not an integer"]),
    "no cameras": (
        lambda data: {name: values for name, values in data.items() if name != "camid"},
        ["no camera label (camid)", "custom/any_camera"],
    ),
    "no splits": (
        lambda data: {name: values for name, values in data.items() if name != "split"},
        ["nothing says which rows are which", "reid-eval QUERY GALLERY"],
    ),
    "no gallery": (
        lambda data: {**data, "split": np.full(len(data["pid"]), "query")},
        ["needs the split 'gallery'", "query (130)"],
    ),
    "other identities": (
        lambda data: {**data, "pid": np.arange(len(data["pid"]))},
        ["no identity of query occurs in gallery"],
    ),
}


@pytest.mark.parametrize(("change", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(fails, data, change, says):
    np.savez("f.npz", **change(data))
    fails("f.npz", says=says)


def test_bad_lines_of_a_table(fails, data):
    np.save("f.npy", data["features"])
    write_table("f.csv", data)
    lines = Path("f.csv").read_text().splitlines()
    for line, text, says in (
        (1, "path,pid,camid,pid,split", "twice, as 'pid' and 'pid'"),
        (5, "a.jpg,1", "line 5: 2 fields"),
        (7, 'a.jpg,"1,2', "not a line of a comma-separated table"),
        (9, "a.jpg,1.5,2,0,query", "pid 1.5 in line 9 is not an integer"),
        (9, "a.jpg,none,2,0,query", "pid 'none' in line 9"),
    ):
        changed = [*lines[: line - 1], text, *lines[line:]]
        Path("f.csv").write_text("\n".join(changed))
        fails("f.npy", "--labels", "f.csv", says=["f.csv", says])
    Path("f.csv").write_text("\n".join(lines[:-1]))
    fails("f.npy", "--labels", "f.csv", says=["130 rows of features", "129 rows of labels"])


def test_taken_folder(fails, folder):
    (folder / "out").mkdir()
    (folder / "out/thesis.txt").write_text("precious")
    fails("f.npz", says=["out is not empty"])
    assert (folder / "out/thesis.txt").read_text() == "precious"


def test_mapped_features_that_are_not_scaled_and_do_not_fit(folder, data):
    """A limit that holds Python and its libraries, but not a copy of 1.2 GB as well."""
    features = np.lib.format.open_memmap("f.npy", "w+", np.float32, (130, 2_400_000))
    features[:, :24] = data["features"]
    del features
    write_table("f.csv", data)
    args = ("--memory-limit", "1600MB", "--protocol", "custom/standard", "--out", "out")
    done = run_installed("reid-eval", "f.npy", "--labels", "f.csv", *args, cwd=folder, check=False)
    assert done.returncode == 2
    assert "--memory-limit allows 1,600 MB" in done.stderr
    assert "gallery, 90 rows as float32" in done.stderr
    assert "--normalize-into" in done.stderr
    assert not (folder / "out").exists()
