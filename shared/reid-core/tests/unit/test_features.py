"""Features from batches: flip, normalisation, evaluation mode, skipped images, processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reid_core.data.evaluation_loader import EvaluationBatch
from reid_core.data.sample import Sample
from reid_core.errors import ReIDError
from reid_core.evaluation import extract_features, extract_split_features, l2_normalize, own_share


class Network(nn.Module):
    """Batch statistics and dropout: in training mode every result differs."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.bn = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(3).eval()
        self.weight = nn.Parameter(torch.randn(3 * 4 * 2, 7, generator=generator))

    def embed(self, images):
        return self.dropout(self.frozen(self.bn(images)).flatten(1)) @ self.weight

    forward = embed


def images_of(count, seed=0):
    return torch.randn(count, 3, 4, 2, generator=torch.Generator().manual_seed(seed))


def batches_of(images, batch_size=4, rows=None):
    """Batches of one size; the last image fills the rest."""
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        padded = np.concatenate([part, np.repeat(part[-1:], batch_size - len(part))])
        yield EvaluationBatch(images[padded], part)


def unit(features):
    return features.double() / features.double().norm(dim=-1, keepdim=True)


def expected_features(network, images, *modalities, flip="sum"):
    """The definitions, in float64."""
    network.eval()
    with torch.no_grad():
        plain = network.embed(images, *modalities).double()
        mirrored = network.embed(images.flip(3), *modalities).double()
    total = {
        "sum": plain + mirrored,
        "mean": (unit(plain) + unit(mirrored)) / 2,
        "none": plain,
    }
    return unit(total[flip]).float()


@pytest.mark.parametrize("flip", ["sum", "none"])
def test_features_may_keep_their_length(flip):
    network, images = Network().train(), images_of(11)
    options = {"num_images": 11, "flip": flip}
    features = extract_features(network.embed, batches_of(images), normalize=False, **options)
    expected = extract_features(network.embed, batches_of(images), **options)
    assert torch.equal(l2_normalize(features), expected)
    assert (features.norm(dim=1) - 1).abs().min() > 1e-3


def test_the_mean_is_of_features_of_length_one():
    with pytest.raises(ValueError, match="normalize=True"):
        extract_features(
            Network().embed, batches_of(images_of(4)), num_images=4, flip="mean", normalize=False
        )


@pytest.mark.parametrize("flip", ["sum", "mean", "none"])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_equals_the_definition(count, flip):
    network, images = Network().train(), images_of(count)
    features = extract_features(network.embed, batches_of(images), num_images=count, flip=flip)
    expected = expected_features(network, images, flip=flip)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)
    assert features.dtype == torch.float32
    assert not features.is_inference()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(count))


def test_the_ways_of_flipping_differ():
    images = images_of(5)
    found = [
        extract_features(Network().embed, batches_of(images), num_images=5, flip=flip)
        for flip in ("sum", "mean", "none")
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (found[first] - found[second]).abs().max() > 1e-3


class CrossModal(Network):
    """An infrared image is seen through another weight."""

    cross_modal = True

    def embed(self, images, infrared):
        assert infrared.dtype == torch.bool
        return torch.where(infrared[:, None], super().embed(-2 * images), super().embed(images))


def flagged(batches, infrared):
    for images, rows, *_ in batches:
        flags = np.pad(infrared[rows], (0, len(images) - len(rows)), "edge")
        yield EvaluationBatch(images, rows, torch.from_numpy(flags))


@pytest.mark.parametrize("flip", ["sum", "mean", "none"])
def test_a_cross_modal_network_is_told_the_modalities(flip):
    network, images = CrossModal().train(), images_of(11)
    infrared = np.arange(11) % 3 == 1
    features = extract_features(
        network.embed, flagged(batches_of(images), infrared), num_images=11, flip=flip
    )
    expected = expected_features(network, images, torch.from_numpy(infrared), flip=flip)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)
    swapped = expected_features(network, images, torch.from_numpy(~infrared), flip=flip)
    assert (features - swapped).abs().amax(dim=1).min() > 1e-3


def test_a_cross_modal_network_is_not_left_to_guess():
    with pytest.raises(ReIDError, match="visible and infrared images differently, and the modal"):
        extract_features(CrossModal().embed, batches_of(images_of(4)), num_images=4)


class TwoFeatures(Network):
    feature_names = ("long", "short")

    def embed_each(self, images):
        features = self.embed(images)
        return torch.stack([features, features**3], dim=1)


