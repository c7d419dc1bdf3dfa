"""The four commands as people use them, on synthetic data in Celeb-reID's true layout."""

import json
import logging
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from reid_core.engine import read_torch_file, read_weights
from reid_core.testing.commands import installed, run_installed
from reid_cssc import CSSC, cli, load_network
from reid_cssc.model import HEADS

COMMANDS = {
    "cssc-train": cli.train,
    "cssc-eval": cli.evaluate,
    "cssc-embed": cli.embed,
    "cssc-export": cli.export,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in this process, in an empty folder; its status."""
    monkeypatch.chdir(tmp_path)

    def call(name, *args):
        with pytest.raises(SystemExit) as ending:
            COMMANDS[name]([str(arg) for arg in args])
        return ending.value.code

    yield call
    for name in ("reid_core", "reid_cssc"):  # the commands' console handlers end with the test
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def metrics(folder, kind):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


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
    records = metrics(finished[0], "train")
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
    assert [record["epoch"] for record in metrics(tmp_path / "run", "train")] == [2]
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
    if kind == "onnx":
        import onnx
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        features = session.run(None, {"images": images.numpy()})[0]
        held = sum(np.prod(item.dims) for item in onnx.load(path).graph.initializer)
    else:
        program = torch.export.load(path)
        features = program.module()(images).detach().numpy()
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
    command = [installed("cssc-train"), *map(str, args)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 240
    while process.poll() is None and not (tmp_path / "run/last.pt").is_file():
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
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
def test_bad_input(case, run, tmp_path, capsys):
    state = {"conv1.weight": torch.zeros(1)}
    torch.save({"model_state_dict": state, "epoch": 1}, tmp_path / "aim.pth")
    args, says = BAD_INPUT[case]
    assert run(*args) == 2
    message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Traceback" not in message
    for part in says:
        assert part in message
    assert {path.name for path in tmp_path.rglob("*")} - {"runs"} == {"aim.pth"}


@pytest.mark.parametrize("name", ["cssc-train", "cssc-eval", "cssc-embed", "cssc-export"])
def test_help_imports_no_torch(name, tmp_path):
    done = run_installed(name, "--help", cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "usage:" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "reid_cssc.config" in imported
    assert not {"torch", "torchvision"} & imported
