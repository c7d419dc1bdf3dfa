"""The four commands as people use them, on synthetic data in Market-1501's true layout."""

import csv
import re
import shutil

import numpy as np
import pytest
import torch

from reid_core.data.readers import load_dataset
from reid_core.engine import read_torch_file, read_weights
from reid_core.testing.commands import modules_of_help
from reid_core.testing.run_files import read_json, read_records, run_exported
from reid_iics import IICS, load_network

COMMANDS = ("iics-train", "iics-eval", "iics-embed", "iics-export")
MARKET = "market1501/standard"


def test_training_leaves_everything(finished):
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    assert {
        *("config.json", "metrics.jsonl", "last.pt", "model.safetensors", "model.json"),
        *("results.json", "report.html"),
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    for word in ("IICS", MARKET, "Untrained", "Trained", "SYNTHETIC"):
        assert word in printed
    for cycle in (1, 2):
        for whose in ("each camera", "all cameras"):
            assert f"cycle {cycle} of 2, {whose}: " in printed
    record = read_json(folder / "results.json")
    assert record["synthetic"] is True
    assert record["published"][MARKET]["mAP"] == 0.739  # the demo's variant: threshold
    assert set(record["untrained"]) == set(record["results"]) == {MARKET}
    assert record["selected"] == "last"
    best = record["best_on_test"]
    assert (best["cycle"], best["epoch"]) in ((0, 1), (1, 3))
    assert (record["cycles"], record["epochs"]) == (2, 4)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert re.search(rf"best on the TEST set.* after cycle {best['cycle'] + 1},", page)
    assert "last cycle" in page
    assert " s in 2 cycles, 4 epochs" in page


def test_metrics_record_both_stages(finished):
    records = read_records(finished[0], "train")
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    for record in records[::2]:
        cameras = [value for name, value in record.items() if name.startswith("loss_intra_camera")]
        assert cameras
        assert record["loss_intra"] == pytest.approx(sum(cameras))
        assert 0 <= record["acc_intra"] <= 1
    for record in records[1::2]:
        total = record["loss_inter_id"] + record["loss_inter_tri"]
        assert record["loss_inter"] == pytest.approx(total)
        assert 0 <= record["acc_inter_tri"] <= 1


def test_clusters_are_told_in_log_and_report(finished):
    folder, _ = finished
    records = read_records(folder, "clusters")
    assert [(record["cycle"], record["epoch"]) for record in records] == [
        *((0, 0), (0, 1), (1, 2), (1, 3)),
    ]
    for record, stage in zip(records, ("intra", "inter") * 2, strict=True):
        figures = record[stage]
        assert 0 < figures["purity"] <= 1
        assert figures["ari"] <= 1
        assert figures["num_clusters"] >= 8
        assert ("cross_camera_recall" in figures) == (stage == "inter")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "All cameras together, agreement with the true identities: purity" in page


def test_weights_hold_the_backbone_only(finished):
    weights = read_weights(finished[0], method="iics")
    with torch.device("meta"):
        expected = IICS(backbone="resnet10").state_dict()
    assert set(weights.state_dict) == set(expected)
    card = weights.card
    assert (card["network"]["backbone"], card["variant"]) == ("resnet10", "threshold")
    assert (card["input"]["interpolation"], card["flip"]) == ("bicubic", "sum")


def test_evaluation_of_the_run_repeats_its_figures(run, finished, market, tmp_path):
    folder, _ = finished
    args = ("--checkpoint", folder, "--data", market, "--evaluate", "--out", "e")
    assert run("iics-eval", *args) == 0
    found, expected = read_json(tmp_path / "e/results.json"), read_json(folder / "results.json")
    assert found["results"] == expected["results"]


def test_official_export_evaluates_alike_and_continues(run, finished, market, small, tmp_path):
    folder, _ = finished
    args = ("--weights", folder, "--format", "official", "--out", "o.pth.tar")
    assert run("iics-export", *args) == 0
    sizes = ("--height", "64", "--width", "32", "--batch-size", "64")
    args = ("--weights", "o.pth.tar", "--data", market, "--out", "e", *sizes)
    assert run("iics-eval", *args) == 0
    results = read_json(folder / "results.json")
    assert read_json(tmp_path / "e/results.json")["results"] == results["results"]
    stored = read_torch_file(tmp_path / "o.pth.tar")
    assert set(stored) == {"state_dict", "epoch", "best_top1", "cluster_epoch"}
    assert (stored["epoch"], stored["cluster_epoch"]) == (2, 2)
    assert stored["best_top1"] == results["best_on_test"]["rank1"]

    args = ("--data", market, *small, "--cycles", "3", "--out", "run", "--resume", "o.pth.tar")
    assert run("iics-train", *args) == 0
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [4, 5]
    args = ("--data", market, *small, "--out", "again", "--resume", "o.pth.tar")
    assert run("iics-train", *args) == 2


@pytest.mark.parametrize(
    ("epoch", "step", "cycles"),
    [(4, 0, 2), (3, 2, 1), (3, 0, None)],
    ids=["after a cycle", "inside stage 2", "before its first step"],
)
def test_official_export_counts_finished_cycles(epoch, step, cycles, run, finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "stopped")
    state = read_torch_file(folder / "last.pt")
    torch.save({**state, "epoch": epoch, "step": step}, folder / "last.pt")
    status = run("iics-export", "--weights", folder, "--format", "official", "--out", "o.pth.tar")
    assert status == (2 if cycles is None else 0)
    path = tmp_path / "o.pth.tar"
    assert path.exists() == (cycles is not None)
    assert cycles is None or read_torch_file(path)["cluster_epoch"] == cycles


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_export_is_checked(run, finished, tmp_path, kind):
    folder, _ = finished
    path = tmp_path / f"model.{kind}"
    assert run("iics-export", "--weights", folder, "--format", kind, "--out", path) == 0
    assert read_json(tmp_path / f"model.{kind}.json")["largest_difference_to_pytorch"] <= 1e-4
    images = torch.rand(5, 3, 64, 32)
    features = run_exported(path, {"images": images})
    with torch.inference_mode():
        expected = load_network(folder).inference_model()(images)
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)


