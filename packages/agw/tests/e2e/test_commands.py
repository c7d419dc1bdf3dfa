"""The four commands as people use them, on synthetic data in SYSU-MM01's true layout."""

import numpy as np
import pytest
import torch

from reid_agw import AGW, load_network
from reid_core.engine import read_torch_file, read_weights
from reid_core.testing.commands import modules_of_help
from reid_core.testing.run_files import read_json, read_records, run_exported

COMMANDS = ("agw-train", "agw-eval", "agw-embed", "agw-export")
SYSU = {"sysu/all_search", "sysu/indoor_search"}


def test_training_leaves_everything(finished):
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    assert {
        *("config.json", "metrics.jsonl", "last.pt", "model.safetensors", "model.json"),
        *("results.json", "report.html"),
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    for word in ("AGW", *SYSU, "Untrained", "Trained", "pool feature", "SYNTHETIC"):
        assert word in printed
    assert "batches of 16 images: 4 people with 2 visible and 2 infrared ones each" in printed
    record = read_json(folder / "results.json")
    assert record["synthetic"] is True
    assert record["published"]["sysu/all_search"]["rank1"] == 0.475
    assert set(record["untrained"]) == set(record["results"]) == SYSU
    assert set(record["variants"]) == {"pool feature"}
    for figures in record["results"].values():
        assert figures["num_trials"] == 10
        assert figures["mAP_std"] > 0


def test_queries_without_a_match_are_counted_and_said(finished):
    folder, printed = finished
    results = read_json(folder / "results.json")["results"]
    everywhere, indoor = results["sysu/all_search"], results["sysu/indoor_search"]
    assert everywhere["num_valid"] == everywhere["num_queries"]
    assert 0 < indoor["num_valid"] < indoor["num_queries"] == everywhere["num_queries"]
    assert f"{indoor['num_valid']}/{indoor['num_queries']}" in printed


def test_metrics_record_both_losses(finished):
    records = read_records(finished[0], "train")
    assert [record["epoch"] for record in records] == [0, 1]
    for record in records:
        assert record["loss"] == pytest.approx(record["loss_id"] + record["loss_tri"])
        assert 0 <= record["acc_id"] <= 1
        assert 0 <= record["acc_tri"] <= 1
    # The backbone's rates; the first epoch is the warm-up.
    config = read_json(finished[0] / "config.json")["optim"]
    expected = config["lr"] * config["backbone_factor"]
    assert [record["lr_optimizer"] for record in records] == pytest.approx(
        [config["warmup_factor"] * expected, expected]
    )


def test_weights_hold_the_test_time_network_only(finished):
    weights = read_weights(finished[0], method="agw")
    with torch.device("meta"):
        expected = AGW(None, backbone="resnet10").state_dict()
    assert set(weights.state_dict) == set(expected)
    card = weights.card
    assert (card["network"]["backbone"], card["network"]["pooling"]) == ("resnet10", "gem")
    assert (card["input"]["interpolation"], card["flip"]) == ("lanczos", "none")


def test_evaluation_of_the_run_repeats_its_figures(run, finished, sysu, tmp_path):
    folder, _ = finished
    assert run("agw-eval", "--resume", folder, "--data", sysu, "--out", "e") == 0
    found, expected = read_json(tmp_path / "e/results.json"), read_json(folder / "results.json")
    assert found["results"] == expected["results"]
    assert found["variants"] == expected["variants"]


def test_official_mode_and_draws_of_the_data_sets_authors(run, finished, sysu, tmp_path):
    args = ("--weights", finished[0], "--data", sysu)
    mode = ("--mode", "indoor", "--dataset", "sysu")
    assert run("agw-eval", *args, *mode, "--out", "indoor") == 0
    assert set(read_json(tmp_path / "indoor/results.json")["results"]) == {"sysu/indoor_search"}

    official = ("--protocol", "sysu/all_search_official")
    assert run("agw-eval", *args, *official, "--out", "own") == 0
    own = read_json(tmp_path / "own/results.json")
    assert own["permutations"] == str(sysu / "exp/rand_perm_cam.mat")
    moved = tmp_path / "table.mat"
    moved.write_bytes((sysu / "exp/rand_perm_cam.mat").read_bytes())
    given = (*args, *official, "--permutation", moved, "--out", "given")
    assert run("agw-eval", *given) == 0
    assert read_json(tmp_path / "given/results.json")["results"] == own["results"]


def test_official_export_evaluates_alike_and_continues(run, finished, sysu, small, tmp_path):
    folder, _ = finished
    args = ("--weights", folder, "--format", "official", "--out", "o.t")
    assert run("agw-export", *args) == 0
    sizes = ("--height", "64", "--width", "32", "--batch-size", "64")
    args = ("--weights", "o.t", "--data", sysu, "--out", "e", *sizes)
    assert run("agw-eval", *args) == 0
    results = read_json(folder / "results.json")["results"]
    assert read_json(tmp_path / "e/results.json")["results"] == results
    stored = read_torch_file(tmp_path / "o.t")
    assert set(stored) == {"net", "cmc", "mAP", "mINP", "epoch"}
    assert stored["epoch"] == 1  # from 0, the second one
    assert stored["cmc"].shape == (20,)
    assert stored["cmc"][0] == np.float32(results["sysu/all_search"]["rank1"])
    assert stored["mAP"] == results["sysu/all_search"]["mAP"]

    args = ("--data", sysu, *small, "--epochs", "3", "--out", "run", "--resume", "o.t")
    assert run("agw-train", *args) == 0
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [2]


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_export_is_checked_and_takes_mixed_batches(run, finished, tmp_path, kind):
    folder, _ = finished
    path = tmp_path / f"model.{kind}"
    assert run("agw-export", "--weights", folder, "--format", kind, "--out", path) == 0
    assert read_json(tmp_path / f"model.{kind}.json")["largest_difference_to_pytorch"] <= 1e-4
    images = torch.rand(5, 3, 64, 32)
    infrared = torch.tensor([True, False, False, True, False])
    features = run_exported(path, {"images": images, "infrared": infrared})
    model = load_network(folder).inference_model()
    with torch.inference_mode():
        expected, others = model(images, infrared), model(images, ~infrared)
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)
    assert (expected - others).abs().amax(1).min() > 1e-3, "the modality makes no difference"


