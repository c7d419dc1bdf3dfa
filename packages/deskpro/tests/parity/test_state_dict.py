"""state_dict.json: every key and shape of an official checkpoint, and what is frozen."""

from __future__ import annotations

import hashlib

import pytest
import torch

from reid_deskpro.model import DeskPro
from reid_deskpro.official_names import NETWORKS, own_names
from reid_deskpro.weights import official_state_dict, parse_official


@pytest.fixture(scope="module")
def listed(golden):
    return golden.shared_json("state_dict.json")


@pytest.fixture(scope="module")
def network(listed):
    with torch.device("meta"):
        return DeskPro(listed["K_for_param_counts"])


@pytest.fixture(scope="module")
def expected(listed):
    """Keys in order and shapes of each LMBN, K filled in."""
    num_pids = listed["K_for_param_counts"]
    return {
        key: tuple(num_pids if size == "K" else size for size in shape)
        for key, shape in listed["lmbn_canonical_keys"].items()
    }


def shapes(module):
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_networks_in_order(listed, network):
    assert [name for name, _ in network.named_children()] == list(NETWORKS)
    assert list(NETWORKS) == listed["top_level_modules_in_state_dict_order"]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_key_and_shape(listed, network, expected, name):
    assert len(expected) == listed["num_keys_per_lmbn_canonical"]
    extra = listed["nocloth_net_extra_keys"] if name == "nocloth_net" else {}
    found = shapes(getattr(network, name))
    assert found == {**expected, **{key: tuple(shape) for key, shape in extra.items()}}
    assert [key for key in found if key not in extra] == list(expected)


def test_official_keys_in_order(listed, network):
    official = official_state_dict(network)
    prefix = listed["checkpoint_prefix"]
    keys = [key.removeprefix(prefix) for key in official]
    assert all(key.startswith(prefix) for key in official)
    assert len(keys) == listed["num_keys_full_state_dict"]
    first = listed["full_key_order_first_5"]
    assert keys[: len(first)] == first
    digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()
    assert digest == listed["sha256_of_newline_joined_full_keys_in_order"]
    for name in NETWORKS:
        num_extra = len(listed["nocloth_net_extra_keys"]) if name == "nocloth_net" else 0
        found = sum(key.startswith(f"{name}.") for key in keys)
        assert found == listed["num_keys_per_lmbn_with_aliases"] + num_extra


def test_second_names(listed, network):
    official = official_state_dict(network)
    for alias, name in listed["alias_rule"].items():
        seconds = [key for key in official if f".{alias}" in key]
        assert seconds
        for key in seconds:
            assert official[key] is official[key.replace(alias, name)], key
    assert list(own_names(official)) != list(network.state_dict()), "the orders differ"
    assert own_names(official).keys() == network.state_dict().keys()


def test_an_official_checkpoint_fits(listed, expected):
    """Built from the list alone, with all of its names."""
    state = {}
    for name in listed["top_level_modules_in_state_dict_order"]:
        of_network = dict(expected)
        if name == "nocloth_net":
            of_network |= listed["nocloth_net_extra_keys"]
        for key, shape in of_network.items():
            value = torch.zeros(tuple(shape))
            state[f"model.{name}.{key}"] = value
            for alias, branch in listed["alias_rule"].items():
                if key.startswith(branch):
                    state[f"model.{name}.{alias}{key.removeprefix(branch)}"] = value
    assert len(state) == listed["num_keys_full_state_dict"]
    checkpoint = parse_official({"state_dict": state, "epoch": 3}, source="x")
    assert checkpoint.network().state_dict().keys() == checkpoint.state.keys()


def test_parameter_counts(listed, network):
    for name in NETWORKS:
        assert count(getattr(network, name).parameters()) == listed["params"][name]
    for name, number in listed["params_submodules"].items():
        if number:
            assert count(network.get_submodule(name).parameters()) == number, name
    with torch.device("meta"):
        inference = DeskPro(None)
    classifiers = 7 * 512 * listed["K_for_param_counts"]
    used = sum(listed["params"][name] - classifiers for name in ("lr_face_net", "nocloth_net"))
    assert count(inference.parameters()) == used


def test_frozen_parameters(listed, network):
    """The shifts of all necks, the second streams, and all of the teacher."""
    aliases = listed["alias_rule"].items()
    shifts = set()
    for key in listed["not_requires_grad"]:
        for alias, name in aliases:
            key = key.replace(f".{alias}", f".{name}")
        shifts.add(key)
    parameters = dict(network.named_parameters())
    unused = {key for key in parameters if ".conv2b." in key}
    teacher = {key for key in parameters if key.startswith("face_net.")}
    frozen = {key for key, value in parameters.items() if not value.requires_grad}
    assert shifts
    assert frozen == shifts | unused | teacher
    for name in NETWORKS:
        second = [
            value
            for key, value in parameters.items()
            if key in unused and key.startswith(f"{name}.")
        ]
        assert count(second) == listed["conv2b_params_unused"][name]