def test_embed(run, finished, market, tmp_path):
    folder = market / "query"
    assert run("iics-embed", folder, "--weights", finished[0], "--out", "f.npz") == 0
    features = np.load(tmp_path / "f.npz")["features"]
    assert features.shape == (len(list(folder.glob("*.jpg"))), 512)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def write_table(market, path, pid, splits=("train", "query", "gallery")):
    """Write a table of the miniature; training images have what ``pid`` makes of their identity."""
    dataset = load_dataset("market1501", market)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "pid", "camid", "split"])
        for split in splits:
            for sample in dataset.splits[split]:
                known = split != "train"
                person = sample.pid if known else pid(sample.pid)
                writer.writerow([sample.path, person, sample.camid, split])


def test_identities_are_never_used(run, finished, market, small, tmp_path):
    """Training with wrong identities ends with the same weights."""
    write_table(market, tmp_path / "t.csv", lambda pid: 0)
    args = ("--data", "t.csv", "--dataset", "csv", *small, "--out", "run")
    assert run("iics-train", *args) == 0
    expected = read_weights(finished[0], method="iics").state_dict
    for name, value in read_weights(tmp_path / "run", method="iics").state_dict.items():
        assert torch.equal(value, expected[name]), name
    for record in read_records(tmp_path / "run", "clusters"):
        figures = record.get("intra") or record["inter"]
        assert "num_clusters" in figures
        assert "purity" not in figures


def test_images_of_nobody_known(run, finished, market, small, tmp_path, capsys):
    """Cameras alone: the same weights, and a report that says that nothing was evaluated."""
    write_table(market, tmp_path / "t.csv", lambda pid: 0, splits=["train"])
    args = ("--data", "t.csv", "--dataset", "csv", *small, "--out", "run")
    assert run("iics-train", *args, "--select", "best") == 2
    assert "select=best chooses weights on the test set" in " ".join(
        capsys.readouterr().err.split()
    )
    assert run("iics-train", *args) == 0
    assert "the network is not evaluated" in capsys.readouterr().out
    expected = read_weights(finished[0], method="iics").state_dict
    for name, value in read_weights(tmp_path / "run", method="iics").state_dict.items():
        assert torch.equal(value, expected[name]), name
    record = read_json(tmp_path / "run/results.json")
    assert (record["cycles"], record["results"], record["untrained"]) == (2, {}, {})
    assert read_records(tmp_path / "run", "eval") == []
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "none: the data set has no query and gallery images of known people" in page
    args = ("--weights", "run", "--data", market, "--batch-size", "64", "--out", "e")
    assert run("iics-eval", *args) == 0
    expected = read_json(finished[0] / "results.json")["results"]
    assert read_json(tmp_path / "e/results.json")["results"] == expected


def test_the_number_of_cycles_belongs_to_a_run(refuses, finished, tmp_path):
    """What is taken off distances depends on it (mu_t), so that a run goes on with the same one."""
    shutil.copytree(finished[0], tmp_path / "run")
    for cycles in (1, 3):
        says = [f"cycles was 2, is {cycles}"]
        refuses("iics-train", "--resume", "run", "--cycles", cycles, says=says)


BAD_INPUT = {
    "missing folder": (
        ("iics-train", "--data", "nowhere", "--dataset", "msmt17"),
        ["nowhere", "does not exist"],
    ),
    "weights of another method": (
        ("iics-eval", "--weights", "aim.pth", "--data", "synthetic"),
        ["aim.pth", "IICS"],
    ),
    "export without a run": (
        ("iics-export", "--weights", "aim.pth", "--format", "official"),
        ["no run folder", "classifier"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case, refuses, tmp_path):
    state = {"conv1.weight": torch.zeros(1)}
    torch.save({"model_state_dict": state, "epoch": 1}, tmp_path / "aim.pth")
    args, says = BAD_INPUT[case]
    refuses(*args, says=says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--intra.batch-size", "500"), "none of 3 cameras has the 500 training images"),
        (("--inter.share", "0.9"), "different ones"),
    ],
)
def test_data_that_cannot_be_trained_on(args, says, run, market, small, capsys):
    assert run("iics-train", "--data", market, *small, "--out", "run", *args) == 2
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_no_torch(name, tmp_path):
    imported = modules_of_help(name, cwd=tmp_path)
    assert "reid_iics.config" in imported
    assert not {"torch", "torchvision", "scipy"} & imported
