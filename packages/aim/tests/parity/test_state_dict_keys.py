"""state_dict_keys.json: every key, shape and dtype of an official checkpoint, both ways."""

from __future__ import annotations

import pytest
import torch

from reid_aim.model import AIM
from reid_aim.weights import PARTS, official_state_dicts, parse_official

# Documented differences: the official clothing branch carries a classifier that it never uses.
UNUSED_KEYS = {"features.fc.weight", "features.fc.bias"}


@pytest.fixture(scope="module")
def listed(golden):
    return golden.shared_json("state_dict_keys.json")


@pytest.fixture(scope="module")
def network(listed):
    states = listed["state_dicts"]
    num_pids = dict((key, shape) for key, shape, _ in states["classifier_state_dict"])
    num_clothes = states["clothes_classifier_state_dict"][0][1][0]
    with torch.device("meta"):
        return AIM(num_pids=num_pids["classifier.bias"][0], num_clothes=num_clothes)


def describe(state):
    return [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in state.items()
    ]


def test_ours_written_officially_has_the_official_entries_in_order(listed, network):
    written = official_state_dicts(network)
    assert list(written) == list(listed["state_dicts"])
    for name, entries in listed["state_dicts"].items():
        assert describe(written[name]) == entries, name


def test_entry_and_parameter_counts(listed, network):
    written = official_state_dicts(network)
    assert set(listed["counts_entries_params"]) == set(PARTS)
    for part, (num_entries, num_parameters) in listed["counts_entries_params"].items():
        state = written[f"{part}_state_dict"]
        trained = [
            value
            for key, value in state.items()
            if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ]
        assert len(state) == num_entries, part
        assert sum(value.numel() for value in trained) == num_parameters, part


def test_official_entries_are_ours_but_for_the_unused_classifier(listed, network):
    content = {
        name: {
            key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
            for key, shape, dtype in entries
        }
        for name, entries in listed["state_dicts"].items()
    }
    checkpoint = parse_official(content, source="golden list")
    assert checkpoint.method == "AIM"
    assert tuple(checkpoint.parts) == PARTS
    for part, state in checkpoint.parts.items():
        own = network.get_submodule(part).state_dict()
        official = [key for key, _, _ in listed["state_dicts"][f"{part}_state_dict"]]
        assert describe(state) == describe(own), part
        assert set(official) - set(own) == (UNUSED_KEYS if part == "model2" else set()), part
    checkpoint.load_into(network)


def test_our_modules_have_exactly_the_official_names(network):
    assert tuple(name for name, _ in network.named_children()) == PARTS
