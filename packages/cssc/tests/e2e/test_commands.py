"""The four commands as people use them, on synthetic data in Celeb-reID's true layout."""

import sys

import numpy as np
import pytest
import torch

from reid_core.engine import read_torch_file, read_weights
from reid_core.testing.commands import kill_when, modules_of_help, run_installed, start_installed
from reid_core.testing.run_files import read_json, read_records, run_exported
from reid_cssc import CSSC, load_network
from reid_cssc.model import HEADS

COMMANDS = ("cssc-train", "cssc-eval", "cssc-embed", "cssc-export")


def test_training_leaves_everything(finished):
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    assert {
        *("config.json", "metrics.jsonl", "last.pt", "model.safetensors", "model.json"),
        *("results.json", "report.html"),
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    for word in ("CSSC", "celeb/standard", "Untrained", "Trained", "SYNTHETIC"):
        assert word in printed
    record = read_json(folder / "results.json")
    assert record["synthetic"] is True
    assert record["published"]["celeb/standard"] == {"rank1": 0.645, "rank5": 0.781, "mAP": 0.173}
    assert set(record["untrained"]) == set(record["results"]) == {"celeb/standard"}


def test_metrics_record_every_head_and_stage(finished):
    records = read_records(finished[0], "train")
    assert [record["epoch"] for record in records] == [0, 1]
    for record in records:
        for head in HEADS:
            for kind in ("loss_id", "loss_tri", "acc"):
                assert np.isfinite(record[f"{kind}_{head}"])
    first, second = records
    assert first["loss"] == pytest.approx(first["loss_id"])
    assert second["loss"] == pytest.approx(second["loss_id"] + second["loss_tri"])
    assert first["lr_optimizer"] == pytest.approx(3e-5)  # the warm-up
    assert second["lr_optimizer"] == pytest.approx(3e-4)


def test_weights_hold_the_test_time_network_only(finished):
    weights = read_weights(finished[0], method="cssc")
    with torch.device("meta"):
        expected = CSSC(None, backbone="resnet10").state_dict()
    assert set(weights.state_dict) == set(expected)
    assert weights.card["network"]["backbone"] == "resnet10"


def test_evaluation_of_the_run_repeats_its_figures_and_reranks(run, finished, celeb, tmp_path):
    folder, _ = finished
    args = ("--resume", folder, "--dataset_root", celeb, "--save_dir", "e", "--reranking")
    assert run("cssc-eval", *args, "--k1", "5", "--k2", "2") == 0
    record = read_json(tmp_path / "e/results.json")
    assert record["results"] == read_json(folder / "results.json")["results"]
    assert "k1 5, k2 2" in record["variants"]["re-ranking"]["celeb/standard"]["scoring"]


def test_official_export_evaluates_alike_and_continues(run, finished, celeb, small, tmp_path):
    folder, _ = finished
    args = ("--weights", folder, "--format", "official", "--out", "o.pth")
    assert run("cssc-export", *args) == 0
    sizes = ("--height", "128", "--width", "64", "--batch-size", "64")
    args = ("--weights", "o.pth", "--data", celeb, "--out", "e", *sizes)
    assert run("cssc-eval", *args) == 0
    results = read_json(folder / "results.json")["results"]
    assert read_json(tmp_path / "e/results.json")["results"] == results
    stored = read_torch_file(tmp_path / "o.pth")
    assert stored["epoch"] == 1  # from 0, the second one
    assert stored["rank1"] == np.float32(results["celeb/standard"]["rank1"])
    assert stored["mAP"] == results["celeb/standard"]["mAP"]

    args = ("--data", celeb, *small, "--epochs", "3", "--out", "run", "--resume", "o.pth")
    assert run("cssc-train", *args) == 0
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [2]
    steps = [
        {int(moments["step"]) for moments in state["optimizer"]["state"].values()}
        for state in (
            read_torch_file(folder / "last.pt")["objects"],
            read_torch_file(tmp_path / "run/last.pt")["objects"],
        )
    ]
    assert len(steps[0]) == len(steps[1]) == 1
    assert min(steps[1]) > min(steps[0]), "Adam started anew"


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_export_is_checked_takes_any_batch_and_has_no_head(run, finished, tmp_path, kind):
    folder, _ = finished
    path = tmp_path / f"model.{kind}"
    assert run("cssc-export", "--weights", folder, "--format", kind, "--out", path) == 0
    card = read_json(tmp_path / f"model.{kind}.json")
    assert card["largest_difference_to_pytorch"] <= 1e-4
    images = torch.rand(7, 3, 128, 64)
    features = run_exported(path, {"images": images})
    if kind == "onnx":
        import onnx

        held = sum(np.prod(item.dims) for item in onnx.load(path).graph.initializer)
    else:
        program = torch.export.load(path)
        # The network stands in it twice, for the image and for its mirror image, and is one.
        names = [name for name in program.state_dict if name.startswith("network.")]
        assert names
        held = sum(program.state_dict[name].numel() for name in names)
        assert not [name for name in names if "classifier" in name or "l_conv" in name]
    network = load_network(folder)
    with torch.inference_mode():
        expected = network.inference_model()(images).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)
    # Buffers and constants are a little more than the parameters; the heads would be much more.
    own = sum(item.numel() for item in network.network.parameters())
    heads = sum(item.numel() for item in CSSC(2, backbone="resnet10").parameters()) - own
    assert own <= held < own + heads / 4


def test_embed(run, finished, celeb, tmp_path):
    args = (celeb / "query", "--weights", finished[0], "--out", "f.npz")
    assert run("cssc-embed", *args) == 0
    features = np.load(tmp_path / "f.npz")["features"]
    assert features.shape == (len(list((celeb / "query").iterdir())), 512)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_run_ends_with_the_same_weights(finished, celeb, small, tmp_path):
    args = ("--data", celeb, *small, "--out", "run", "--run.checkpoint-steps", "3")
    process = start_installed("cssc-train", *args, cwd=tmp_path)
    assert kill_when(process, (tmp_path / "run/last.pt").is_file)
    run_installed("cssc-train", "--resume", "run", cwd=tmp_path)
    expected = read_weights(finished[0]).state_dict
    found = read_weights(tmp_path / "run").state_dict
    assert all(torch.equal(found[name], expected[name]) for name in expected)


BAD_INPUT = {
    "missing folder": (
        ("cssc-train", "--data", "nowhere", "--dataset", "celeb"),
        ["nowhere", "does not exist"],
    ),
    "low images": (
        ("cssc-train", "--data", "synthetic", "--data.height", "96"),
        ["the SMR blocks", "use 128 or more"],
    ),
    "weights of another method": (
        ("cssc-eval", "--weights", "aim.pth", "--data", "synthetic"),
        ["aim.pth", "no known CSSC network"],
    ),
    "export without a run": (
        ("cssc-export", "--weights", "aim.pth", "--format", "official"),
        ["no run folder", "Adam's state"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case, refuses, tmp_path):
    state = {"conv1.weight": torch.zeros(1)}
    torch.save({"model_state_dict": state, "epoch": 1}, tmp_path / "aim.pth")
    args, says = BAD_INPUT[case]
    refuses(*args, says=says)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_no_torch(name, tmp_path):
    imported = modules_of_help(name, cwd=tmp_path)
    assert "reid_cssc.config" in imported
    assert not {"torch", "torchvision"} & imported
