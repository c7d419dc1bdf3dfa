"""The CSSC network: shapes, gradient paths, loop references, mixed precision, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.models import FlipEmbedding
from reid_cssc.model import CSSC, HEADS, SMR

NUM_PIDS = 4


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = CSSC(NUM_PIDS, backbone="resnet10")
    network(torch.randn(4, 3, 128, 64))  # running statistics that differ from 0 and 1
    return network


@pytest.fixture
def images():
    return torch.randn(3, 3, 128, 64)


def test_outputs_in_training_and_evaluation(network, images):
    out = network.train()(images)
    assert [tuple(feature.shape) for feature in out.features] == [(3, 512)] * len(HEADS)
    assert [tuple(logits.shape) for logits in out.logits] == [(3, NUM_PIDS)] * len(HEADS)
    out = network.eval()(images)
    assert len(out.features) == len(HEADS)
    assert out.logits is None
    assert torch.equal(network.embed(images), out.features[-1])


@pytest.mark.parametrize(
    ("backbone", "dim", "num_forked", "num_shared"),
    [
        ("resnet10", 512, 1, 0),
        ("resnet18", 512, 1, 1),
        ("resnet34", 512, 2, 1),
        ("resnet50", 2048, 2, 1),
    ],
)
def test_backbones(backbone, dim, num_forked, num_shared):
    with torch.device("meta"):
        network = CSSC(NUM_PIDS, backbone=backbone)
    assert network.embedding_dim == dim
    for branch in ("branch1", "branch2"):
        blocks = [network.get_submodule(f"backbone_layer{i}_{branch}") for i in (41, 42)]
        assert sum(not isinstance(block, nn.Identity) for block in blocks) == num_forked
    assert isinstance(network.backbone_layer43, nn.Identity) == (num_shared == 0)
    block = network.smr_c_branch1
    assert block.refinement[0].out_features == dim // 16
    assert block.l_conv_list[0][0].out_features == dim // 8
    assert block.classifier.weight.shape == (NUM_PIDS, 2 * dim)


def test_the_branches_start_equal_and_are_not_tied(network):
    fresh = CSSC(NUM_PIDS, backbone="resnet34")
    for block in (41, 42):
        first = fresh.get_submodule(f"backbone_layer{block}_branch1")
        second = fresh.get_submodule(f"backbone_layer{block}_branch2")
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(one, other)
            assert one is not other


def test_last_stride(images):
    rows = []
    for stride in (1, 2):
        network = CSSC(None, backbone="resnet18", last_stride=stride).eval()
        with torch.no_grad():
            shared = network.backbone_before_layer4(images)
            for branch in ("branch1", "branch2"):
                rows.append(network.get_submodule(f"backbone_layer41_{branch}")(shared).shape[2])
    assert rows == [8, 8, 4, 4]


def test_initial_values():
    network = CSSC(NUM_PIDS, backbone="resnet18")
    for name, module in network.named_modules():
        if name.endswith("classifier"):
            assert module.bias is None
            assert module.weight.std().item() == pytest.approx(0.001, rel=0.1), name
        if name.endswith("bottleneck"):
            assert torch.equal(module.weight, torch.ones(512)), name
            assert not module.bias.any(), name
            assert not module.bias.requires_grad, name
    # The uniform distribution of torch.nn.Linear within 1 / sqrt(fan_in).
    for layer in (network.smr_c_branch1.l_conv_list[0][0], network.smr_s_branch2.refinement[0]):
        assert layer.weight.abs().max() <= 512**-0.5
        assert layer.weight.std().item() == pytest.approx((3 * 512) ** -0.5, rel=0.05)


def loop_smr(block, feature_map, pool):
    """Mining and refinement exactly as the specification words them."""
    rows = feature_map.shape[2] // 8
    pooled = pool(feature_map)
    local = [block.bottleneck(pooled)]
    for i in range(8):
        project, norm = block.l_conv_list[i]
        stripe = pool(feature_map[:, :, i * rows : (i + 1) * rows])
        local.append(norm(F.linear(stripe, project.weight)))
    logits = F.linear(torch.cat(local, dim=1), block.classifier.weight)
    first, _, second, _ = block.refinement
    hidden = F.linear(pooled, first.weight, first.bias).relu()
    gate = torch.sigmoid(F.linear(hidden, second.weight, second.bias))
    return gate[:, :, None, None] * feature_map, pooled, logits


POOLS = {"avg": lambda x: x.mean(dim=(2, 3)), "max": lambda x: x.amax(dim=(2, 3))}


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("shape", [(8, 4), (10, 3), (24, 12)])
def test_smr_against_a_loop(pooling, shape):
    block = SMR(32, pooling=pooling, num_pids=5, part_dim=4).double()
    feature_map = torch.randn(4, 32, *shape, dtype=torch.float64)
    found = block(feature_map)
    for one, other in zip(found, loop_smr(block, feature_map, POOLS[pooling]), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_order_of_the_branches(network, images):
    """Branch 1 is content, then salient; branch 2 the other way round; plain sum; max pooling."""
    network.eval()
    with torch.no_grad():
        shared = network.backbone_before_layer4(images)
        maps = []
        for branch, order in (("branch1", "cs"), ("branch2", "sc")):
            feature_map = shared
            for kind, block in zip(order, (41, 42), strict=True):
                feature_map = network.get_submodule(f"backbone_layer{block}_{branch}")(feature_map)
                smr = network.get_submodule(f"smr_{kind}_{branch}")
                pooled = POOLS["avg" if kind == "c" else "max"](feature_map)
                feature_map = smr.refinement(pooled)[:, :, None, None] * feature_map
            maps.append(feature_map)
        expected = network.backbone_layer43(maps[0] + maps[1]).amax(dim=(2, 3))
        assert torch.allclose(network.embed(images), expected, atol=1e-6)


@pytest.mark.parametrize("head", range(len(HEADS)))
def test_every_head_reaches_the_shared_trunk(network, images, head):
    network.train().zero_grad()
    network(images).logits[head].square().sum().backward()
    assert network.backbone_before_layer4[0].weight.grad.any()
    last = head == len(HEADS) - 1
    gates = [name for name in ("smr_c_branch1", "smr_s_branch1", "smr_s_branch2", "smr_c_branch2")]
    reached = [network.get_submodule(name).refinement[0].weight.grad is not None for name in gates]
    # A head lies before its own block's gate, and behind the gate of the block before.
    expected = {0: [0, 0, 0, 0], 1: [1, 0, 0, 0], 2: [0, 0, 0, 0], 3: [0, 0, 1, 0]}
    assert reached == ([True] * 4 if last else [bool(x) for x in expected[head]])


def test_the_test_time_network_embeds_alike(network, images):
    inference = CSSC(None, backbone="resnet10").eval()
    inference.load_state_dict(network.inference_state())
    with torch.no_grad():
        assert torch.equal(inference.embed(images), network.eval().embed(images))
    assert inference.train()(images).logits is None


def test_flip_embedding_is_the_normalised_sum(network, images):
    network.eval()
    with torch.no_grad():
        total = network.embed(images) + network.embed(images.flip(3))
        assert torch.allclose(FlipEmbedding(network)(images), F.normalize(total), atol=1e-6)


def test_embed_refuses_training_mode(network, images):
    with pytest.raises(RuntimeError, match=r"embed\(\) needs evaluation mode; call \.eval\(\)"):
        network.train().embed(images)


@pytest.mark.parametrize(("height", "rows"), [(64, 4), (112, 7)])
def test_too_few_rows_for_the_stripes(network, height, rows):
    message = rf"8 stripes, but the map has {rows} rows; use images at least .* 128 pixels high"
    with pytest.raises(ConfigError, match=message):
        network.train()(torch.rand(2, 3, height, 64))
    network.eval().embed(torch.rand(2, 3, height, 64))  # gates alone need no stripes


def test_bf16_autocast_covers_the_backbone_only(network, images):
    network.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(images)
        refined = network.smr_s_branch1(torch.randn(2, 512, 8, 4, dtype=torch.bfloat16))
    assert {value.dtype for value in (*out.features, *out.logits)} == {torch.float32}
    assert refined.feature_map.dtype == torch.bfloat16
    sum(value.pow(2).mean() for value in (*out.features, *out.logits)).backward()
    trained = [item for item in network.parameters() if item.requires_grad]
    assert all(torch.isfinite(item.grad).all() for item in trained if item.grad is not None)
