"""Official checkpoints: read, written, recognised; what is refused and why."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from reid_core.config import OptimConfig
from reid_core.engine.optimizers import build_optimizer
from reid_core.errors import CheckpointError, OutputError
from reid_cssc.config import LossConfig
from reid_cssc.model import CSSC
from reid_cssc.step import TrainingStep
from reid_cssc.weights import parse_official, read_official, save_official, to_official

FIGURES = {"rank1": 0.781, "mean_ap": 0.402, "epoch": 44}


@pytest.fixture(scope="module")
def trained():
    """A network and its optimiser after one step."""
    torch.manual_seed(0)
    network = CSSC(2, backbone="resnet10").train()
    optimizer = build_optimizer(network.parameters(), OptimConfig())
    step = TrainingStep(network, LossConfig(), optimizer)
    step(torch.randn(4, 3, 128, 64), torch.tensor([0, 0, 1, 1]), 35)
    return network.eval(), optimizer


@pytest.fixture
def content(trained):
    network, optimizer = trained
    return to_official(network, optimizer.state_dict(), **FIGURES)


def assert_equal_states(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_written_and_read_back(trained, tmp_path):
    network, optimizer = trained
    path = tmp_path / "ltcc.pth"
    save_official(path, network, optimizer.state_dict(), **FIGURES)
    checkpoint = read_official(path)
    found = (checkpoint.rank1, checkpoint.mean_ap, checkpoint.epoch)
    assert found == (pytest.approx(0.781, rel=1e-6), 0.402, 44)
    assert_equal_states(checkpoint.network().state_dict(), network.state_dict())
    inference = checkpoint.inference_network()
    assert_equal_states(inference.state_dict(), network.inference_state())
    assert not inference.training
    assert not checkpoint.network().training


def test_layout_of_a_written_file(trained, tmp_path):
    network, optimizer = trained
    path = tmp_path / "ltcc.pth"
    save_official(path, network, optimizer.state_dict(), **FIGURES)
    stored = torch.load(path, weights_only=False)
    assert list(stored) == ["model_state_dict", "optimizer_state_dict", "rank1", "mAP", "epoch"]
    assert [type(stored[name]) for name in ("rank1", "mAP", "epoch")] == [
        *(np.float32, np.float64, int),
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("frozen_are_counted", [False, True])
def test_training_continues_with_adams_state(trained, content, frozen_are_counted):
    network, optimizer = trained
    if frozen_are_counted:  # as of an optimiser that was given all parameters
        numbers = [i for i, item in enumerate(network.parameters()) if item.requires_grad]
        stored = content["optimizer_state_dict"]
        stored["state"] = dict(zip(numbers, stored["state"].values(), strict=True))
    fresh = CSSC(2, backbone="resnet10")
    other = build_optimizer(fresh.parameters(), OptimConfig(lr=0.5, weight_decay=0.25))
    checkpoint = parse_official(content, source="x")
    checkpoint.load_into(fresh)
    checkpoint.load_optimizer(other)
    expected = optimizer.state_dict()["state"]
    found = other.state_dict()["state"]
    assert found.keys() == expected.keys()
    for number, moments in expected.items():
        assert_equal_states(found[number], moments)
    assert (other.param_groups[0]["lr"], other.param_groups[0]["weight_decay"]) == (0.5, 0.25)


def test_a_file_without_adams_state_leaves_the_optimiser_alone(trained, content):
    optimizer = trained[1]
    before = optimizer.state_dict()["state"]
    for value in ({}, {"state": {}, "param_groups": []}, None):
        content["optimizer_state_dict"] = value
        parse_official(content, source="x").load_optimizer(optimizer)
        assert optimizer.state_dict()["state"].keys() == before.keys()


def test_adams_state_of_another_network(content):
    other = build_optimizer(CSSC(3, backbone="resnet10").parameters(), OptimConfig())
    with pytest.raises(CheckpointError, match=r"optimizer_state_dict of f\.pth holds the state of"):
        parse_official(content, source="f.pth").load_optimizer(other)


def test_adams_state_that_is_none(trained, content):
    content["optimizer_state_dict"]["state"][0] = 7
    with pytest.raises(CheckpointError, match=r"optimizer_state_dict of f\.pth"):
        parse_official(content, source="f.pth").load_optimizer(trained[1])


def test_parallel_prefix(trained, content):
    state = content["model_state_dict"]
    content["model_state_dict"] = {f"module.{key}": value for key, value in state.items()}
    checkpoint = parse_official(content, source="x")
    assert_equal_states(checkpoint.network().state_dict(), trained[0].state_dict())


def test_inference_needs_no_training_heads(trained):
    network, _ = trained
    content = {"model_state_dict": network.inference_state()}
    checkpoint = parse_official(content, source="released file")
    assert (checkpoint.rank1, checkpoint.mean_ap, checkpoint.epoch) == (None, None, None)
    assert_equal_states(checkpoint.inference_network().state_dict(), network.inference_state())
    with pytest.raises(CheckpointError, match=r"released file lacks classifier\.weight"):
        checkpoint.network()


@pytest.mark.parametrize("backbone", ["resnet10", "resnet18", "resnet34"])
def test_the_backbone_is_told_by_the_keys(backbone):
    network = CSSC(None, backbone=backbone)
    found = parse_official({"model_state_dict": network.state_dict()}, source="x")
    assert_equal_states(found.inference_network().state_dict(), network.state_dict())


def test_last_stride_is_taken_from_the_caller(content):
    checkpoint = parse_official(content, source="x")
    for stride in (1, 2):
        network = checkpoint.inference_network(last_stride=stride)
        assert network.backbone_layer41_branch2.conv1.stride == (stride, stride)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"state_dict": {}}, {"model_state_dict": {}}, {"model_state_dict": 1}]
)
def test_other_layouts_are_not_official(value):
    with pytest.raises(CheckpointError, match=r"f\.pth is no checkpoint of the official CSSC code"):
        parse_official(value, source="f.pth")


def without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


BAD_STATES = {
    "other number of people": (
        lambda state: {**state, "classifier.weight": state["classifier.weight"][:1]},
        r"model_state_dict of f\.pth does not fit.*classifier\.weight \(1, 512\) instead of "
        r"\(2, 512\).*number of identities",
    ),
    "missing key": (
        without("smr_c_branch1.refinement.0.bias"),
        r"does not fit the network: 1 missing: smr_c_branch1\.refinement\.0\.bias",
    ),
    "another network": (
        lambda state: {"layer1.0.conv1.weight": torch.zeros(1)},
        r"model_state_dict of f\.pth belongs to no known CSSC network; its first keys are layer1",
    ),
}


@pytest.mark.parametrize("case", list(BAD_STATES))
def test_bad_states(case, trained, content):
    change, message = BAD_STATES[case]
    content["model_state_dict"] = change(content["model_state_dict"])

    def use():
        checkpoint = parse_official(content, source="f.pth")
        checkpoint.inference_network()
        checkpoint.load_into(trained[0])

    with pytest.raises(CheckpointError, match=message):
        use()


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_malicious_file_is_refused_and_executes_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({**content, "rank1": Malicious()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pth is refused.*nothing of it was exec"):
        read_official(path)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder(trained, tmp_path):
    network, optimizer = trained
    with pytest.raises(OutputError, match=r"cannot write"):
        save_official(tmp_path / "no" / "x.pth", network, optimizer.state_dict(), **FIGURES)
