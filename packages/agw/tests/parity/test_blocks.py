"""blocks.npz: a non-local block in both modes, GeM, and the length that features are brought to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reid_agw.model import AGW, NonLocal
from reid_agw.weights import parse_official
from reid_core.testing.golden import fill_weight

# Golden README; absolute, of float64. In float32 the sums over all channels alone make a difference
# of up to 5e-6 to the non-local blocks, also when all pairs of positions are computed.
TOLERANCE = 1e-6
NUM_CHANNELS, GEM_SIZE = (512, 1024), (6, 3)  # golden README
EVERY = 16  # golden README: the arrays hold every so many channels
DTYPES = [torch.float64, torch.float32]


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("blocks.npz")


def check(found, expected, what):
    assert found.shape == expected.shape, what
    error = np.abs(found.detach().double().numpy() - expected).max()
    assert error <= TOLERANCE, f"{what}: {error:.3e}"


def official_shapes(block):
    """Official names of a block's entries, with their shapes."""
    names = {"g": "g.0", "project": "W.0", "norm": "W.1", "theta": "theta", "phi": "phi"}
    for key, value in block.state_dict().items():
        part, _, rest = key.partition(".")
        yield f"{names[part]}.{rest}", value.shape


def golden_block(num_channels, input_name):
    """The stand-alone block, its weights brought to our names by the converter."""
    block = NonLocal(num_channels)
    name = input_name(f"nl{num_channels}")
    state = {
        f"NL_2.0.{key}": torch.from_numpy(fill_weight(f"{name}.{key}", shape))
        for key, shape in official_shapes(block)
    }
    own = parse_official({"net": state}, source="golden weights").state
    block.load_state_dict({key.removeprefix("non_local2.0."): value for key, value in own.items()})
    return block


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("num_channels", NUM_CHANNELS)
def test_non_local(golden_input, input_name, arrays, num_channels, mode):
    expected = arrays[f"nl{num_channels}_{mode}_minus_x"]
    block = golden_block(num_channels, input_name).double().train(mode == "train")
    count, _, height, width = expected.shape
    x = golden_input(f"nl{num_channels}.x", (count, num_channels, height, width)).double()
    check((block(x) - x)[:, ::EVERY], expected, mode)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gem(golden_input, arrays, dtype):
    expected = arrays["gem"]
    x = golden_input("gem.x", (*expected.shape, *GEM_SIZE)).relu()
    x[0, 0] = 0
    with torch.device("meta"):
        network = AGW(None)  # its pooling has no parameters
    check(network.pool(x.to(dtype)), expected, "gem")


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_length(golden_input, arrays, dtype):
    expected = arrays["l2norm"]
    x = golden_input("l2.x", expected.shape).to(dtype)
    check(F.normalize(x), expected, "l2norm")


def test_no_array_of_the_file_is_left_out(arrays):
    blocks = {f"nl{count}_{mode}_minus_x" for count in NUM_CHANNELS for mode in ("eval", "train")}
    assert set(arrays) == blocks | {"gem", "l2norm"}
