"""The AIM network: shapes, gradient paths, loop references, mixed precision, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reid_aim.model import AIM, ClothingBranch, Fusion, IDBranch
from reid_core.errors import ConfigError
from reid_core.models import CosineClassifier, FlipEmbedding

NUM_PIDS, NUM_CLOTHES = 4, 7


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AIM(num_pids=NUM_PIDS, num_clothes=NUM_CLOTHES, backbone="resnet10")


@pytest.fixture
def images():
    return torch.randn(3, 3, 128, 64)


@pytest.mark.parametrize("training", [True, False])
def test_every_output_in_training_and_evaluation(network, images, training):
    out = network.train(training)(images)
    assert {name: tuple(value.shape) for name, value in out._asdict().items()} == {
        "feature_map": (3, 512, 8, 4),
        "features": (3, 1024),
        "clothes_map": (3, 512, 8, 4),
        "clothes_features": (3, 1024),
        "fused_features": (3, 1024),
        "logits": (3, NUM_PIDS),
        "fused_logits": (3, NUM_PIDS),
        "clothes_logits": (3, NUM_CLOTHES),
        "clothes_logits2": (3, NUM_CLOTHES),
    }
    assert out.clothes_logits.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("backbone", "pooling", "channels", "dim"),
    [
        ("resnet10", "avg", 512, 512),
        ("resnet18", "gem", 512, 512),
        ("resnet34", "maxavg", 512, 1024),
        ("resnet50", "max", 2048, 2048),
        ("resnet50", "maxavg", 2048, 4096),
    ],
)
def test_widths_follow_from_the_backbone(backbone, pooling, channels, dim):
    with torch.device("meta"):
        network = AIM(2, 3, backbone=backbone, pooling=pooling)
        out = network(torch.empty(2, 3, 128, 64))
    assert network.model.embedding_dim == dim
    assert out.feature_map.shape[1] == out.clothes_map.shape[1] == channels
    assert out.features.shape == out.clothes_features.shape == out.fused_features.shape == (2, dim)
    assert network.fuse.linear.in_features == 8 * channels


def reached(network, value):
    """Names of the parts that a value's gradient reaches."""
    network.zero_grad()
    value.sum().backward(retain_graph=True)
    return {
        name
        for name, part in network.named_children()
        if any(item.grad is not None and item.grad.any() for item in part.parameters())
    }


def test_gradient_paths(network, images):
    out = network.train()(images)
    weights = torch.randn(3, 1)  # batch norm's sum over the batch has no gradient
    assert reached(network, out.features * weights) == {"model"}
    assert reached(network, out.clothes_features * weights) == {"model2"}
    assert reached(network, out.fused_features * weights) == {"model", "fuse"}
    assert reached(network, out.logits * weights) == {"model", "classifier"}
    assert reached(network, out.fused_logits * weights) == {"model", "fuse", "classifier"}
    assert reached(network, out.clothes_logits) == {"clothes_classifier"}
    assert reached(network, out.clothes_logits2) == {"model2", "clothes_classifier2"}


def test_cosine_identity_classifier(images):
    network = AIM(NUM_PIDS, NUM_CLOTHES, backbone="resnet10", cosine_identity=True).eval()
    assert isinstance(network.classifier, CosineClassifier)
    with torch.inference_mode():
        assert network(images).logits.abs().max() <= 1 + 1e-6


def test_identity_branch_alone_gives_the_networks_embeddings(network, images):
    network.eval()
    branch = IDBranch("resnet10").eval()
    branch.load_state_dict(network.model.state_dict())
    with torch.inference_mode():
        expected = network(images).features
        assert torch.equal(branch.embed(images), expected)
        assert torch.equal(network.embed(images), expected)
        flipped = FlipEmbedding(network)(images)
    assert torch.allclose(flipped.norm(dim=1), torch.ones(3))


def test_embed_refuses_training_mode(network, images):
    with pytest.raises(RuntimeError, match=r"embed\(\) needs evaluation mode; call \.eval\(\)"):
        network.train().embed(images)


@pytest.mark.parametrize(("height", "rows"), [(64, 4), (112, 7)])
def test_too_few_rows_for_the_stripes(network, height, rows):
    message = rf"8 stripes, but the map has {rows} rows; use images at least .* 128 pixels high"
    with pytest.raises(ConfigError, match=message):
        network.eval()(torch.rand(2, 3, height, 64))


