"""Training states on disk; whole runs are in test_run.py."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reid_core.engine import Checkpoint, read_checkpoint, save_checkpoint
from reid_core.engine import checkpoint as checkpoint_module
from reid_core.engine.checkpoint import check_resumable, restore_objects
from reid_core.errors import CheckpointError, OutputError

CONFIG = {"epochs": 10, "optim": {"lr": 0.1, "milestones": [2, 4]}, "run": {"out": "a", "seed": 1}}
PATH = Path("run/last.pt")


def make_checkpoint(**changes) -> Checkpoint:
    values = {
        "method": "aim",
        "version": "1.0",
        "config": CONFIG,
        "world_size": 1,
        "epoch": 3,
        "step": 7,
        "metrics_bytes": 99,
        "objects": {"net": nn.Linear(2, 3).state_dict()},
        "processes": [{"rng": {}, "meter": {}}],
    }
    return Checkpoint(**{**values, **changes})


def test_round_trip(tmp_path):
    net = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    objects = {"net": net, "optimizer": optimizer, "schedule": schedule}
    states = {name: item.state_dict() for name, item in objects.items()}
    save_checkpoint(tmp_path / "last.pt", make_checkpoint(objects=states))
    found = read_checkpoint(tmp_path / "last.pt")
    assert (found.epoch, found.step, found.config) == (3, 7, CONFIG)
    assert found.objects["schedule"] == schedule.state_dict()
    assert found.objects["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    for name, tensor in net.state_dict().items():
        assert torch.equal(found.objects["net"][name], tensor)


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"score": np.float64(0.5)}, r"checkpoint\.objects\.best\.score is a float64"),
        ({"a": [1, {"b": Path("x")}]}, r"checkpoint\.objects\.best\.a\[1\]\.b is a \w*Path"),
        ({"a": np.zeros(2)}, "is a ndarray"),
        ({"a": lambda: None}, "is a function"),
        ({"a": type("Own", (dict,), {})()}, "is a Own"),
    ],
)
def test_only_plain_values_are_saved(tmp_path, state, where):
    path = tmp_path / "last.pt"
    save_checkpoint(path, make_checkpoint())
    with pytest.raises(TypeError, match=where):
        save_checkpoint(path, make_checkpoint(objects={"best": state}))
    assert read_checkpoint(path).epoch == 3


def test_plain_values_of_all_kinds_are_read_back(tmp_path):
    state = OrderedDict(a=(1, 2.5, None, True), b={"c": [torch.float16, b"x", "y", {1, 2}]})
    save_checkpoint(tmp_path / "last.pt", make_checkpoint(objects={"best": state}))
    assert read_checkpoint(tmp_path / "last.pt").objects["best"] == state


def test_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        save_checkpoint(tmp_path / "no" / "last.pt", make_checkpoint())


@pytest.mark.parametrize("exists", [False, True])
def test_advice_on_a_full_disk_names_only_what_is_there(tmp_path, monkeypatch, exists):
    def refuse(path, *, needed, advice):
        raise OutputError(f"disk full. {advice}")

    if exists:
        save_checkpoint(tmp_path / "last.pt", make_checkpoint())
    monkeypatch.setattr(checkpoint_module, "atomic_file", refuse)
    with pytest.raises(OutputError, match="--resume" if exists else "--out"):
        save_checkpoint(tmp_path / "last.pt", make_checkpoint())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_state_dict": {}}, r"no training state of a run \(keys model_state_dict\)"),
        ([1, 2], r"no training state of a run \(list\)"),
        ({**vars(make_checkpoint()), "format": 99}, r"has layout 99, .*reads layout 1.*aim 1\.0"),
        ({"format": 1, "objects": {}}, "has layout 1"),
    ],
)
def test_file_that_is_no_checkpoint(tmp_path, content, message):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "last.pt")


def resume(checkpoint: Checkpoint, config: dict, **changes) -> None:
    values = {"method": "aim", "config": config, "world_size": 1}
    check_resumable(PATH, checkpoint, **{**values, **changes})


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        {**CONFIG, "epochs": 20},
        {**CONFIG, "run": {"out": "b", "seed": 1}},
        {**CONFIG, "optim": {"lr": 0.1, "milestones": (2, 4)}},
        {**CONFIG, "run": {"out": "a", "seed": 1, "eval_every": 1}},
    ],
)
def test_harmless_changes(config):
    resume(make_checkpoint(), config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**CONFIG, "optim": {"lr": 0.2, "milestones": [2, 4]}}, r"optim\.lr was 0\.1, is 0\.2"),
        ({**CONFIG, "optim": {"lr": 0.1}}, r"optim\.milestones was \[2, 4\], is 'not set'"),
        ({**CONFIG, "run": {"out": "a", "seed": 2}}, r"run\.seed was 1, is 2"),
        ({**CONFIG, "k_kl": None}, r"k_kl was 'not set', is None"),
        (
            {**CONFIG, **{f"option{i}": i for i in range(8)}},
            r"option5 was 'not set', is 5; and 2 more\. .*--out",
        ),
    ],
)
def test_harmful_changes(config, message):
    with pytest.raises(CheckpointError, match=rf"other settings: .*{message}"):
        resume(make_checkpoint(), config)


def test_a_run_of_an_older_version_goes_on_with_what_that_version_did():
    old = {**CONFIG, "data": {"height": 384}}
    new = {"trial": 1, "prefer_arrays": False, "interpolation": "bilinear", "flip": "sum"}
    resume(make_checkpoint(config=old), {**CONFIG, "data": {"height": 384, **new}})
    for name, value in (("trial", 2), ("interpolation", "lanczos"), ("flip", "none")):
        changed = {**CONFIG, "data": {"height": 384, **new, name: value}}
        with pytest.raises(CheckpointError, match=rf"data\.{name} was .*, is {value!r}"):
            resume(make_checkpoint(config=old), changed)


def test_method_may_allow_more():
    config = {**CONFIG, "optim": {"lr": 0.2, "milestones": [2, 4]}}
    resume(make_checkpoint(), config, may_change=["optim.lr"])


def test_other_method_or_number_of_processes():
    with pytest.raises(CheckpointError, match="'aim', not 'cssc'; continue it with aim-train"):
        resume(make_checkpoint(), CONFIG, method="cssc")
    with pytest.raises(CheckpointError, match=r"by 2 process\(es\), now there are 1.*per-node 2"):
        resume(replace(make_checkpoint(), world_size=2), CONFIG)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({}, "this run tracks net, optimizer"),
        ({"net": nn.Linear(2, 3).state_dict()}, "holds the state of net; this run tracks"),
        (
            {"net": nn.Linear(2, 5).state_dict(), "optimizer": {}},
            r"net: weight is \(5, 2\) in the checkpoint, \(3, 2\) here; net: bias is \(5,\)",
        ),
        (
            {"net": {"weight": torch.zeros(3, 2), "extra": torch.zeros(1)}, "optimizer": {}},
            "net: bias is not in the checkpoint; net: extra is not in the network",
        ),
        (
            {"net": {"weight": "text", "bias": torch.zeros(3)}, "optimizer": {}},
            "net: weight is None in the checkpoint",
        ),
        (
            {"net": nn.Linear(2, 3).state_dict(), "optimizer": {"state": {}, "param_groups": []}},
            "cannot restore optimizer: ",
        ),
    ],
)
def test_state_that_does_not_fit(states, message):
    net = nn.Linear(2, 3)
    weight = net.weight.detach().clone()
    objects = {"net": net, "optimizer": torch.optim.SGD(net.parameters(), 0.1)}
    with pytest.raises(CheckpointError, match=message):
        restore_objects(PATH, objects, states)
    if "cannot restore" not in message:
        assert torch.equal(net.weight, weight), "nothing is loaded when anything does not fit"
