"""Official checkpoints: read, written, recognised; what is refused and why."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from reid_agw.model import AGW
from reid_agw.weights import (
    Figures,
    official_state_dict,
    parse_official,
    read_official,
    save_official,
    to_official,
)
from reid_core.errors import CheckpointError, OutputError
from reid_core.models.resnet import ResNetTrunk

FIGURES = Figures(cmc=(0.475, 0.75), mean_ap=0.4765, mean_inp=0.353, epoch=24)
BASE = {"pooling": "avg", "non_local": False}


@pytest.fixture(scope="module")
def unused():
    torch.manual_seed(1)
    return ResNetTrunk("resnet10")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AGW(5, backbone="resnet10").eval()


@pytest.fixture
def content(network, unused):
    return to_official(network, FIGURES, unused=unused)


def assert_equal_states(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_written_and_read_back(network, unused, tmp_path):
    path = tmp_path / "sysu_agw_p4_n8_lr_0.1_seed_0_best.t"
    save_official(path, network, FIGURES, unused=unused)
    checkpoint = read_official(path)
    assert checkpoint.figures == (pytest.approx(FIGURES.cmc, rel=1e-6), *FIGURES[1:])
    assert_equal_states(checkpoint.network().state_dict(), network.state_dict())
    inference = checkpoint.inference_network()
    assert_equal_states(inference.state_dict(), network.inference_state())
    assert not inference.training
    assert not checkpoint.network().training


def test_layout_of_a_written_file(network, unused, tmp_path):
    path = tmp_path / "x.t"
    save_official(path, network, FIGURES, unused=unused)
    stored = torch.load(path, weights_only=False)
    assert list(stored) == ["net", "cmc", "mAP", "mINP", "epoch"]
    assert (stored["cmc"].dtype, stored["cmc"].shape) == (np.float32, (2,))
    kinds = [type(stored[name]) for name in ("mAP", "mINP", "epoch")]
    assert kinds == [np.float64, np.float64, int]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_a_fixed_epoch_lacks_one_figure(network, unused, tmp_path):
    figures = FIGURES._replace(mean_inp=None)
    save_official(tmp_path / "x.t", network, figures, unused=unused)
    assert "mINP" not in torch.load(tmp_path / "x.t", weights_only=False)
    assert read_official(tmp_path / "x.t").figures.mean_inp is None


def test_what_takes_no_part_is_filled_with_the_start_weights(network, unused):
    state = official_state_dict(network, unused=unused)
    start, own = unused.state_dict(), network.state_dict()
    for key, value in start.items():
        stage = key.startswith("layer")
        expected = {
            "base_resnet.base": own[key] if stage else value,
            "visible_module.visible": value if stage else own[f"stem_visible.{key}"],
            "thermal_module.thermal": value if stage else own[f"stem_infrared.{key}"],
        }
        for prefix, wanted in expected.items():
            assert torch.equal(state[f"{prefix}.{key}"], wanted), (prefix, key)


def test_the_official_base_has_neither_non_local_blocks_nor_gem(unused):
    network = AGW(5, backbone="resnet10", **BASE)
    content = to_official(network, FIGURES, unused=unused)
    assert not [key for key in content["net"] if key.startswith("NL_")]
    found = parse_official(content, source="x").network()
    assert not len(found.non_local2)
    assert_equal_states(found.state_dict(), network.state_dict())
    images, infrared = torch.randn(2, 3, 64, 32), torch.tensor([True, False])
    with torch.no_grad():
        expected = network.eval().embed(images, infrared)
        assert torch.equal(found.embed(images, infrared), expected)


def test_pooling_and_stride_can_be_said_by_the_caller(content):
    checkpoint = parse_official(content, source="x")
    for stride in (1, 2):
        network = checkpoint.inference_network(pooling="avg", last_stride=stride)
        assert network.layer4[0].conv1.stride == (stride, stride)
        assert type(network.pool).__name__ == "GlobalAvgPool"


def test_parallel_prefix(network, content):
    content["net"] = {f"module.{key}": value for key, value in content["net"].items()}
    found = parse_official(content, source="x").network()
    assert_equal_states(found.state_dict(), network.state_dict())


def test_inference_needs_no_classifier(network, content):
    """Nor one of the right size: it is another one for each data set."""
    for classifier in (None, torch.zeros(713, 3)):
        state = {k: v for k, v in content["net"].items() if k != "classifier.weight"}
        if classifier is not None:
            state["classifier.weight"] = classifier
        checkpoint = parse_official({"net": state}, source="released file")
        assert checkpoint.figures == ((), None, None, None)
        found = checkpoint.inference_network().state_dict()
        assert_equal_states(found, network.inference_state())
    checkpoint = parse_official({"net": network.inference_state()}, source="released file")
    with pytest.raises(CheckpointError, match=r"released file lacks classifier\.weight"):
        checkpoint.network()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_the_backbone_is_told_by_the_keys(backbone):
    network = AGW(None, backbone=backbone)
    state = official_state_dict(network, unused=ResNetTrunk(backbone))
    found = parse_official({"net": state}, source="x").inference_network()
    assert_equal_states(found.state_dict(), network.state_dict())


@pytest.mark.parametrize("value", [None, [], {}, {"state_dict": {}}, {"net": {}}, {"net": 1}])
def test_other_layouts_are_not_official(value):
    message = r"f\.t is no checkpoint of the official AGW code: it must be a dict with 'net'"
    with pytest.raises(CheckpointError, match=message):
        parse_official(value, source="f.t")


def without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


BAD_STATES = {
    "other number of people": (
        lambda state: {**state, "classifier.weight": state["classifier.weight"][:2]},
        r"net of f\.t does not fit.*classifier\.weight \(2, 512\) instead of \(5, 512\).*"
        r"number of identities",
    ),
    "missing key": (
        without("NL_2.0.theta.bias"),
        r"net of f\.t does not fit the network: 1 missing: non_local2\.0\.theta\.bias",
    ),
    "unknown part": (
        lambda state: {**state, "base_resnet.base.layer5.0.conv1.weight": torch.zeros(1)},
        r"1 unknown: base_resnet\.base\.layer5\.0\.conv1\.weight.*taken for an AGW network on",
    ),
    "another network": (
        lambda state: {"layer1.0.conv1.weight": torch.zeros(1)},
        r"net of f\.t belongs to no known AGW network; its first keys are layer1",
    ),
}


@pytest.mark.parametrize("case", list(BAD_STATES))
def test_bad_states(case, network, content):
    change, message = BAD_STATES[case]
    content["net"] = change(content["net"])

    def use():
        checkpoint = parse_official(content, source="f.t")
        checkpoint.inference_network()
        checkpoint.load_into(network)

    with pytest.raises(CheckpointError, match=message):
        use()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"pooling": "avg"}, "GeM pooling comes with non-local blocks"),
        ({"non_local": False}, "average pooling without"),
        ({"gem_p": 2.0}, "the exponent of GeM is 3 and not trained"),
        ({"learn_gem": True}, "the exponent of GeM is 3 and not trained"),
        ({"nonlocal_ratio": 2}, "the inner width of the non-local blocks is 1"),
        ({"last_stride": 2}, "the last stride is 1"),
    ],
)
def test_networks_that_the_official_code_has_not(options, rule, unused):
    network = AGW(5, backbone="resnet10", **options)
    with pytest.raises(CheckpointError, match=rf"no such network: there, .*{rule}.*onnx or pt2"):
        official_state_dict(network, unused=unused)


def test_start_weights_of_another_network(network):
    with pytest.raises(CheckpointError, match=r"those of a resnet18, the network is a resnet10"):
        official_state_dict(network, unused=ResNetTrunk("resnet18"))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_malicious_file_is_refused_and_executes_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.t"
    torch.save({**content, "mAP": Malicious()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.t is refused.*nothing of it was exec"):
        read_official(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_values_are_read_from_both_file_formats(content, tmp_path, zipped):
    path = tmp_path / "old.t"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert read_official(path).figures.mean_ap == FIGURES.mean_ap


def test_writing_into_a_missing_folder(network, unused, tmp_path):
    with pytest.raises(OutputError, match=r"cannot write"):
        save_official(tmp_path / "no" / "x.t", network, FIGURES, unused=unused)
