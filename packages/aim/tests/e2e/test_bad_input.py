"""Bad input: one clear message that says what to do, a non-zero status, nothing half-written.

Most cases call the commands' functions inside this process, with the same parsing and the same
error handling as the installed commands; those about limits of the process start a real one.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from reid_core.engine import save_weights
from reid_core.testing.commands import installed


@pytest.fixture
def folder(run, tmp_path, ltcc):
    """Return an empty working folder with a private copy of the data set in ``data``."""
    shutil.copytree(ltcc, tmp_path / "data/LTCC_ReID")
    return tmp_path


@pytest.fixture
def fails(folder, refuses):
    """Return ``refuses``, in that folder."""
    return refuses


def one_image(folder, split="train"):
    return sorted((folder / "data/LTCC_ReID" / split).glob("*.png"))[0]


def train_args(small, *more):
    return ("--data", "data", *small, "--out", "run", *more)


# ------------------------------------------------------------------ where the data set is


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("nowhere", ["nowhere", "does not exist", "--data synthetic"]),
        (".", ["LTCC_ReID", "data"]),
        ("data/LTCC_ReID/train", ["LTCC_ReID"]),
        ("data/LTCC_ReID/query", ["LTCC_ReID"]),
    ],
    ids=["missing folder", "one level too high", "one level too low", "a split"],
)
def test_wrong_root(fails, small, root, says):
    args = ("--data", root, "--dataset", "ltcc", *small, "--out", "run")
    fails("aim-train", *args, says=says)


def test_unrecognised_root_without_dataset(fails, folder, small):
    (folder / "other").mkdir()
    fails("aim-train", "--data", "other", *small, says=["no data set was recognised", "--dataset"])


def test_missing_split_folder(fails, folder, small):
    shutil.rmtree(folder / "data/LTCC_ReID/query")
    fails("aim-train", *train_args(small), "--dataset", "ltcc", says=["query"])


def test_empty_split(fails, folder, small):
    for path in (folder / "data/LTCC_ReID/query").glob("*.png"):
        path.unlink()
    fails("aim-train", *train_args(small), says=["query", "no images"])


def test_misnamed_file(fails, folder, small):
    one_image(folder).rename(folder / "data/LTCC_ReID/train/holiday.png")
    fails("aim-train", *train_args(small), says=["holiday.png", "expected"])


def test_one_identity_only(fails, folder, small):
    train = folder / "data/LTCC_ReID/train"
    first = one_image(folder).name.split("_")[0]
    for path in train.glob("*.png"):
        if not path.name.startswith(f"{first}_"):
            path.unlink()
    fails("aim-train", *train_args(small), says=["1 identity"])


# ------------------------------------------------------------------ image files


@pytest.mark.parametrize("split", ["train", "query"])
@pytest.mark.parametrize("damage", ["truncated", "zero bytes", "text", "dangling link"])
def test_damaged_image(fails, folder, small, split, damage):
    path = one_image(folder, split)
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "zero bytes":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not an image")
    else:
        path.symlink_to(folder / "gone.png")
    fails("aim-train", *train_args(small), says=[path.name, "skip-corrupt"])


def test_damaged_images_can_be_skipped(run, folder, small, capsys):
    one_image(folder).write_bytes(b"")
    status = run("aim-train", *train_args(small, "--epochs", "1", "--data.skip-corrupt"))
    message = capsys.readouterr().err
    assert status == 0, message
    assert "damaged images left out: 1" in message


def test_truncated_jpeg_to_embed(fails, folder, weights):
    Image.new("RGB", (60, 120), "red").save("a.jpg")
    Path("a.jpg").write_bytes(Path("a.jpg").read_bytes()[:300])
    fails("aim-embed", "a.jpg", "--weights", weights, says=["a.jpg"])


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--batch-size", "3000"], ["batch_size=3000", "batch_size of at most"]),
        (["--batch-size", "10"], ["batch_size=10", "num_instances=4", "8 or 12"]),
        (["--batch-size", "1", "--num-instances", "1"], ["batch_size=1"]),
        (["--epochs", "0"], ["epochs=0"]),
        (["--optim.lr", "0"], ["optim.lr=0"]),
        (["--optim.lr", "fast"], ["--optim.lr"]),
        (["--run.seed", "-1"], ["run.seed=-1"]),
        (["--loss.k-cal", "-1"], ["loss.k_cal=-1"]),
        (["--data.height", "64"], ["data.height=64", "128"]),
        (["--augment.flip-prob", "2"], ["flip_prob=2"]),
        (["--device", "cuda:99"], ["cuda:99"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--run.precision", "fp16"], ["fp16", "bf16"]),
        (["--model.backbone", "resnet9"], ["resnet9", "resnet50"]),
        (["--model.weights", "gone.pth"], ["gone.pth"]),
        (["--protocols", "ltcc/cloth-changing"], ["ltcc/cloth_changing"]),
        (["--protocols", "prcc/cloth_changing"], ["prcc/cloth_changing"]),
        (["--epoch", "3"], ["--epochs"]),
        (["--preset", "papers"], ["papers", "paper", "demo"]),
        (["--dataset", "lttc"], ["lttc", "ltcc"]),
        (["--dataset", "prcc"], ["prcc", "LTCC"]),
        (["--gpu", "0,1"], ["torchrun"]),
        (["--config", "gone.json"], ["--config"]),
        (["--resume"], ["--resume", "value"]),
        (["--set", "TRAIN.EPOCHS=3"], ["TRAIN.EPOCHS", "TRAIN.MAX_EPOCH"]),
        (["--cfg", "res50.yaml"], ["--set"]),
        (["--eval"], ["aim-eval"]),
        (["--start-from", "gone.pth.tar"], ["gone.pth.tar"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0][:2] == "--" else "",
)
def test_bad_setting(fails, small, more, says):
    fails("aim-train", *train_args(small), *more, says=says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", ["not valid JSON"]),
        ("[]", ["one JSON object"]),
        ('{"epocs": 3}', ["epocs"]),
        ('{"epochs": "many"}', ["epochs"]),
    ],
    ids=["no JSON", "no object", "unknown key", "wrong type"],
)
def test_bad_config_file(fails, folder, content, says):
    (folder / "c.json").write_text(content)
    fails("aim-train", "--config", "c.json", "--out", "run", says=says)


def test_unknown_synthetic_layout(fails, small):
    fails("aim-train", "--data", "synthetic:duke", *small, says=["duke", "ltcc"])


def test_contradicting_synthetic_layout(fails, small):
    args = ("--data", "synthetic:prcc", "--dataset", "ltcc", *small)
    fails("aim-train", *args, says=["contradict"])


# ------------------------------------------------------------------ run folders


def test_output_folder_is_taken(fails, folder, small):
    (folder / "run").mkdir()
    (folder / "run/thesis.txt").write_text("precious")
    fails("aim-train", *train_args(small), says=["run", "not empty", "--out"])
    assert (folder / "run/thesis.txt").read_text() == "precious"


def test_output_folder_is_a_file(fails, folder, small):
    (folder / "run").write_text("precious")
    fails("aim-train", *train_args(small), says=["is a file"])


def test_resume_nothing(fails):
    fails("aim-train", "--resume", "gone", says=["gone"])


def test_resume_a_folder_that_is_no_run(fails):
    fails("aim-train", "--resume", "data", says=["data"])


def test_resume_with_a_preset(fails, folder, finished):
    shutil.copytree(finished[0], folder / "run")
    fails("aim-train", "--resume", "run", "--preset", "demo", says=["exclude each other"])


def test_resume_with_fewer_epochs_than_are_done(fails, folder, finished):
    shutil.copytree(finished[0], folder / "run")
    args = ("--resume", "run", "--epochs", "1")
    fails("aim-train", *args, says=["2 epochs", "epochs=1"], leaves=["run/events"])


def test_resume_with_other_settings(fails, folder, finished):
    shutil.copytree(finished[0], folder / "run")
    fails("aim-train", "--resume", "run", "--optim.lr", "1", "--epochs", "3", says=["optim.lr"])


def test_resume_on_other_data(fails, folder, finished):
    shutil.copytree(finished[0], folder / "run")
    train = folder / "data/LTCC_ReID/train"
    last = sorted(train.glob("*.png"))[-1].name.split("_")[0]
    for path in train.glob(f"{last}_*.png"):
        path.unlink()
    args = ("--resume", "run", "--data", "data")
    fails("aim-train", *args, says=["fingerprint", "--out"], leaves=["run/events"])


def test_official_checkpoint_of_another_number_of_people(run, fails, folder, finished, small):
    args = ("--weights", finished[0], "--format", "official", "--out", "o.pth.tar")
    assert run("aim-export", *args) == 0
    train = folder / "data/LTCC_ReID/train"
    last = sorted(train.glob("*.png"))[-1].name.split("_")[0]
    for path in train.glob(f"{last}_*.png"):
        path.unlink()
    args = train_args(small, "--epochs", "5", "--resume", "o.pth.tar")
    fails("aim-train", *args, says=["o.pth.tar", "shape"])


# ------------------------------------------------------------------ weights


@pytest.fixture
def weights(finished):
    return finished[0]


class Harm:
    def __reduce__(self):
        return (os.system, ("touch harmed",))


def bad_weights(kind, folder, finished):
    path = folder / "w.pth.tar"
    if kind == "missing":
        return path, ["w.pth.tar", "no file"]
    if kind == "empty":
        path.write_bytes(b"")
        return path, ["empty"]
    if kind == "text":
        path.write_text("hello")
        return path, ["damaged or no PyTorch checkpoint"]
    if kind == "malicious":
        path.write_bytes(pickle.dumps({"model_state_dict": Harm()}))
        return path, ["refused", "nothing of it was executed"]
    if kind == "malicious zip":
        torch.save({"model_state_dict": Harm()}, path)
        return path, ["refused", "nothing of it was executed"]
    if kind == "other layout":
        torch.save({"weights": torch.zeros(3)}, path)
        return path, ["model_state_dict"]
    if kind == "other network":
        torch.save({"model_state_dict": {"fc.weight": torch.zeros(3, 3)}}, path)
        return path, ["no known ResNet"]
    if kind == "truncated safetensors":
        copy = folder / "model.safetensors"
        copy.write_bytes((finished[0] / "model.safetensors").read_bytes()[:5000])
        return copy, ["model.safetensors", "damaged"]
    if kind == "other method":
        path = folder / "model.safetensors"
        save_weights(path, {"a": torch.zeros(1)}, {"method": "cssc", "version": "1"})
        return path, ["cssc", "aim"]
    if kind == "folder without weights":
        return folder / "data", ["model.safetensors"]
    assert kind == "unfinished run"
    (folder / "half").mkdir()
    (folder / "half/last.pt").write_bytes(b"x")
    return folder / "half", ["--resume"]


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "text",
        "malicious",
        "malicious zip",
        "other layout",
        "other network",
        "truncated safetensors",
        "other method",
        "folder without weights",
        "unfinished run",
    ],
)
def test_bad_weights(fails, folder, finished, kind):
    path, says = bad_weights(kind, folder, finished)
    fails("aim-eval", "--weights", path, "--data", "data", "--out", "e", says=says)
    assert not (folder / "harmed").exists()


def test_unknown_protocol_to_evaluate(fails, weights):
    args = ("--weights", weights, "--data", "data", "--protocol", "cloth_chaning", "--out", "e")
    fails("aim-eval", *args, says=["cloth_chaning", "ltcc/cloth_changing"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--k1", "5"], ["k1", "--rerank"]),
        (["--rerank", "--k1", "0"], ["k1=0", "1 or more"]),
        (["--rerank", "--lambda", "2"], ["lambda_value=2", "0 to 1"]),
        (["--expand", "-1"], ["expand=-1"]),
        (["--confidence", "100"], ["confidence=100", "95"]),
        (["--resamples", "0"], ["resamples=0"]),
        (["--memory-limit", "much"], ["'much'", "8GB"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_setting_of_an_evaluation(fails, weights, more, says):
    fails("aim-eval", "--weights", weights, "--data", "data", "--out", "e", *more, says=says)


def test_evaluation_without_data(fails, weights):
    fails("aim-eval", "--weights", weights, says=["--data"])


def test_evaluation_folder_is_taken(fails, folder, weights):
    args = ("--weights", weights, "--data", "data", "--out", "data")
    fails("aim-eval", *args, says=["data", "not empty"])


def test_queries_without_a_match_are_counted_not_averaged(run, folder, weights):
    gallery = folder / "data/LTCC_ReID/test"
    query = folder / "data/LTCC_ReID/query"
    pid = sorted(query.glob("*.png"))[0].name.split("_")[0]
    for path in gallery.glob(f"{pid}_*.png"):
        path.unlink()
    assert run("aim-eval", "--weights", weights, "--data", "data", "--out", "e") == 0
    figures = json.loads(Path("e/results.json").read_text())["results"]["ltcc/standard"]
    lost = len(list(query.glob(f"{pid}_*.png")))
    assert figures["num_queries"] - figures["num_valid"] >= lost > 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], ["at least one image"]),
        (["gone.png"], ["gone.png", "does not exist"]),
        (["empty"], ["empty", "no image files"]),
        (["data", "--out", "f.txt"], ["f.txt", ".npz"]),
        (["table.csv"], ["table.csv", "path"]),
    ],
    ids=["nothing", "missing", "empty folder", "unknown format", "table without paths"],
)
def test_bad_embedding(fails, folder, weights, args, says):
    (folder / "empty").mkdir()
    (folder / "table.csv").write_text("file,pid\na.png,1\n")
    fails("aim-embed", *args, "--weights", weights, says=says)


def test_unknown_export_format(fails, weights):
    fails("aim-export", "--weights", weights, "--format", "caffe", says=["caffe", "onnx"])


def test_official_export_needs_a_run(fails, folder, weights):
    shutil.copy(weights / "model.safetensors", folder)
    args = ("--weights", "model.safetensors", "--format", "official")
    fails("aim-export", *args, says=["run folder"])


# ------------------------------------------------------------------ while training


def test_nan_loss_names_term_place_and_files(fails, folder, small):
    args = train_args(small, "--optim.lr", "1e30")
    kept = ("run/nonfinite.json", "run/config.json", "run/metrics.jsonl", "run/events", "run/.lock")
    fails("aim-train", *args, says=["loss", "epoch 0", ".png"], leaves=("run", *kept))
    record = json.loads((folder / "run/nonfinite.json").read_text())
    assert record
    assert not list((folder / "run").glob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_full_disk_while_saving(folder, small):
    """A limit on the size of files makes writing the checkpoint fail as a full disk does."""
    limited = (
        "import resource, runpy, signal, sys;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"
        "sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, installed("aim-train"), *train_args(small)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr
    assert not list(folder.glob("run/*.tmp"))
    assert not (folder / "run/last.pt").exists()
