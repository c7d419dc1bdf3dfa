"""How the golden inputs are called, and the golden network."""

from __future__ import annotations

import re

import pytest
import torch

from reid_agw.model import AGW
from reid_agw.weights import official_state_dict, parse_official
from reid_core.models.resnet import ResNetTrunk
from reid_core.testing.golden import fill, fill_state_dict

NUM_PIDS = 395  # golden README
METHODS = {"agw": {}, "base": {"pooling": "avg", "non_local": False}}

# Golden README: factors that keep the golden network, cubic in its non-local blocks, finite.
WILD = {r".*bn3\.weight": 0.25, r"NL_.*\.(theta|phi|g\.0)\.weight": 0.125}
TAME = {r"base_resnet\.base\.layer4\.\d+\.(bn3|downsample\.1)\.(weight|bias)": 0.1}
SCALES = {"wild": [WILD], "tame": [WILD, TAME]}


@pytest.fixture(scope="module")
def input_name(golden):
    """Return a function from the end of an input's name to the name."""
    prefix = "input" if golden.name == "public" else golden.name
    return lambda suffix: f"{prefix}.{suffix}"


@pytest.fixture(scope="module")
def golden_input(input_name):
    """Return a function from the end of an input's name and its shape to the input, float32."""
    return lambda suffix, shape: torch.from_numpy(fill(input_name(suffix), shape))


@pytest.fixture(scope="session")
def methods():
    """Network options of the official methods."""
    return METHODS


@pytest.fixture(scope="session")
def golden_network():
    """Return a function from method (agw, base) and scale (wild, tame) to the float32 network."""

    def make(method, scale):
        network = AGW(NUM_PIDS, **METHODS[method])
        shapes = {key: value.shape for key, value in _official_keys(network).items()}
        state = fill_state_dict("", shapes)
        for factors in SCALES[scale]:
            for pattern, factor in factors.items():
                for key in filter(re.compile(pattern).fullmatch, state):
                    state[key] *= torch.tensor(factor)
        parse_official({"net": state}, source="golden weights").load_into(network)
        return network

    return make


@pytest.fixture(scope="session")
def official_keys():
    """Return a function from a network to its entries by their official names."""
    return _official_keys


def _official_keys(network):
    """Return the entries by official names, without those that take no part."""
    with torch.device("meta"):
        unused = ResNetTrunk()
    state = official_state_dict(network, unused=unused)
    return {key: value for key, value in state.items() if not value.is_meta}
