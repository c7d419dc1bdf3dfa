"""Neck, classifiers, initial values and the flip embedding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reid_core.models import BNNeck, Classifier, CosineClassifier, FlipEmbedding
from reid_core.models.init import init_conv, unit_rows


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_neck_starts_as_in_the_official_code():
    neck = BNNeck(20_000)
    assert neck.weight.mean().item() == pytest.approx(1.0, abs=1e-3)
    assert neck.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not neck.bias.any()
    assert neck.bias.requires_grad


def test_neck_without_a_trained_shift():
    neck = BNNeck(5, trained_shift=False)
    assert torch.equal(neck.weight, torch.ones(5))
    assert torch.equal(neck.bias, torch.zeros(5))
    assert neck.weight.requires_grad
    assert not neck.bias.requires_grad
    assert BNNeck(5).bias.requires_grad


def test_neck_uses_batch_statistics_in_training_and_running_ones_in_eval():
    neck = BNNeck(3)
    features = torch.randn(16, 3) * 5 + 2
    normalised = (features - features.mean(0)) / features.var(0, unbiased=False).add(1e-5).sqrt()
    assert torch.allclose(neck(features), normalised * neck.weight, atol=1e-5)
    neck.eval()
    assert torch.allclose(neck.running_mean, 0.1 * features.mean(0), atol=1e-6)
    expected = (features - neck.running_mean) / (neck.running_var + 1e-5).sqrt() * neck.weight
    assert torch.allclose(neck(features), expected, atol=1e-5)


def test_linear_classifier():
    classifier = Classifier(2048, 50)
    assert list(classifier.state_dict()) == ["classifier.weight", "classifier.bias"]
    assert classifier.classifier.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not classifier.classifier.bias.any()
    features = torch.randn(4, 2048)
    expected = features @ classifier.classifier.weight.T
    assert torch.allclose(classifier(features), expected, atol=1e-6)


def test_cosine_classifier_against_a_loop():
    classifier = CosineClassifier(5, 3)
    assert list(classifier.state_dict()) == ["weight"]
    features = torch.randn(4, 5) * 100
    cosines = classifier(features)
    for feature, row in zip(features, cosines, strict=True):
        for weight, cosine in zip(classifier.weight, row, strict=True):
            dot = sum(a * b for a, b in zip(feature.tolist(), weight.tolist(), strict=True))
            lengths = math.hypot(*feature.tolist()) * math.hypot(*weight.tolist())
            assert cosine.item() == pytest.approx(dot / lengths, abs=1e-6)


def test_cosine_classifier_ignores_the_length_of_features_and_weights():
    classifier = CosineClassifier(8, 4)
    features = torch.randn(3, 8)
    before = classifier(features)
    with torch.no_grad():
        classifier.weight *= 7
    assert torch.allclose(classifier(features * 0.01), before, atol=1e-6)


def test_cosine_classifier_is_finite_with_gradient_for_a_zero_feature():
    classifier = CosineClassifier(8, 4)
    features = torch.zeros(2, 8, requires_grad=True)
    classifier(features).sum().backward()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(classifier.weight.grad).all()


@pytest.mark.parametrize("module", [BNNeck(6), Classifier(6, 3), CosineClassifier(6, 3)])
def test_heads_stay_float32_under_autocast(module):
    features = torch.randn(4, 6)
    module.eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = module(features.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, module(features.bfloat16().float()))


def test_unit_rows():
    rows = unit_rows(200, 30)
    assert torch.allclose(rows.norm(dim=1), torch.ones(200), atol=1e-6)
    assert abs(rows.mean().item()) < 0.01


def test_conv_fan_out():
    conv = nn.Conv2d(2048, 256, kernel_size=1, bias=False)
    init_conv(conv)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.01)


class Corner(nn.Module):
    """Embeds an image as its left and right half means."""

    def embed(self, images):
        halves = images.mean(dim=(1, 2)).unflatten(1, (2, -1))
        return halves.mean(dim=2)


def test_flip_embedding_is_the_normalised_sum_over_both_directions():
    images = torch.zeros(1, 3, 4, 4)
    images[..., :2] = 3.0
    images[..., 2:] = 1.0
    found = FlipEmbedding(Corner())(images)
    assert torch.allclose(found, torch.full((1, 2), 1 / math.sqrt(2)))
    assert torch.allclose(found, FlipEmbedding(Corner())(images.flip(3)))


def test_flip_embedding_holds_the_network():
    class Network(Corner):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

    wrapper = FlipEmbedding(Network()).eval()
    assert len(list(wrapper.parameters())) == 2
    assert not wrapper.network.training
