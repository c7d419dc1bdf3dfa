"""Blocks of OSNet: which streams are summed, what is trained, and running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_deskpro.osnet import ConvLayer, OSBlock, OSNetTrunk, RepeatedBatchNorm2d


@pytest.fixture
def feature_map():
    return torch.randn(3, 16, 6, 4, generator=torch.Generator().manual_seed(0))


def make_block(variant, in_channels=16, out_channels=32):
    torch.manual_seed(1)
    block = OSBlock(in_channels, out_channels, variant=variant)
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return block


def norm(bn, values, *, training):
    if training:
        mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
    else:
        mean, variance = bn.running_mean, bn.running_var
    mean, variance, scale, shift = (
        value[None, :, None, None] for value in (mean, variance, bn.weight, bn.bias)
    )
    return (values - mean) / (variance + 1e-5).sqrt() * scale + shift


def light(layer, values, *, training):
    values = F.conv2d(values, layer.conv1.weight)
    channels = values.shape[1]
    values = F.conv2d(values, layer.conv2.weight, padding=1, groups=channels)
    return norm(layer.bn, values, training=training).relu()


def gated(gate, values):
    pooled = values.mean((2, 3))
    hidden = F.linear(pooled, gate.fc1.weight.flatten(1), gate.fc1.bias).relu()
    weights = F.linear(hidden, gate.fc2.weight.flatten(1), gate.fc2.bias).sigmoid()
    return values * weights[:, :, None, None]


def reference(block, values, streams, *, training):
    """The block written out, with the named streams."""
    reduced = norm(block.conv1.bn, F.conv2d(values, block.conv1.conv.weight), training=training)
    reduced = reduced.relu()
    total = 0
    for name in streams:
        stream = block.get_submodule(f"conv2{name}")
        layers = [stream] if name == "a" else list(stream)
        found = reduced
        for layer in layers:
            found = light(layer, found, training=training)
        total = total + gated(block.gate, found)
    out = norm(block.conv3.bn, F.conv2d(total, block.conv3.conv.weight), training=training)
    if block.downsample is None:
        return (out + values).relu()
    shortcut = F.conv2d(values, block.downsample.conv.weight)
    return (out + norm(block.downsample.bn, shortcut, training=training)).relu()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("variant", "streams"), [("deskpro", "aacd"), ("standard", "abcd")])
@pytest.mark.parametrize("out_channels", [16, 32])
def test_the_streams(feature_map, variant, streams, training, out_channels):
    block = make_block(variant, out_channels=out_channels).train(training)
    expected = reference(copy.deepcopy(block), feature_map, streams, training=training)
    torch.testing.assert_close(block(feature_map), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["deskpro", "standard"])
def test_what_is_trained(feature_map, variant):
    block = make_block(variant).train()
    block(feature_map).square().sum().backward()
    untrained = {name for name, value in block.named_parameters() if value.grad is None}
    frozen = {name for name, value in block.named_parameters() if not value.requires_grad}
    second = {name for name, _ in block.named_parameters() if name.startswith("conv2b")}
    assert untrained == frozen == (second if variant == "deskpro" else set())
    assert second


def test_statistics_of_a_layer_that_runs_twice(feature_map):
    """As if the official code had run it twice: equal statistics, equal count."""
    torch.manual_seed(0)
    once, twice = RepeatedBatchNorm2d(16), nn.BatchNorm2d(16)
    once.load_state_dict(twice.state_dict())
    for step in range(3):
        values = feature_map * (step + 1) + step
        expected = twice(values)
        twice(values)
        torch.testing.assert_close(once(values), expected)
    assert once.num_batches_tracked == twice.num_batches_tracked == 6
    torch.testing.assert_close(once.running_mean, twice.running_mean)
    torch.testing.assert_close(once.running_var, twice.running_var)
    before = copy.deepcopy(once.state_dict())
    once.eval()(feature_map)
    assert all(torch.equal(value, before[key]) for key, value in once.state_dict().items())


def test_only_the_doubled_stream_counts_twice(feature_map):
    block = make_block("deskpro").train()
    block(feature_map)
    counts = {
        name.removesuffix(".num_batches_tracked"): value.item()
        for name, value in block.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    assert counts.pop("conv2a.bn") == 2
    assert {counts.pop("conv2b.0.bn"), counts.pop("conv2b.1.bn")} == {0}
    assert set(counts.values()) == {1}


def test_the_trunk_stage_by_stage():
    torch.manual_seed(0)
    trunk = OSNetTrunk(width=1 / 16).eval()
    images = torch.randn(2, 3, 64, 32)
    found = F.conv2d(images, trunk.conv1.conv.weight, stride=2, padding=3)
    found = norm(trunk.conv1.bn, found, training=False).relu()
    found = F.max_pool2d(found, 3, stride=2, padding=1)
    for stage in (trunk.conv2, trunk.conv3):
        first, second, (transition, _) = stage
        found = F.avg_pool2d(transition(second(first(found))), 2)
    expected = trunk.conv5(trunk.conv4[1](trunk.conv4[0](found)))
    torch.testing.assert_close(trunk(images), expected)


@pytest.mark.parametrize(("width", "channels"), [(1, 512), (0.5, 256), (0.25, 128), (1 / 32, 16)])
def test_widths(width, channels):
    with torch.device("meta"):
        trunk = OSNetTrunk(width=width)
        found = trunk(torch.empty(1, 3, 64, 32))
    assert trunk.num_channels == channels
    assert found.shape == (1, channels, 4, 2)


def test_initial_values():
    torch.manual_seed(0)
    trunk = OSNetTrunk(width=0.25)
    weight = trunk.conv4[1].conv1.conv.weight  # 1 x 1, 32 channels out
    assert weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.1)
    assert not trunk.conv2[0].gate.fc1.bias.any()
    norms = [part for part in trunk.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all((part.weight == 1).all() and not part.bias.any() for part in norms)


@pytest.mark.parametrize("width", [0.3, 0, -1, 0.01])
def test_bad_widths(width):
    with pytest.raises(ConfigError, match=rf"width={width} gives stages of .*multiples of 4"):
        OSNetTrunk(width=width)


def test_unknown_variant():
    with pytest.raises(ConfigError, match=r"unknown osnet_variant 'x'; choose one of deskpro, st"):
        OSBlock(16, 16, variant="x")


def test_layers_without_relu(feature_map):
    torch.manual_seed(0)
    layer = ConvLayer(16, 8, relu=False).eval()
    assert (layer(feature_map) < 0).any()
    layer.relu = True
    assert (layer(feature_map) >= 0).all()
