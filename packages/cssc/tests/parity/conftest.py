"""Inputs and figures that the tests of the golden network share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_core.testing.golden import fill_images

HEIGHT, WIDTH = 384, 192  # golden README


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Compute as the golden numbers were made.

    With one thread PyTorch takes another algorithm for convolutions of 1 x 1 than with several; the
    raw float32 features, whose gates are saturated, then differ by more than their tolerance.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def golden_images(golden):
    """Return a function from the end of an input's name and a count to images."""

    def fill(suffix, count):
        name = golden.input_name(suffix)
        parts = ("lo", "hi")
        images = fill_images(name, count, HEIGHT, WIDTH, block=16, noise=0.25, parts=parts)
        return torch.from_numpy(images)

    return fill


@pytest.fixture(scope="session")
def running_norms():
    """Return a function to the norms of all running means and of all running variances.

    Per top-level module with batch norms.
    """

    def measure(network):
        found = {}
        for name, module in network.named_children():
            norms = [
                part
                for part in module.modules()
                if isinstance(part, nn.modules.batchnorm._BatchNorm)
            ]
            if norms:
                found[name] = [
                    torch.cat([getattr(part, kind) for part in norms]).norm().item()
                    for kind in ("running_mean", "running_var")
                ]
        return found

    return measure