def test_embed_is_told_the_modality(run, finished, sysu, tmp_path, capsys):
    args = (sysu / "cam3", "--weights", finished[0], "--out", "f.npz")
    assert run("agw-embed", *args) == 2
    assert "--modality" in capsys.readouterr().err
    for modality in ("infrared", "visible"):
        args = (*args[:-1], f"{modality}.npz")
        assert run("agw-embed", *args, "--modality", modality) == 0
    infrared = np.load(tmp_path / "infrared.npz")["features"]
    assert infrared.shape == (len(list((sysu / "cam3").glob("*/*.jpg"))), 512)
    assert np.allclose(np.linalg.norm(infrared, axis=1), 1, atol=1e-5)
    visible = np.load(tmp_path / "visible.npz")["features"]
    assert np.abs(infrared - visible).max(axis=1).min() > 1e-3


BAD_INPUT = {
    "missing folder": (
        ("agw-train", "--data", "nowhere", "--dataset", "regdb"),
        ["nowhere", "does not exist"],
    ),
    "official batch size": (
        ("agw-train", "--data", "nowhere", "--dataset", "regdb", "--batch-size", "8"),
        ["counts people", "--batch-size 64"],
    ),
    "weights of another method": (
        ("agw-eval", "--weights", "aim.pth", "--data", "synthetic"),
        ["aim.pth", "AGW"],
    ),
    "export without a run": (
        ("agw-export", "--weights", "aim.pth", "--format", "official"),
        ["no run folder", "classifier"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case, refuses, tmp_path):
    state = {"conv1.weight": torch.zeros(1)}
    torch.save({"model_state_dict": state, "epoch": 1}, tmp_path / "aim.pth")
    args, says = BAD_INPUT[case]
    refuses(*args, says=says)


def test_people_of_one_modality_are_refused(run, sysu, tmp_path, capsys):
    visible, infrared = (sorted((sysu / camera).glob("*/*.jpg")) for camera in ("cam1", "cam3"))
    rows = [
        "path,pid,camid,modality,split",
        *(f"{visible[number]},{number},1,visible,train" for number in (1, 2)),
        f"{infrared[0]},2,3,infrared,train",
    ]
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    args = ("--data", "people.csv", "--dataset", "csv", "--preset", "demo", "--out", "run")
    assert run("agw-train", *args) == 2
    assert "1 of 2 people of the training split" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_no_torch(name, tmp_path):
    imported = modules_of_help(name, cwd=tmp_path)
    assert "reid_agw.config" in imported
    assert not {"torch", "torchvision"} & imported