@pytest.mark.parametrize("flip", ["sum", "mean", "none"])
def test_several_features_are_made_in_one_pass(flip):
    network, images = TwoFeatures(), images_of(7)
    batches = batches_of(images, rows=[0, 1, 2, 3, 4, 6])
    found = extract_features(network.embed_each, batches, num_images=7, flip=flip)
    assert found.shape == (7, 2, 7)
    assert torch.isnan(found[5]).all()
    rows = [0, 1, 2, 3, 4, 6]
    first = expected_features(network, images, flip=flip)
    torch.testing.assert_close(found[rows, 0], first[rows], rtol=1e-5, atol=1e-6)
    cubed = expected_features(_Cubed(network), images, flip=flip)
    torch.testing.assert_close(found[rows, 1], cubed[rows], rtol=1e-5, atol=1e-6)
    # Compared without a copy.
    assert all(found[:, index].is_contiguous() for index in range(2))


class _Cubed(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def embed(self, images):
        return self.network.embed_each(images)[:, 1]


@pytest.mark.parametrize("form", ["module", "method"])
def test_the_network_is_held_in_evaluation_mode(form):
    network = Network().train()
    network.frozen.eval()
    before = network.bn.running_mean.clone()
    embed = network if form == "module" else network.embed
    extract_features(embed, batches_of(images_of(5)), num_images=5)
    assert torch.equal(network.bn.running_mean, before)
    assert network.training
    assert network.dropout.training
    assert not network.frozen.training


def test_the_mode_comes_back_after_an_error():
    network = Network().train()

    def batches():
        yield from batches_of(images_of(4))
        raise ReIDError("a file is gone")

    with pytest.raises(ReIDError, match="a file is gone"):
        extract_features(network.embed, batches(), num_images=9)
    assert network.training


def test_low_precision_embeddings_are_added_in_float32():
    weight = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))

    def embed(images):
        return (images.flatten(1) @ weight).bfloat16()

    images = images_of(6)
    features = extract_features(embed, batches_of(images), num_images=6)
    wide = embed(images).float() + embed(images.flip(3)).float()
    assert torch.equal(features, l2_normalize(wide))


def test_skipped_images_are_nan():
    features = extract_features(
        Network().embed, batches_of(images_of(9), rows=[0, 1, 2, 4, 5, 8]), num_images=9
    )
    assert torch.isnan(features).any(1).nonzero().flatten().tolist() == [3, 6, 7]


def test_progress_counts_images():
    seen = []
    extract_features(
        Network().embed,
        batches_of(images_of(9)),
        num_images=9,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize(
    ("embed", "batches", "message"),
    [
        (Network().embed, [], "none of 4 images was embedded: there is no batch"),
        (
            lambda images: images,
            batches_of(images_of(4)),
            r"the network returned shape \(4, 3, 4, 2\) for 4 images; embeddings \(images, D\)",
        ),
        (
            lambda images: images.flatten(1)[:2],
            batches_of(images_of(4)),
            r"the network returned shape \(2, 24\) for 4 images",
        ),
    ],
)
def test_refusals(embed, batches, message):
    with pytest.raises(ReIDError, match=message):
        extract_features(embed, batches, num_images=4)


def test_no_split_is_embedded_twice():
    def samples(*names):
        return [Sample(Path(name), 0, 0) for name in names]

    splits = {
        "query": samples("a", "b", "c"),
        "gallery": samples("d", "e", "f", "g", "h"),
        "query_again": samples("a", "b", "c"),
    }
    opened, seen = [], []
    images = {"query": images_of(3, seed=1), "gallery": images_of(5, seed=2)}

    def open_batches(name):
        opened.append(name)
        return batches_of(images[name])

    network = Network()
    features = extract_split_features(
        network.embed, splits, open_batches, progress=lambda *counts: seen.append(counts)
    )
    assert opened == ["query", "gallery"]
    assert list(features) == list(splits)
    assert features["query"] is features["query_again"]
    for name, content in images.items():
        torch.testing.assert_close(
            features[name], expected_features(network, content), rtol=1e-5, atol=1e-6
        )
    assert seen == [(3, 11), (7, 11), (8, 11)]


@pytest.mark.parametrize(("num_images", "batch_size"), [(0, 4), (1, 4), (16, 4), (37, 4), (5, 9)])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_are_whole_batches(num_images, batch_size, world_size):
    shares = [own_share(num_images, batch_size, rank, world_size) for rank in range(world_size)]
    assert np.concatenate(shares).tolist() == list(range(num_images))
    for share in shares:
        assert share.dtype == np.int64
        assert not len(share) or share[0] % batch_size == 0


def test_two_processes_share_the_work(start_pair, tmp_path):
    script = Path(__file__).with_name("embedding_pair.py")
    assert start_pair(script, folder=str(tmp_path)) == [0, 0]
    alone = torch.load(tmp_path / "alone.pt", weights_only=True)
    for rank in range(2):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, features in alone.items():
            torch.testing.assert_close(together[name], features, rtol=0, atol=0, equal_nan=True)
