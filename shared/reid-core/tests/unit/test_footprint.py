"""The memory of a network's passes, found on the meta device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_core.models import ResNet
from reid_core.models.footprint import embedding_footprint, state_bytes, training_footprint


class Chain(nn.Module):
    """Three elementwise steps, so that all sizes are known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("count", torch.zeros(3))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        doubled = images + images
        shifted = doubled + 1
        del doubled
        return (shifted * 2).flatten(1)[:, :7]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        assert self.training
        return (images * self.scale).exp().exp(), None


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet("resnet10")
        self.norm = nn.BatchNorm1d(512)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.trunk(images).mean((2, 3)))

    embed = forward


SHAPE = (2, 3, 32, 16)
IMAGES = 4 * 2 * 3 * 32 * 16


def test_the_worst_moment_of_an_embedding_and_its_dimension():
    # The mirror image is there all the time; beside it never more than two results.
    num_bytes, dim = embedding_footprint(Chain(), SHAPE)
    assert dim == 7
    assert num_bytes == int(1.125 * 3 * IMAGES)


def test_what_backpropagation_keeps():
    # Forward: the product, and both exponentials, which their gradients need. Backward: two
    # gradients of that size at one time.
    num_bytes = training_footprint(Chain(), SHAPE)
    assert 1.25 * 4 * IMAGES <= num_bytes <= 1.25 * 6 * IMAGES


def test_activations_grow_with_the_batch_and_parameters_do_not():
    network = Backbone()
    one, two, four = (embedding_footprint(network, (n, 3, 64, 32))[0] for n in (8, 16, 32))
    assert four - two == pytest.approx(2 * (two - one), rel=0.05)
    assert embedding_footprint(network, (8, 3, 64, 32))[1] == 512
    # Gradients of all parameters are part of a training step.
    assert training_footprint(network, (2, 3, 64, 32)) > state_bytes(network.parameters())


def test_nothing_is_computed_or_changed():
    network = Backbone().eval()
    network.trunk.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    embedding_footprint(network, (4, 3, 64, 32))
    training_footprint(network, (4, 3, 64, 32))
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training
    assert network.trunk.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_without_contents_gives_the_same():
    shape = (4, 3, 64, 32)
    with torch.device("meta"):
        outline = Backbone()
    assert embedding_footprint(outline, shape) == embedding_footprint(Backbone(), shape)
    assert training_footprint(outline, shape) == training_footprint(Backbone(), shape)


def test_bytes_of_states():
    assert state_bytes([torch.zeros(3), torch.zeros(2, 2, dtype=torch.float64)]) == 12 + 32
    assert state_bytes([]) == 0
