"""state_dict_keys.json: every key, shape and dtype of an official checkpoint, in order."""

from __future__ import annotations

import pytest
import torch

from reid_agw.model import AGW, without_classifier
from reid_agw.weights import official_state_dict, parse_official
from reid_core.models.resnet import ResNetTrunk


@pytest.fixture(scope="module")
def listed(golden):
    return golden.json("state_dict_keys.json")


@pytest.fixture(scope="module", params=["agw", "base"])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def network(listed, methods, method):
    (num_pids, _), _ = listed[method]["classifier.weight"]
    with torch.device("meta"):
        return AGW(num_pids, **methods[method])


def count(tensors):
    return sum(tensor.numel() for tensor in tensors)


def test_every_official_entry_in_order(listed, network, method):
    with torch.device("meta"):
        unused = ResNetTrunk()
    state = official_state_dict(network, unused=unused)
    found = {
        key: [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in state.items()
    }
    assert found == listed[method]
    assert list(found) == list(listed[method])
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = (value for key, value in state.items() if not key.endswith(buffers))
    expected = listed[f"{method}_param_count"]
    assert count(parameters) == expected["all_parameters"]
    assert len(state) == expected["n_keys"]


def test_every_official_entry_is_read(listed, network, method):
    shapes = {key: torch.empty(shape, device="meta") for key, (shape, _) in listed[method].items()}
    found = parse_official({"net": shapes}, source="golden list").state
    expected = network.state_dict()
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in expected.items()
    }


def test_parameter_counts(listed, network, method):
    expected = listed[f"{method}_param_count"]
    assert count(network.parameters()) == expected["used_in_forward"]
    frozen = [name for name, value in network.named_parameters() if not value.requires_grad]
    assert frozen == ["bottleneck.bias"]
    assert expected["all_parameters"] - expected["requires_grad"] == network.bottleneck.bias.numel()


def test_the_test_time_network_is_the_same_without_the_classifier(methods, network, method):
    with torch.device("meta"):
        inference = AGW(None, **methods[method])
    assert list(inference.state_dict()) == list(without_classifier(network.state_dict()))
    assert len(network.state_dict()) - len(inference.state_dict()) == 1
