"""state_dict.json: every key, shape and dtype of an official checkpoint, and what is frozen."""

from __future__ import annotations

import pytest
import torch

from reid_cssc.model import CSSC, without_heads

INFERENCE_PARAMETERS = 36_116_032  # needed at test time (resnet50), for any number of identities


@pytest.fixture(scope="module")
def listed(golden):
    return golden.shared_json("state_dict.json")


@pytest.fixture(scope="module")
def network(listed):
    with torch.device("meta"):
        return CSSC(num_pids=listed["num_classes"])


def describe(state):
    return [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in state.items()
    ]


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_every_official_entry_in_order(listed, network):
    assert describe(network.state_dict()) == listed["keys"]


def test_frozen_parameters(listed, network):
    frozen = [name for name, value in network.named_parameters() if not value.requires_grad]
    assert frozen == listed["frozen_parameters"]


def test_parameter_counts(listed, network):
    assert count(network.parameters()) == listed["num_parameters"]
    trained = [value for value in network.parameters() if value.requires_grad]
    assert count(trained) == listed["num_trainable"]


def test_the_test_time_network_has_the_official_entries_without_heads(listed, network):
    with torch.device("meta"):
        inference = CSSC(None)
    assert count(inference.parameters()) == INFERENCE_PARAMETERS
    assert describe(inference.state_dict()) == describe(network.inference_state())
    official = {key: torch.empty(shape, device="meta") for key, shape, _ in listed["keys"]}
    assert list(inference.state_dict()) == list(without_heads(official))
    assert not [key for key in inference.state_dict() if "classifier" in key or "l_conv" in key]
