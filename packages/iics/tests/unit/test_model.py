"""The IICS network and its heads: sizes, start values, shared mixing weights, errors."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from reid_core.errors import CheckpointError, ConfigError
from reid_core.models import FlipEmbedding
from reid_core.models.footprint import embedding_footprint, training_footprint
from reid_iics.aibn import AIBN
from reid_iics.model import IICS, Head, Heads


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = IICS(backbone="resnet10")
    network(torch.randn(4, 3, 64, 32))  # running statistics that differ from 0 and 1
    return network


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 32)


@pytest.mark.parametrize(
    ("backbone", "dim", "num_batchnorms", "num_aibn", "num_mixing"),
    [
        ("resnet10", 512, 6, 6, 2),
        ("resnet18", 512, 10, 10, 4),
        ("resnet34", 512, 16, 20, 9),
        ("resnet50", 2048, 24, 29, 9),
    ],
)
def test_backbones(backbone, dim, num_batchnorms, num_aibn, num_mixing):
    with torch.device("meta"):
        network = IICS(backbone=backbone)
    assert network.embedding_dim == dim
    kinds = [type(part) for part in network.modules()]
    assert (kinds.count(nn.BatchNorm2d), kinds.count(AIBN)) == (num_batchnorms, num_aibn)
    names = [name for name, _ in network.named_parameters() if "adaptive_weight" in name]
    assert len(names) == num_mixing
    assert all(name.count(".") == 3 for name in names), "they belong to blocks"
    for name, part in network.named_modules():
        expected = AIBN if name.startswith(("model.layer3", "model.layer4")) else nn.BatchNorm2d
        if isinstance(part, AIBN | nn.BatchNorm2d):
            assert type(part) is expected, name
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_outputs(network, images):
    assert network.train()(images).shape == (3, 512)
    network.eval()
    with torch.no_grad():
        features = network(images)
        assert torch.equal(network.embed(images), features)
        pooled = network.model.feature_map(images).mean(dim=(2, 3))
        assert torch.equal(features, pooled)
        flipped = network.embed_flipped(images)
        assert torch.allclose(flipped, (features + network(images.flip(3))) / 2)
        assert torch.allclose(FlipEmbedding(network)(images), F.normalize(flipped), atol=1e-6)


@pytest.mark.parametrize("method", ["embed", "embed_flipped"])
def test_features_are_refused_in_training_mode(network, images, method):
    with pytest.raises(RuntimeError, match=r"embed\(\) needs evaluation mode; call \.eval\(\)"):
        getattr(network.train(), method)(images)


def test_last_stride(images):
    sizes = {}
    for stride in (1, 2):
        network = IICS(backbone="resnet10", last_stride=stride).eval()
        with torch.no_grad():
            sizes[stride] = network.model.feature_map(images).shape[2:]
    assert sizes == {1: (4, 2), 2: (2, 1)}


@pytest.mark.parametrize(("stride", "side"), [(1, 16), (2, 32)])
def test_too_small_images(stride, side):
    network = IICS(backbone="resnet10", last_stride=stride)
    with pytest.raises(ConfigError, match="a map is 1 x 1; use images larger than 16 x 16"):
        network(torch.randn(2, 3, side, side))
    network(torch.randn(2, 3, side + 1, side))


@pytest.mark.parametrize("init", [0.0, 0.1, 1.0])
def test_initial_mixing_weight(init):
    network = IICS(backbone="resnet10", aibn_init=init)
    values = [v.item() for key, v in network.state_dict().items() if "adaptive_weight" in key]
    assert len(values) == 8
    assert values == pytest.approx([init] * 8)


def test_initial_mixing_weight_out_of_range():
    with pytest.raises(ConfigError, match=r"mixing weight of AIBN is 2; it must lie in \[0, 1\]"):
        IICS(backbone="resnet10", aibn_init=2)


@pytest.mark.parametrize("old", [False, True], ids=["with counters", "without counters"])
def test_start_from_torchvision_weights(tmp_path, old):
    start = torchvision.models.resnet18(num_classes=5)
    for part in start.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                value.data.uniform_(0.5, 1.5)
            part.num_batches_tracked.fill_(7)
    state = start.state_dict()
    if old:  # as files written before PyTorch 0.4.1
        state = {key: value for key, value in state.items() if "num_batches" not in key}
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    found = IICS(backbone="resnet18", weights=path).model.state_dict()
    for key, value in found.items():
        if key.endswith("adaptive_weight"):
            assert value.item() == pytest.approx(0.1), key
        elif not (old and key.endswith("num_batches_tracked")):
            assert torch.equal(value, state[key]), key
    kept = {key for key in found if "adaptive_weight" not in key}
    ignored = {key for key in start.state_dict() if key not in kept}
    assert all(key.startswith(("fc.", "layer3.", "layer4.")) for key in ignored)
    assert {key.rpartition(".")[2] for key in ignored if not key.startswith("fc.")} == {
        "num_batches_tracked"
    }


def test_a_missing_start_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        IICS(backbone="resnet18", weights=tmp_path / "absent.pth")
    with pytest.raises(ConfigError, match="no ImageNet weights for resnet10"):
        IICS(backbone="resnet10", weights="imagenet")


def test_copies_share_mixing_weights_as_the_original(network):
    clone = copy.deepcopy(network)
    block, original = clone.model.layer3[0], network.model.layer3[0]
    assert block.bn1.adaptive_weight is block.downsample[1].adaptive_weight is block.adaptive_weight
    assert block.adaptive_weight is not original.adaptive_weight
    converted = clone.double()
    assert converted.model.layer3[0].bn1.adaptive_weight is block.adaptive_weight
    assert block.adaptive_weight.dtype == torch.float64


def test_gradient_reaches_everything(network, images):
    network.train().zero_grad()
    network(images).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_bf16_autocast_covers_the_trunk_only(network, images):
    network.train().zero_grad()
    kinds = {}
    norm = network.model.layer4[0].bn1
    hook = norm.register_forward_hook(lambda module, inputs, output: kinds.update(norm=output))
    with torch.autocast("cpu", torch.bfloat16):
        features = network(images)
        logits = Head(512, 4)(features)
    hook.remove()
    assert kinds["norm"].dtype == torch.bfloat16
    assert features.dtype == logits.dtype == torch.float32
    (features.square().mean() + logits.square().mean()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_memory_is_estimated_without_taking_it(network):
    shape = (8, 3, 64, 32)
    assert training_footprint(network, shape) > 8 * 64 * 16 * 8 * 4
    num_bytes, dim = embedding_footprint(network, shape)
    assert (num_bytes > 0, dim) == (True, 512)


def test_initial_values_of_a_head():
    head = Head(512, 40)
    norm, linear = head
    assert torch.equal(norm.weight, torch.ones(512))
    assert not norm.bias.any()
    assert [norm.weight.requires_grad, norm.bias.requires_grad] == [True, False]
    assert linear.bias is None
    assert linear.weight.shape == (40, 512)
    assert linear.weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_a_head_against_its_equations():
    head = Head(6, 3).double()
    features = torch.randn(5, 6, dtype=torch.float64)
    variance, mean = torch.var_mean(features, dim=0, correction=0)
    expected = (features - mean) / (variance + 1e-5).sqrt() @ head[1].weight.T
    assert torch.allclose(head(features), expected, rtol=1e-12)


def test_scores_are_all_heads_side_by_side():
    heads = Heads(6, [3, 1, 5])
    for head in heads:
        head(torch.randn(4, 6) + 1)  # running statistics that differ from 0 and 1
        nn.init.normal_(head[1].weight)
    heads.eval()
    features = 10 * torch.randn(7, 6)
    scores = heads.scores(features)
    assert scores.shape == (7, 9)
    assert torch.allclose(scores.sum(dim=1), torch.full((7,), 3.0))
    start = 0
    for head, width in zip(heads, (3, 1, 5), strict=True):
        expected = head(features).exp()
        expected = expected / expected.sum(dim=1, keepdim=True)
        assert torch.allclose(scores[:, start : start + width], expected, atol=1e-6)
        start += width


def test_scores_are_refused_in_training_mode():
    with pytest.raises(RuntimeError, match=r"scores\(\) needs evaluation mode; call \.eval\(\)"):
        Heads(6, [3]).scores(torch.randn(2, 6))


def test_no_heads():
    with pytest.raises(ConfigError, match="needs a head for at least one camera"):
        Heads(6, [])
