"""What a network says of itself, one of several features, mirror images by modality."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.models import FlipEmbedding
from reid_core.models.embedding import (
    all_features,
    choose_feature,
    feature_names,
    is_cross_modal,
)
from reid_core.models.footprint import embedding_footprint


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 16, 8, generator=torch.Generator().manual_seed(1))


INFRARED = torch.tensor([False, True, True, False, False, True])


def test_what_networks_say_of_themselves(networks):
    plain, two = networks.OneStream(), networks.TwoStreams()
    assert (is_cross_modal(plain), is_cross_modal(two)) == (False, True)
    assert (feature_names(plain), feature_names(two)) == ((), ("fc", "pool"))
    assert all_features(plain) == plain.embed
    assert all_features(two) == two.embed_each


@pytest.mark.parametrize(("name", "index"), [("", 0), ("fc", 0), ("pool", 1)])
def test_one_of_several_features(networks, images, name, index):
    network = networks.TwoStreams()
    chosen = choose_feature(network, name)
    expected = network.embed_each(images, INFRARED)[:, index]
    assert torch.equal(chosen.embed(images, INFRARED), expected)
    assert is_cross_modal(chosen)
    assert feature_names(chosen) == ()
    assert not chosen.eval().network.training


def test_a_network_with_one_feature_stays_as_it_is(networks):
    network = networks.OneStream()
    assert choose_feature(network, "") is network


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("TwoStreams", "no feature 'att'; its features are fc, pool"),
        ("OneStream", "no feature 'att'; it has one feature only"),
    ],
)
def test_features_that_are_not_there(networks, kind, message):
    with pytest.raises(ConfigError, match=message):
        choose_feature(getattr(networks, kind)(), "att")


@pytest.mark.parametrize("modalities", [(), (INFRARED,)])
def test_three_uses_of_the_mirror_image(networks, images, modalities):
    network = networks.TwoStreams() if modalities else networks.OneStream()
    plain, mirrored = (network.embed(x, *modalities) for x in (images, images.flip(3)))
    expected = {
        "sum": F.normalize(plain + mirrored),
        "mean": F.normalize((F.normalize(plain) + F.normalize(mirrored)) / 2),
        "none": F.normalize(plain),
    }
    for flip, features in expected.items():
        network.num_passes = 0
        found = FlipEmbedding(network, flip)(images, *modalities)
        torch.testing.assert_close(found, features, rtol=1e-6, atol=1e-6)
        assert network.num_passes == (1 if flip == "none" else 2)
    assert (expected["sum"] - expected["mean"]).abs().max() > 1e-4


def test_the_footprint_of_several_features_of_two_modalities(networks):
    network = networks.TwoStreams()
    num_bytes, dim = embedding_footprint(network, (6, 3, 16, 8))
    assert dim == 6
    assert num_bytes > 4 * 6 * 3 * 16 * 8  # the mirror image alone
    assert embedding_footprint(choose_feature(network, "pool"), (6, 3, 16, 8))[1] == 6
