"""Official checkpoints: read, written, recognised; what is refused and why."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from reid_core.errors import CheckpointError, OutputError
from reid_iics.model import IICS, Head, Heads
from reid_iics.weights import parse_official, read_official, save_official, to_official

FIGURES = {"cycles": 40, "rank1": 0.895}
OWNER = "model.layer3.0.adaptive_weight"
ALIAS = "model.layer3.0.downsample.1.adaptive_weight"


@pytest.fixture(scope="module")
def trained():
    """A network and a head whose values all differ from their start."""
    torch.manual_seed(0)
    network, head = IICS(backbone="resnet10"), Head(512, 6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    head(network(torch.randn(4, 3, 64, 32)))
    return network.eval(), head.eval()


@pytest.fixture
def content(trained):
    return to_official(*trained, **FIGURES)


def assert_equal_states(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_written_and_read_back(trained, tmp_path):
    network, head = trained
    path = tmp_path / "latest.pth.tar"
    save_official(path, network, head, **FIGURES)
    checkpoint = read_official(path)
    assert (checkpoint.cycles, checkpoint.rank1) == (40, 0.895)
    inference = checkpoint.inference_network()
    assert_equal_states(inference.state_dict(), network.state_dict())
    assert not inference.training
    assert_equal_states(checkpoint.inter_head().state_dict(), head.state_dict())
    assert not checkpoint.inter_head().training
    fresh = IICS(backbone="resnet10")
    checkpoint.load_into(fresh)
    assert_equal_states(fresh.state_dict(), network.state_dict())


def test_layout_of_a_written_file(trained, tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    save_official(path, *trained, **FIGURES)
    stored = torch.load(path, weights_only=True)
    assert list(stored) == ["state_dict", "epoch", "best_top1", "cluster_epoch"]
    assert [stored[name] for name in ("epoch", "best_top1", "cluster_epoch")] == [40, 0.895, 40]
    heads = [key for key in stored["state_dict"] if not key.startswith("model.")]
    assert heads == [
        *(f"classifier.0.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        *("classifier.0.num_batches_tracked", "classifier.1.weight"),
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_a_mixing_weight_is_written_under_all_its_names(content):
    state = content["state_dict"]
    names = {key for key in state if key.startswith("model.layer3.0.") and "adaptive" in key}
    layers = ("bn1.", "bn2.", "downsample.1.")
    assert names == {OWNER, *(f"model.layer3.0.{layer}adaptive_weight" for layer in layers)}
    assert {state[name].item() for name in names} == {state[OWNER].item()}


def test_only_the_blocks_own_name_is_needed(trained, content):
    state = content["state_dict"]
    content["state_dict"] = {
        key: value
        for key, value in state.items()
        if not key.endswith("adaptive_weight") or key.count(".") == 3
    }
    assert len(content["state_dict"]) < len(state)
    found = parse_official(content, source="x").inference_network()
    assert_equal_states(found.state_dict(), trained[0].state_dict())


def test_other_names_with_another_value_are_refused(content):
    content["state_dict"][ALIAS] = content["state_dict"][ALIAS] + 0.25
    message = (
        rf"state_dict of f\.pth gives one residual block two mixing weights, {OWNER} \[.*\] and "
        rf"{ALIAS} \[.*share one"
    )
    with pytest.raises(CheckpointError, match=message):
        parse_official(content, source="f.pth")


def test_parallel_prefix(trained, content):
    state = content["state_dict"]
    content["state_dict"] = {f"module.{key}": value for key, value in state.items()}
    found = parse_official(content, source="x").inference_network()
    assert_equal_states(found.state_dict(), trained[0].state_dict())


def test_figures_of_numpy(content, tmp_path):
    path = tmp_path / "model_best.pth.tar"
    torch.save({**content, "best_top1": np.float64(0.5), "cluster_epoch": np.int64(5)}, path)
    checkpoint = read_official(path)
    assert (checkpoint.cycles, checkpoint.rank1) == (5, 0.5)


def test_figures_may_be_missing(content):
    checkpoint = parse_official({"state_dict": content["state_dict"]}, source="x")
    assert (checkpoint.cycles, checkpoint.rank1) == (None, None)
    checkpoint = parse_official({"state_dict": content["state_dict"], "epoch": 3}, source="x")
    assert checkpoint.cycles == 3


def test_a_backbone_alone(trained):
    network, _ = trained
    checkpoint = parse_official({"state_dict": network.state_dict()}, source="released file")
    assert_equal_states(checkpoint.inference_network().state_dict(), network.state_dict())
    with pytest.raises(CheckpointError, match="released file holds no head of an inter-camera"):
        checkpoint.inter_head()


def test_heads_of_the_intra_camera_stage_are_no_inter_head(trained):
    network, _ = trained
    heads = Heads(512, [2, 3]).state_dict(prefix="classifier.")
    checkpoint = parse_official({"state_dict": {**network.state_dict(), **heads}}, source="x")
    assert_equal_states(checkpoint.inference_network().state_dict(), network.state_dict())
    with pytest.raises(CheckpointError, match="no head of an inter-camera stage"):
        checkpoint.inter_head()


@pytest.mark.parametrize("backbone", ["resnet10", "resnet18", "resnet34", "resnet50"])
def test_the_backbone_is_told_by_the_keys(backbone):
    network = IICS(backbone=backbone)
    found = parse_official({"state_dict": network.state_dict()}, source="x").inference_network()
    assert_equal_states(found.state_dict(), network.state_dict())


def test_last_stride_is_taken_from_the_caller(content):
    checkpoint = parse_official(content, source="x")
    for stride in (1, 2):
        network = checkpoint.inference_network(last_stride=stride)
        assert network.model.layer4[0].conv1.stride == (stride, stride)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"model_state_dict": {}}, {"state_dict": {}}, {"state_dict": 1}]
)
def test_other_layouts_are_not_official(value):
    with pytest.raises(CheckpointError, match=r"f\.pth is no checkpoint of the official IICS code"):
        parse_official(value, source="f.pth")


def without(*keys):
    return lambda state: {name: value for name, value in state.items() if name not in keys}


def rename(old, new):
    return lambda state: {name.replace(old, new): value for name, value in state.items()}


BAD_STATES = {
    "a plain resnet": (
        lambda state: {key: v for key, v in state.items() if "adaptive" not in key},
        r"f\.pth belongs to no known IICS network \(there is no model\.layer4\.0\.adaptive_weight",
    ),
    "another network": (
        lambda state: {"layer1.0.conv1.weight": torch.zeros(1)},
        r"belongs to no known IICS network.*first keys are layer1\.0\.conv1\.weight",
    ),
    "another number of blocks": (
        rename("layer4.0.", "layer4.7."),
        r"does not fit the network",
    ),
    "no owner": (without(OWNER), rf"does not fit the network: 1 missing: {OWNER}"),
    "no convolution": (
        without("model.layer2.0.conv1.weight"),
        r"does not fit the network: 1 missing: model\.layer2\.0\.conv1\.weight.*on resnet10",
    ),
    "a broken head": (without("classifier.0.weight"), r"does not fit the network: 1 missing"),
}


@pytest.mark.parametrize("case", list(BAD_STATES))
def test_bad_states(case, content):
    change, message = BAD_STATES[case]
    content["state_dict"] = change(content["state_dict"])

    def use():
        checkpoint = parse_official(content, source="f.pth")
        checkpoint.inference_network()
        checkpoint.inter_head()

    with pytest.raises(CheckpointError, match=message):
        use()


def test_a_network_of_another_size(content):
    with pytest.raises(CheckpointError, match="The backbone must be the one it was trained with"):
        parse_official(content, source="f.pth").load_into(IICS(backbone="resnet18"))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_malicious_file_is_refused_and_executes_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth.tar"
    torch.save({**content, "best_top1": Malicious()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pth\.tar is refused.*nothing of it was exec"):
        read_official(path)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder(trained, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        save_official(tmp_path / "no" / "x.pth.tar", *trained, **FIGURES)
