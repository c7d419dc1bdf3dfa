"""state_dict_*.json: every key, shape and dtype of official networks; what is trained how fast."""

from __future__ import annotations

import pytest
import torch

from reid_iics.model import IICS, Head, Heads
from reid_iics.step import build_optimizer
from reid_iics.weights import to_official

NUM_PARAMETERS = 23_508_041  # spec: of the backbone
NUM_TENSORS = 171  # spec: parameters of an inter-camera network, its mixing weights counted once
DIM, LR = 2048, 0.005


def build(listed):
    """Return the network and its heads, for what the file lists."""
    classes = listed["args"]["num_classes"]
    network = IICS()
    heads = Heads(DIM, classes) if isinstance(classes, list) else Head(DIM, classes)
    return network, heads


def by_official_name(network, heads, entries):
    """Return a network's entries (parameters, or its state) by their official names."""
    found = dict(entries(network))
    found.update({f"classifier.{key}": value for key, value in entries(heads)})
    return found


def describe(state):
    return [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in state.items()
    ]


@pytest.fixture(scope="module", params=["inter", "intra"])
def listed(golden, request):
    return golden.shared_json(f"state_dict_ft_net_{request.param}.json")


def test_every_official_entry_in_order(listed):
    with torch.device("meta"):
        network, heads = build(listed)
    state = by_official_name(network, heads, lambda module: module.state_dict().items())
    assert describe(state) == listed["state_dict"]


def test_unique_parameters_and_their_learning_rates(listed):
    with torch.device("meta"):
        network, heads = build(listed)
    parameters = by_official_name(network, heads, lambda module: module.named_parameters())
    optimizer = build_optimizer(network, heads, lr=LR, weight_decay=5e-4)
    rates = {
        id(parameter): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert list(parameters) == [entry[0] for entry in listed["unique_parameters"]]
    for name, shape, trained, factor in listed["unique_parameters"]:
        parameter = parameters[name]
        assert list(parameter.shape) == shape, name
        assert parameter.requires_grad == trained, name
        # The official code lists the frozen shifts too, without a gradient.
        expected = pytest.approx(factor * LR, rel=1e-15) if trained else None
        assert rates.get(id(parameter)) == expected, name


def test_a_written_checkpoint_has_the_official_entries(golden):
    listed = golden.shared_json("state_dict_ft_net_inter.json")
    network, head = build(listed)
    content = to_official(network, head, cycles=40, rank1=0.9)
    assert describe(content["state_dict"]) == listed["state_dict"]


def test_parameter_counts(golden):
    listed = golden.shared_json("state_dict_ft_net_inter.json")
    with torch.device("meta"):
        network, head = build(listed)
    counts = [parameter.numel() for parameter in network.parameters()]
    assert sum(counts) == NUM_PARAMETERS
    counts += [parameter.numel() for parameter in head.parameters()]
    assert len(counts) == NUM_TENSORS
    assert sum(counts) == NUM_PARAMETERS + DIM * (2 + listed["args"]["num_classes"])