def test_initial_values():
    torch.manual_seed(0)
    network = AIM(NUM_PIDS, NUM_CLOTHES, backbone="resnet10")
    stds = {
        "fuse.linear.weight": 0.001,
        "model2.trans.weight": 0.001,
        "classifier.classifier.weight": 0.001,
        "model2.global_conv.weight": math.sqrt(2 / 256),
        "model2.pcb8_conv_list.3.weight": math.sqrt(2 / 256),
        "fuse.attentions.conv.weight": 1 / math.sqrt(3 * 512),  # uniform within 1 / sqrt(512)
        "model.bn.weight": 0.02,
    }
    for key, std in stds.items():
        assert network.get_parameter(key).std().item() == pytest.approx(std, rel=0.06), key
    assert network.fuse.attentions.bn.eps == 1e-3
    assert torch.allclose(network.clothes_classifier.weight.norm(dim=1), torch.ones(NUM_CLOTHES))
    assert not torch.equal(network.clothes_classifier.weight, network.clothes_classifier2.weight)


def test_branches_do_not_share_parameters(network):
    first = {id(item) for item in network.model.parameters()}
    assert not first & {id(item) for item in network.model2.parameters()}


def loop_clothing_head(branch, feature_map):
    """Regions, projections and their order exactly as the specification words them."""
    height = feature_map.shape[2]
    descriptors = []
    parts = [(0, height, branch.global_conv, branch.global_bn)]
    for count in (2, 4, 8):
        rows = height // count
        convs = getattr(branch, f"pcb{count}_conv_list")
        norms = getattr(branch, f"pcb{count}_batchnorm_list")
        parts += [(i * rows, (i + 1) * rows, convs[i], norms[i]) for i in range(count)]
    for top, bottom, conv, norm in parts:
        region = feature_map[:, :, top:bottom].amax(dim=(2, 3), keepdim=True)
        descriptors.append(norm(conv(region).flatten(1)).relu())
    return branch.bn(branch.trans(torch.cat(descriptors, dim=1)))


@pytest.mark.parametrize("shape", [(8, 4), (10, 3), (15, 2), (24, 12)])
@pytest.mark.parametrize("training", [True, False])
def test_clothing_branch_against_a_loop(shape, training):
    branch = ClothingBranch(nn.Identity(), num_channels=16, embedding_dim=12, part_dim=5).double()
    feature_map = torch.randn(4, 16, *shape, dtype=torch.float64)
    branch(feature_map)  # running statistics that differ from 0 and 1
    branch.train(training)
    found = branch(feature_map)
    assert found.feature_map is feature_map
    expected = loop_clothing_head(branch, feature_map)
    assert torch.allclose(found.features, expected, rtol=1e-10, atol=1e-10)


def loop_fusion(fusion, feature_map, clothes_map):
    attention = F.relu(fusion.attentions.bn(fusion.attentions.conv(clothes_map)))
    batch, maps, height, width = attention.shape
    channels = feature_map.shape[1]
    rows = torch.zeros(batch, maps * channels, dtype=feature_map.dtype)
    for b in range(batch):
        for m in range(maps):
            for c in range(channels):
                mean = (attention[b, m] * feature_map[b, c]).sum() / (height * width)
                root = math.sqrt(abs(mean.item()) + 1e-12)
                rows[b, m * channels + c] = math.copysign(root, mean) if mean != 0 else 0.0
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return fusion.bn(fusion.linear(rows))


def test_fusion_against_a_loop():
    fusion = Fusion(num_channels=6, embedding_dim=5, num_attentions=3).double().eval()
    maps = [torch.randn(4, 6, 3, 2, dtype=torch.float64) for _ in range(2)]
    maps[0][0] = 0  # an image whose map is dead
    with torch.no_grad():
        expected = loop_fusion(fusion, *maps)
        assert torch.allclose(fusion(*maps), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fusion_is_finite_with_gradient_at_exact_zeros(dtype):
    fusion = Fusion(num_channels=6, embedding_dim=5, num_attentions=3)
    feature_map = torch.randn(4, 6, 3, 2).relu().to(dtype)
    feature_map[:, :3] = 0
    feature_map[0] = 0
    feature_map.requires_grad_()
    clothes_map = torch.randn(4, 6, 3, 2).relu().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        fused = fusion(feature_map, clothes_map)
    assert fused.dtype == torch.float32
    (fused * torch.randn(4, 5)).sum().backward()
    for tensor in (feature_map, clothes_map, fusion.linear.weight, fusion.attentions.conv.weight):
        assert torch.isfinite(tensor.grad).all()
    assert feature_map.grad.any()


def test_bf16_autocast_covers_the_backbones_only(network, images):
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(images)
    kinds = {name: value.dtype for name, value in out._asdict().items()}
    assert kinds.pop("feature_map") == kinds.pop("clothes_map") == torch.bfloat16
    assert set(kinds.values()) == {torch.float32}
    network.zero_grad()
    sum(value.float().pow(2).mean() for value in out).backward()
    assert all(torch.isfinite(item.grad).all() for item in network.parameters())
