"""Features from batches: flip, normalisation, evaluation mode, skipped images, processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reid_core.data.loader import EvaluationBatch
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


def expected_features(network, images, *, flip_test=True):
    network.eval()
    with torch.no_grad():
        features = network.embed(images)
        if flip_test:
            features = features + network.embed(images.flip(3))
    return (features.double() / features.double().norm(dim=1, keepdim=True)).float()


@pytest.mark.parametrize("flip_test", [True, False])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_equals_the_definition(count, flip_test):
    network, images = Network().train(), images_of(count)
    features = extract_features(
        network.embed, batches_of(images), num_images=count, flip_test=flip_test
    )
    expected = expected_features(network, images, flip_test=flip_test)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)
    assert features.dtype == torch.float32
    assert not features.is_inference()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(count))


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
