"""What the tests of the golden numbers share."""

from __future__ import annotations

import zlib
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid_core.testing.golden import fill, fill_module
from reid_deskpro.model import DeskPro

# Sides of a picture over those of the maps in the golden arrays.
ATTENTION_STRIDE, LAST_STRIDE = 8, 16
CELL = 8  # pixels of a mask that are alike, shifted by half of it; golden README


class Batch(NamedTuple):
    """The four pictures of each sample of a golden batch."""

    body: Tensor
    lr_face: Tensor
    hr_face: Tensor
    mask: Tensor


@pytest.fixture(scope="module")
def golden_batch(golden):
    """Return a function from the start of the inputs' names, a count and a type to a batch."""
    arrays = golden.arrays("model.npz")
    height, width = (ATTENTION_STRIDE * size for size in arrays["attn"].shape[2:])
    face = LAST_STRIDE * arrays["dropped_rows_lr_face_net"].shape[1]

    def make(start, count, dtype):
        def image(name, *size):
            values = fill(golden.input_name(f"{start}{name}"), (count, 3, *size))
            return torch.from_numpy(values).to(dtype)

        return Batch(
            image("body", height, width),
            image("lr_face", face, face),
            image("hr_face", face, face),
            golden_masks(golden.input_name(f"{start}mask"), (count, height, width)).to(dtype),
        )

    return make


@pytest.fixture(scope="module")
def golden_network():
    """Return a function from N and a type to a network with golden weights.

    Weights, activations and everything between are of this type, but the sums within a convolution
    are added in double precision. The float32 tolerances of the golden README are what one machine
    differed by from float64: mostly by the order in which its convolutions add, which is each
    processor's own. In another order every array is as close, but of a thousand features the
    furthest may be beyond a tolerance that its furthest was just within.
    """

    def make(num_pids, dtype):
        network = DeskPro(num_pids)
        if num_pids is not None:
            fill_module(network, "")
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                part.forward = partial(convolve_in_double, part)
        return network.to(dtype)

    return make


def convolve_in_double(conv, feature_map):
    assert conv.weight.dtype == feature_map.dtype
    bias = None if conv.bias is None else conv.bias.double()
    summed = nn.functional.conv2d(
        feature_map.double(),
        conv.weight.double(),
        bias,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    return summed.to(feature_map.dtype)


def golden_masks(name, shape):
    count, height, width = shape
    seed = zlib.crc32(name.encode()) & 0xFFFFFFFF
    cells = np.random.RandomState(seed).uniform(0, 1, (count, height // CELL, width // CELL)) > 0.5
    pixels = cells.repeat(CELL, axis=1).repeat(CELL, axis=2)
    pixels = np.roll(pixels, (CELL // 2, CELL // 2), axis=(1, 2))
    return torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Compute as the golden numbers were made.

    With one thread PyTorch takes another algorithm for convolutions of 1 x 1 than with several, and
    the float32 tolerances are those of one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
