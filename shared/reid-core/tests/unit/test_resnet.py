"""ResNet trunks: sizes, strides, keys."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torchvision
from torch import nn

from reid_core.errors import ConfigError
from reid_core.models import BackboneName, ResNet, detect_backbone

CHANNELS = {"resnet10": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048}


def test_table_covers_every_name():
    assert set(CHANNELS) == set(get_args(BackboneName))


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_channels_and_keys(name):
    with torch.device("meta"):
        trunk = ResNet(name)
    assert trunk.num_features == CHANNELS[name]
    assert [key for key, _ in trunk.named_children()] == [
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    ]
    assert detect_backbone(trunk.state_dict()) == name


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_keys_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = ResNet(name).state_dict(), getattr(torchvision.models, name)().state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == shapes


@pytest.mark.parametrize(("last_stride", "size"), [(1, (5, 3)), (2, (3, 2))])
@pytest.mark.parametrize("name", ["resnet10", "resnet50"])
def test_size_of_the_map_is_rounded_up(name, last_stride, size):
    trunk = ResNet(name, last_stride=last_stride).eval()
    with torch.inference_mode():
        feature_map = trunk(torch.rand(1, 3, 70, 42))
    assert feature_map.shape == (1, CHANNELS[name], *size)
    assert feature_map.min() >= 0  # after ReLU


def test_stride_two_is_torchvisions_network():
    torch.manual_seed(0)
    trunk = ResNet("resnet18", last_stride=2).eval()
    theirs = torchvision.models.resnet18().eval()
    theirs.load_state_dict(trunk.state_dict(), strict=False)
    theirs.avgpool, theirs.fc = torch.nn.Identity(), torch.nn.Identity()
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(trunk(images).flatten(1), theirs(images))


def test_stride_one_changes_layer4_only():
    trunk = ResNet("resnet50")
    assert trunk.layer4[0].conv2.stride == trunk.layer4[0].downsample[0].stride == (1, 1)
    assert trunk.layer3[0].conv2.stride == trunk.layer3[0].downsample[0].stride == (2, 2)
    assert trunk.layer4[0].conv2.dilation == (1, 1)


class Marked(nn.Module):
    """What takes a batch norm's place; it keeps the one it was made from."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize("name", ["resnet10", "resnet50"])
def test_other_norms_in_chosen_stages(name, tmp_path):
    start = ResNet(name)
    for parameter in start.parameters():
        parameter.data.uniform_(0.5, 1.5)
    path = tmp_path / "start.pth"
    torch.save(start.state_dict(), path)
    trunk = ResNet(name, weights=path, norms={"layer2": Marked, "layer4": Marked})
    for part, module in trunk.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            chosen = part.startswith(("layer2.", "layer4."))
            assert chosen == part.endswith(".norm"), part
    assert [type(part) for part in trunk.layer4[0].downsample] == [nn.Conv2d, Marked]
    # Made after loading, so they see the start weights, and in the place of what they replace.
    expected, found = start.state_dict(), trunk.state_dict()
    assert [key.replace(".norm.", ".") for key in found] == list(expected)
    for value, other in zip(expected.values(), found.values(), strict=True):
        assert torch.equal(value, other)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(trunk.eval()(images), start.eval()(images))


def test_gradient_reaches_the_stem():
    trunk = ResNet("resnet10")
    trunk(torch.rand(2, 3, 32, 32)).mean().backward()
    assert trunk.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet101"}, r"unknown backbone 'resnet101'; choose one of resnet10, resnet18"),
        ({"name": "resnet18", "last_stride": 3}, r"last_stride=3 must be 1 or 2"),
        ({"name": "resnet10", "weights": "imagenet"}, r"no ImageNet weights for resnet10; use "),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ResNet(**arguments)


@pytest.mark.parametrize("keys", [[], ["fc.weight"], ["layer1.0.conv1.weight"], ["layer9.0.x"]])
def test_unknown_networks_are_not_detected(keys):
    assert detect_backbone(keys) is None
