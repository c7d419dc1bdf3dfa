"""The commands as people use them, on synthetic people in PRCC's true layout."""

import shutil

import numpy as np
import pytest
import torch

from reid_core.engine import read_torch_file, read_weights
from reid_core.testing.commands import modules_of_help
from reid_core.testing.run_files import read_json, read_records, run_exported
from reid_deskpro import DeskPro, load_network
from reid_deskpro.teacher_weights import read_teacher

PROTOCOLS = {"prcc/same_clothes", "prcc/cloth_changing"}
STREAMS = {"face stream", "body stream"}
TERMS = {
    *("loss_id_face", "loss_metric_face", "loss_id_body", "loss_metric_body"),
    *("loss_distill", "loss_attention", "acc_face", "acc_body"),
}


def test_training_leaves_everything(finished):
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    assert {
        *("config.json", "metrics.jsonl", "last.pt", "model.safetensors", "model.json"),
        *("results.json", "report.html", "teacher"),
        *("best-face.safetensors", "best-body.safetensors"),
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    for words in ("DeskPro", "first the teacher", "restored face and mask", "SYNTHETIC"):
        assert words in printed
    assert " alone" in printed  # the two streams beside both together
    record = read_json(folder / "results.json")
    assert record["synthetic"] is True
    assert record["published"] == {}
    assert set(record["results"]) == set(record["untrained"]) == PROTOCOLS
    assert set(record["variants"]) == STREAMS
    assert set(record["best_on_test"]["streams"]) == {"face", "body"}
    assert set(record["best_on_test"]["results"]) == PROTOCOLS
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "alone" in report
    assert "best on the TEST set" in report


def test_both_stages_log_their_terms(finished):
    folder, _ = finished
    records = read_records(folder, "train")
    assert [record["epoch"] for record in records] == [0, 1]
    config = read_json(folder / "config.json")["loss"]
    for record in records:
        assert set(record) >= TERMS
        total = (
            (1 - config["alpha"]) * record["loss_id_face"]
            + record["loss_metric_face"]
            + config["alpha"] * record["loss_distill"]
            + record["loss_id_body"]
            + record["loss_metric_body"]
            + config["attention_weight"] * record["loss_attention"]
        )
        assert record["loss"] == pytest.approx(total, rel=1e-4)
    (teacher,) = read_records(folder / "teacher", "train")
    assert teacher["loss"] == pytest.approx(teacher["loss_id"] + teacher["loss_metric"], rel=1e-4)


def test_weights_hold_the_test_time_network_only(finished):
    weights = read_weights(finished[0], method="deskpro")
    with torch.device("meta"):
        expected = DeskPro(None, width=0.0625).state_dict()
    assert set(weights.state_dict) == set(expected)
    assert weights.card["network"]["face_height"] == 32
    assert weights.card["flip"] == "none"


def test_the_teacher_says_whom_it_knows(finished):
    teacher = read_teacher(finished[0] / "teacher" / "teacher.pth")
    assert teacher.identities == tuple(sorted(teacher.identities))
    assert teacher.num_pids == len(teacher.identities) == 8
    stored = read_torch_file(finished[0] / "teacher" / "teacher.pth")
    assert all(key.startswith("face_net.") for key in stored["state_dict"])  # official
    frozen = read_torch_file(finished[0] / "last.pt")["objects"]["model"]
    for key, value in teacher.state.items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(frozen[f"face_net.{key}"], value), key


def test_the_test_needs_neither_masks_nor_restored_faces_nor_a_teacher(
    run, finished, prcc, prepared, tmp_path
):
    folder, _ = finished
    bare = tmp_path / "bare"
    shutil.copytree(prepared, bare)
    for kind in ("mask", "hr_face"):
        assert list((bare / kind).rglob("*.png"))
        shutil.rmtree(bare / kind)
    weights = tmp_path / "weights"
    weights.mkdir()
    shutil.copy(folder / "model.safetensors", weights)
    args = ("--weights", weights / "model.safetensors", "--data", prcc, "--prepared", bare)
    assert run("deskpro-eval", *args, "--batch-size", "64", "--out", "e") == 0
    found, expected = read_json(tmp_path / "e/results.json"), read_json(folder / "results.json")
    assert found["results"] == expected["results"]
    assert found["variants"] == expected["variants"]


def test_synthetic_data_are_prepared_for_an_evaluation(run, finished, prepared, tmp_path):
    args = ("--weights", finished[0], "--data", "synthetic", "--synthetic-size", "tiny")
    assert run("deskpro-eval", *args, "--batch-size", "64", "--out", "e") == 0
    found = read_json(tmp_path / "e/results.json")
    assert found["results"] == read_json(finished[0] / "results.json")["results"]


def test_a_given_teacher_leads_to_the_same_weights(run, finished, data, small, tmp_path):
    """Stage 2 does not depend on whether the teacher was trained just before."""
    teacher = finished[0] / "teacher" / "teacher.pth"
    args = (*data, *small, "--out", "run", "--teacher", teacher)
    assert run("deskpro-train", *args) == 0
    expected, found = (read_weights(f).state_dict for f in (finished[0], tmp_path / "run"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not (tmp_path / "run" / "teacher").exists()


def test_the_teachers_command_trains_the_same_teacher(run, finished, data, tiny, tmp_path):
    args = (*data, *tiny, "--epochs", "1", "--out", "t")
    assert run("deskpro-teacher", *args) == 0
    found, expected = (
        read_teacher(folder / "teacher.pth") for folder in (tmp_path / "t", finished[0] / "teacher")
    )
    assert found.identities == expected.identities
    assert all(torch.equal(found.state[key], expected.state[key]) for key in expected.state)
    assert set(read_json(tmp_path / "t/results.json")["results"]) == PROTOCOLS


def test_a_teacher_without_restored_faces_of_test_images(run, prcc, prepared, tiny, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(prepared, bare)
    test = bare / "hr_face" / "rgb" / "test"
    assert list(test.rglob("*.png"))
    shutil.rmtree(test)
    args = ("--data", prcc, "--prepared", bare, *tiny, "--epochs", "1", "--out", "t")
    assert run("deskpro-teacher", *args) == 0
    assert read_teacher(tmp_path / "t" / "teacher.pth").num_pids == 8
    assert not (tmp_path / "t" / "results.json").exists()


@pytest.mark.parametrize("mode", ["face", "body"])
def test_one_stream_alone(run, finished, prcc, prepared, data, small, mode, tmp_path):
    teacher = ("--teacher", finished[0] / "teacher" / "teacher.pth")
    args = (*data, *small, *teacher, "--epochs", "1", "--out", "run", "forward_mode", mode)
    assert run("deskpro-train", *args) == 0
    record = read_json(tmp_path / "run/results.json")
    assert set(record["results"]) == PROTOCOLS
    assert not record.get("variants")
    args = ("--weights", "run", "--data", prcc, "--batch-size", "64", "--out", "e")
    args += ("--prepared", prepared) if mode == "face" else ()  # a body needs no face crop
    assert run("deskpro-eval", *args) == 0
    assert read_json(tmp_path / "e/results.json")["results"] == record["results"]


def test_the_best_streams_are_kept_on_demand(run, finished, data, small, tmp_path):
    teacher = ("--teacher", finished[0] / "teacher" / "teacher.pth")
    every = ("--run.eval-every", "1", "--select", "best")
    assert run("deskpro-train", *data, *small, *teacher, *every, "--out", "run") == 0
    record = read_json(tmp_path / "run/results.json")
    assert record["results"] == record["best_on_test"]["results"]
    kept = read_weights(tmp_path / "run").state_dict
    for stream, name in (("face", "lr_face_net"), ("body", "nocloth_net")):
        best = read_weights(tmp_path / "run" / f"best-{stream}.safetensors").state_dict
        assert best
        assert all(key.startswith(f"{name}.") for key in best)
        assert all(torch.equal(kept[key], value) for key, value in best.items())


@pytest.mark.slow
def test_official_export_evaluates_alike_and_continues(run, data, prcc, small, tmp_path):
    """At full width, which the official layout asks for; the body stream alone, to be quick."""
    wide = (*data, *small, "--model.width", "1", "--model.mode", "body", "--epochs", "1")
    assert run("deskpro-train", *wide, "--out", "run") == 0
    assert run("deskpro-export", "--weights", "run", "--format", "official", "--out", "o.ckpt") == 0
    sizes = ("--height", "64", "--width", "32", "--batch-size", "64")
    args = ("--weights", "o.ckpt", "--data", prcc, "--out", "e", *sizes)
    assert run("deskpro-eval", *args) == 0
    expected = read_json(tmp_path / "run/results.json")["results"]
    assert read_json(tmp_path / "e/results.json")["results"] == expected
    stored = read_torch_file(tmp_path / "o.ckpt")
    assert stored["epoch"] == 0
    assert stored["global_step"] > 0
    assert run("deskpro-train", *wide, "--epochs", "2", "--out", "n", "--resume", "o.ckpt") == 0
    assert [record["epoch"] for record in read_records(tmp_path / "n", "train")] == [1]


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_export_is_checked_and_takes_images_without_a_face(run, finished, tmp_path, kind):
    folder, _ = finished
    path = tmp_path / f"model.{kind}"
    assert run("deskpro-export", "--weights", folder, "--format", kind, "--out", path) == 0
    assert read_json(tmp_path / f"model.{kind}.json")["largest_difference_to_pytorch"] <= 1e-4
    images, faces = torch.rand(5, 3, 64, 32), torch.rand(5, 3, 32, 32)
    faces[2] = 0
    features = run_exported(path, {"images": images, "lr_face": faces})
    with torch.inference_mode():
        expected = load_network(folder).inference_model()(images, lr_face=faces).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)
    half = features.shape[1] // 2
    lengths = [np.square(part).sum(axis=1) for part in (features[:, :half], features[:, half:])]
    np.testing.assert_allclose(lengths[0], [7, 7, 0, 7, 7], atol=1e-3)
    np.testing.assert_allclose(lengths[1], 7, atol=1e-3)


def test_embed_finds_the_faces(run, finished, prcc, prepared, tmp_path):
    folder = prcc / "rgb" / "test" / "A"
    args = (folder, "--weights", finished[0], "--prepared", prepared, "--out", "f.npz")
    assert run("deskpro-embed", *args) == 0
    found = np.load(tmp_path / "f.npz")
    features = found["features"]
    assert len(features) == len(list(folder.rglob("*.jpg")))
    body = (*args[:-1], "body.npz", "--feature", "body")
    assert run("deskpro-embed", *body) == 0
    assert np.load(tmp_path / "body.npz")["features"].size * 2 == features.size


BAD_INPUT = {
    "missing folder": (
        ("deskpro-train", "--data", "nowhere", "--dataset", "prcc"),
        ["nowhere", "does not exist"],
    ),
    "unknown setting": (
        ("deskpro-train", "--data", "nowhere", "kd_loss.alpa", "0.7"),
        ["kd_loss.alpa", "did you mean kd_loss.alpha"],
    ),
    "missing weights": (
        ("deskpro-eval", "--weights", "none.safetensors", "--data", "synthetic"),
        ["there is no file none.safetensors"],
    ),
    "missing teacher": (
        ("deskpro-train", "--data", "synthetic", "--preset", "demo", "--teacher", "none.pth"),
        ["there is no file none.pth"],
    ),
    "weights of another method": (
        ("deskpro-eval", "--weights", "aim.pth", "--data", "synthetic"),
        ["aim.pth", "DeskPro"],
    ),
    "export without a run": (
        ("deskpro-export", "--weights", "aim.pth", "--format", "official"),
        ["no run folder", "classifiers"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case, refuses, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", "cache")  # no data are drawn before
    state = {"conv1.weight": torch.zeros(1)}
    torch.save({"model_state_dict": state, "epoch": 1}, tmp_path / "aim.pth")
    args, says = BAD_INPUT[case]
    refuses(*args, says=says)


def test_a_run_goes_on_with_its_own_companions(refuses, finished, data, prepared, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.copytree(prepared, tmp_path / "other")
    face = next((tmp_path / "other/lr_face").rglob("*.png"))
    face.write_bytes(face.read_bytes() + b" ")
    args = ("--resume", "run", *data[:-1], "other")
    refuses("deskpro-train", *args, says=["companions", "differ"], leaves=["run/events"])


def test_what_has_to_be_prepared_is_said(run, prcc, small, tmp_path, capsys):
    args = ("--data", prcc, "--dataset", "prcc", *small, "--out", "run")
    assert run("deskpro-train", *args) == 2
    assert "deskpro-prepare --data ROOT --dataset prcc" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_people_is_refused(run, finished, data, small, tmp_path, capsys):
    stored = read_torch_file(finished[0] / "teacher" / "teacher.pth")
    stored["identities"] = [f"{name}x" for name in stored["identities"]]
    torch.save(stored, tmp_path / "other.pth")
    args = (*data, *small, "--out", "run", "--teacher", "other.pth")
    assert run("deskpro-train", *args) == 2
    assert "other identities" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "name", [f"deskpro-{name}" for name in ("train", "eval", "embed", "export", "teacher")]
)
def test_help_imports_no_torch(name, tmp_path):
    imported = modules_of_help(name, cwd=tmp_path)
    assert "reid_deskpro.config" in imported
    assert not {"torch", "torchvision", "numpy"} & imported
