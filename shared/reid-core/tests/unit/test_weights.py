"""Reading foreign files safely, and our own weights files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import sys
import tarfile
import types
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from reid_core.engine import read_torch_file, read_weights, save_weights
from reid_core.errors import CheckpointError, OutputError

CARD = {"method": "aim", "version": "1.0", "results": {"ltcc/standard": {"rank1": 0.5}}}


def rewrite_pickle(path: Path, change) -> None:
    """Replace the pickle inside a zipped torch file by ``change(pickle)``."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


NUMPY_MODULES = {"numpy 1": b"numpy.core.multiarray", "numpy 2": b"numpy._core.multiarray"}


def as_written_by(version: str, data: bytes) -> bytes:
    """Give a pickle the module names of a version of NumPy, whichever wrote it."""
    for name in NUMPY_MODULES.values():
        data = data.replace(name, NUMPY_MODULES[version])
    assert NUMPY_MODULES[version] in data
    return data


# --- files of torch.save ----------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("version", NUMPY_MODULES)
def test_numpy_numbers_are_read(tmp_path, version, legacy):
    """As in the official checkpoints: ``rank1`` is a NumPy scalar."""
    path = tmp_path / "ltcc.pth.tar"
    content = {
        "model_state_dict": {"conv1.weight": torch.arange(6.0).view(2, 3)},
        "rank1": np.float64(0.408),
        "flags": [np.float32(1.5), np.int64(-3), np.bool_(True), np.uint8(7), np.float16(0.5)],
        "array": np.arange(6, dtype=np.int32).reshape(2, 3),
        "text": np.str_("best"),
        "epoch": 99,
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        path.write_bytes(as_written_by(version, path.read_bytes()))
    else:
        rewrite_pickle(path, partial(as_written_by, version))
    found = read_torch_file(path)
    assert found["rank1"] == 0.408
    assert found["flags"] == content["flags"]
    assert np.array_equal(found["array"], content["array"])
    assert found["array"].dtype == np.int32
    assert str(found["text"]) == "best"
    assert torch.equal(
        found["model_state_dict"]["conv1.weight"], content["model_state_dict"]["conv1.weight"]
    )


def test_allowed_names_do_not_stay_allowed(tmp_path):
    torch.save({"rank1": np.float64(0.4)}, tmp_path / "a.pth")
    read_torch_file(tmp_path / "a.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)


class Foreign(dict):
    """A settings object as yacs has them: a dict with attributes of its own."""

    def __init__(self, values: dict) -> None:
        super().__init__(values)
        self.renamed_keys: set = {"a"}


class ForeignCall:
    """An object that a file makes by calling a function of its package."""

    def __reduce__(self):
        return ForeignCall, ("rm -rf",)


@pytest.fixture
def foreign_package(monkeypatch):
    """Writes objects as those of a package; it is gone when they are read."""
    for kind in (Foreign, ForeignCall):
        monkeypatch.setattr(kind, "__module__", "foreign.config")
    package = types.ModuleType("foreign.config")
    package.Foreign, package.ForeignCall = Foreign, ForeignCall
    monkeypatch.setitem(sys.modules, "foreign", types.ModuleType("foreign"))
    monkeypatch.setitem(sys.modules, "foreign.config", package)

    def save(path, content):
        torch.save(content, path)
        for name in ("foreign.config", "foreign"):
            monkeypatch.delitem(sys.modules, name)

    return save


def test_stand_ins_of_named_packages(tmp_path, foreign_package):
    path = tmp_path / "x.ckpt"
    settings = Foreign({"epochs": 140, "loss": Foreign({"alpha": 0.7})})
    content = {"settings": settings, "made": ForeignCall(), "weight": torch.ones(2)}
    foreign_package(path, content)
    found = read_torch_file(path, stand_ins=("other", "foreign"))
    assert found["settings"] == {"epochs": 140, "loss": {"alpha": 0.7}}
    assert not isinstance(found["settings"], Foreign)
    assert found["made"] == {}
    assert found["weight"].tolist() == [1, 1]
    assert "foreign" not in sys.modules
    for names in ((), ("foreign.config",), ("for",)):
        with pytest.raises(CheckpointError, match=r"is refused: it holds foreign\.config\.Foreign"):
            read_torch_file(path, stand_ins=names)


def test_stand_ins_change_nothing_else(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": np.float32(1.5)}, path)
    assert read_torch_file(path, stand_ins=("foreign",)) == {"a": 1.5}
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    assert read_torch_file(path, stand_ins=("foreign",)) == {"a": 1}
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(CheckpointError, match="is damaged or no PyTorch checkpoint"):
        read_torch_file(path, stand_ins=("foreign",))


class Attack:
    """Runs a function when it is unpickled without care."""

    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def state_of_a_module(trap: Path):
    return torch.nn.Linear(1, 1)


ATTACKS = {
    "system": lambda trap: Attack(os.system, f"touch '{trap}'"),
    "eval": lambda trap: Attack(eval, f"open({str(trap)!r}, 'w')"),
    "exec": lambda trap: Attack(exec, f"open({str(trap)!r}, 'w')"),
    "open": lambda trap: Attack(open, str(trap), "w"),
    "makedirs": lambda trap: Attack(os.makedirs, str(trap)),
    "getattr": lambda trap: Attack(getattr, "", "format"),
    "numpy save": lambda trap: Attack(np.save, str(trap), 1),
    "numpy fromfile": lambda trap: Attack(np.fromfile, "/etc/passwd"),
    "torch load": lambda trap: Attack(torch.load, str(trap)),
    "whole module": state_of_a_module,
    "object array": lambda trap: np.array([Attack(open, str(trap), "w")], dtype=object),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("name", ATTACKS)
def test_code_is_refused_and_not_run(tmp_path, name, kind):
    trap, path = tmp_path / "trap", tmp_path / "evil.pth"
    content = {"model_state_dict": {"a": torch.zeros(2)}, "rank1": ATTACKS[name](trap)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content | {"model_state_dict": {}}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert not trap.exists()
    message = str(caught.value)
    assert str(path) in message
    assert "is refused: it " in message
    assert "nothing of it was executed" in message
    assert "will likely succeed" not in message


def test_refusal_names_the_object(tmp_path):
    torch.save(ATTACKS["system"](tmp_path / "trap"), tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"it holds (posix|nt)\.system, which could run code"):
        read_torch_file(tmp_path / "evil.pth")


def truncated(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def legacy_truncated(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:2000])


def flipped(path: Path) -> None:
    torch.save({"a": torch.zeros(10)}, path)
    rewrite_pickle(path, lambda data: b"\x80\x02" + bytes(255 - byte for byte in data[2:]))


def tar_archive(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "code.py")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no file .*check the path"),
        (Path.mkdir, "is a folder; name the weights file in it"),
        (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
        (lambda path: path.write_bytes(b"\0" * 100), r"\(100 bytes\) is damaged|is damaged"),
        (lambda path: path.write_text("epoch 1, loss 2"), "is damaged or no PyTorch checkpoint"),
        (
            lambda path: path.write_text("<!DOCTYPE html><html>Sign in</html>"),
            "is a web page, not a checkpoint",
        ),
        (truncated, r"\(2000 bytes\) is damaged"),
        (legacy_truncated, r"\(2000 bytes\) is damaged"),
        (flipped, "is damaged|is refused"),
        (tar_archive, "is damaged"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "is damaged"),
    ],
)
def test_file_that_is_no_checkpoint(tmp_path, write, message):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(path)


# --- our weights files ------------------------------------------------------------------------


def test_round_trip(tmp_path):
    shared = torch.arange(12.0)
    state = {
        "a": shared.view(3, 4).t(),  # not contiguous
        "b": shared[:4],  # shares memory with a
        "n": torch.tensor(3),
        "h": torch.ones(2, dtype=torch.bfloat16, requires_grad=True),
    }
    path = save_weights(tmp_path / "model.safetensors", state, CARD)
    weights = read_weights(path, method="aim")
    assert weights.card == CARD
    assert set(weights.state_dict) == set(state)
    for name, tensor in state.items():
        assert torch.equal(weights.state_dict[name], tensor.detach())
        assert weights.state_dict[name].dtype == tensor.dtype
    card = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert card == {**CARD, "file": "model.safetensors", "sha256": digest}
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_run_folder_is_accepted(tmp_path):
    save_weights(tmp_path / "model.safetensors", {"a": torch.ones(1)}, CARD)
    assert read_weights(tmp_path).card == CARD


def test_file_alone_keeps_its_card(tmp_path):
    path = save_weights(tmp_path / "model.safetensors", {"a": torch.ones(1)}, CARD)
    path.with_suffix(".json").unlink()
    assert read_weights(path).card == CARD


def test_card_beside_a_plain_file(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    path.with_suffix(".json").write_text(json.dumps(CARD))
    assert read_weights(path).card == CARD


def saved(folder: Path) -> Path:
    return save_weights(folder / "model.safetensors", {"a": torch.ones(100)}, CARD)


def cut(folder: Path) -> None:
    path = saved(folder)
    path.write_bytes(path.read_bytes()[:-10])


def foreign(folder: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(1)}, folder / "model.safetensors")


def swapped(folder: Path) -> None:
    path = saved(folder)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def torch_file(folder: Path) -> None:
    torch.save({"a": torch.ones(1)}, folder / "model.safetensors")


def broken_card(text):
    def write(folder: Path) -> None:
        foreign(folder)
        (folder / "model.json").write_text(text)

    return write


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "holds no model.safetensors; name a weights file"),
        (lambda folder: (folder / "last.pt").touch(), "not finished; continue it with --resume"),
        (lambda folder: (folder / "model.safetensors").touch(), "is empty"),
        (lambda folder: (folder / "model.safetensors").mkdir(), "is a folder"),
        (cut, "is damaged or no safetensors file"),
        (torch_file, "is damaged or no safetensors file"),
        (swapped, r"is not the file that its card model\.json describes"),
        (foreign, r"has no card .*neither inside nor as model\.json"),
        (broken_card("{"), "is no valid JSON"),
        (broken_card("[1]"), "must be one JSON object"),
        (broken_card('{"method": "cssc"}'), "weights of 'cssc', not of 'aim'.*cssc-eval"),
    ],
)
def test_weights_that_cannot_be_used(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path, method="aim")


def test_refused_write_keeps_the_file_before(tmp_path, monkeypatch):
    path = saved(tmp_path)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"model\.safetensors: No space left .* are needed"):
        save_weights(path, {"a": torch.zeros(3)}, CARD)
    monkeypatch.undo()
    assert torch.equal(read_weights(path).state_dict["a"], torch.ones(100))
    assert len(list(tmp_path.iterdir())) == 2


def test_safetensors_is_not_a_torch_file(tmp_path):
    with pytest.raises(CheckpointError, match="is a safetensors file"):
        read_torch_file(saved(tmp_path))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_stream_of_random_bytes_never_crashes(tmp_path):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(20), "rank1": np.float64(0.5)}, buffer)
    whole = buffer.getvalue()
    path = tmp_path / "a.pth"
    for _ in range(200):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), size=3):
            data[position] = rng.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            read_torch_file(path)
