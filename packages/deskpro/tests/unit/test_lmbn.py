"""Heads and branches of an LMBN: what each of them pools, drops, halves and starts from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reid_deskpro.branches import GlobalBranch, Head, PartBranch, TopDropBlock
from reid_deskpro.lmbn import FEATURE_HEADS, HEADS, LMBN, SpatialAttention, without_classifiers

WIDTH = 1 / 16
DIM = 32  # channels of the last map at this width


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LMBN(5, width=WIDTH)


@pytest.fixture
def attentive():
    torch.manual_seed(0)
    return LMBN(5, width=WIDTH, attention=True)


def test_shapes(attentive, images):
    out = attentive(images)
    assert [logits.shape for logits in out.logits] == [(4, 5)] * len(HEADS)
    assert [features.shape for features in out.features] == [(4, DIM)] * len(FEATURE_HEADS)
    assert out.attention.shape == (4, 1, 8, 4)
    embeddings = attentive.eval().embed(images)
    assert embeddings.shape == (4, attentive.embedding_dim) == (4, 7 * DIM)
    assert attentive.part_groups == {"parts": 7}


def test_every_head_by_hand(network, images):
    """At test time: which map, which pooling, which neck; features are before the neck."""
    network.eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.normal_(part.running_mean, std=0.1)
    shared = network.backbone(images)
    branch, parts, channels = network.global_branch, network.part_branch, network.channel_branch
    refined = branch.batch_drop_block.drop_batch_bottleneck(branch.backbone2(shared))
    part_map, channel_map = parts.backbone2(shared), channels.backbone2(shared)
    pooled = [
        (branch.reduction_1, refined.mean((2, 3))),
        (branch.reduction_2, refined.amax((2, 3))),
        (parts.reduction_1, part_map.amax((2, 3))),
        (parts.reduction_2, F.adaptive_avg_pool2d(part_map, (2, 1))[:, :, 0, 0]),
        (parts.reduction_3, F.adaptive_avg_pool2d(part_map, (2, 1))[:, :, 1, 0]),
    ]
    halves = channel_map.mean((2, 3)).split(DIM // 2, dim=1)
    for neck, half in zip((channels.reduction_ch_0, channels.reduction_ch_1), halves, strict=True):
        pooled.append((neck, channels.shared(half[:, :, None, None]).flatten(1)))
    out, embeddings = network(images), network.embed(images).split(DIM, dim=1)
    for number, (neck, values) in enumerate(pooled):
        if number < 5:
            values = F.linear(values, neck.reduction.weight.flatten(1))
        if number < len(FEATURE_HEADS):
            torch.testing.assert_close(out.features[number], values)
        embedding = neck.bn(values)
        torch.testing.assert_close(embeddings[number], embedding)
        torch.testing.assert_close(out.logits[number], neck.classifier(embedding))


@pytest.mark.parametrize("rows", [1, 4, 5, 7])
def test_halves_of_the_map(rows):
    """As adaptive pooling to 2 x 1: the middle row of an odd number counts in both."""
    torch.manual_seed(0)
    feature_map = torch.randn(2, 8, rows, 3)
    branch = PartBranch(nn.Identity(), 8, None).eval()
    expected = F.adaptive_avg_pool2d(feature_map, (2, 1))
    _, upper, lower = branch(feature_map)
    for found, head, half in (
        (upper, branch.reduction_2, expected[:, :, 0, 0]),
        (lower, branch.reduction_3, expected[:, :, 1, 0]),
    ):
        torch.testing.assert_close(found.embedding, head(half).embedding)


def dropped_by_hand(refined):
    kept = torch.ones(refined.shape[0], refined.shape[2], dtype=torch.bool)
    for number, image in enumerate(refined):
        scores = image.square().sum(0).max(1).values.tolist()
        order = sorted(range(len(scores)), key=lambda row: -scores[row])
        kept[number, order[: round(0.33 * len(scores))]] = False
    return kept


@pytest.mark.parametrize(("rows", "count"), [(1, 0), (2, 1), (4, 1), (14, 5), (24, 8)])
def test_the_strongest_rows_are_dropped(rows, count):
    torch.manual_seed(0)
    feature_map = torch.randn(3, 16, rows, 4, requires_grad=True)
    block = TopDropBlock(16, variant="deskpro").train()
    refined, dropped = block(feature_map)
    kept = dropped_by_hand(refined.detach())
    assert (~kept).sum(dim=1).tolist() == [count] * 3
    torch.testing.assert_close(dropped, refined * kept[:, None, :, None])
    # Gradient comes through the rows that are kept, and only those.
    (gradient,) = torch.autograd.grad(dropped.sum(), refined)
    assert torch.equal(gradient, kept[:, None, :, None].expand_as(gradient).to(gradient.dtype))
    again = block(feature_map)
    assert torch.equal(again.dropped, dropped)


def test_nothing_is_dropped_at_test_time():
    torch.manual_seed(0)
    refined, dropped = TopDropBlock(16, variant="deskpro").eval()(torch.randn(2, 16, 9, 4))
    assert torch.equal(refined, dropped)


def test_the_mean_sees_the_whole_map_and_the_maximum_what_is_left():
    torch.manual_seed(0)
    feature_map = torch.randn(3, 16, 12, 4)
    branch = GlobalBranch(nn.Identity(), 16, None, variant="deskpro").train()
    refined, dropped = copy.deepcopy(branch.batch_drop_block)(feature_map)
    glo, glo_drop = branch(feature_map)
    for found, head, pooled in (
        (glo, branch.reduction_1, refined.mean((2, 3))),
        (glo_drop, branch.reduction_2, dropped.amax((2, 3))),
    ):
        expected = F.linear(pooled, head.reduction.weight.flatten(1))
        torch.testing.assert_close(found.features, expected)
    assert (dropped.amax((2, 3)) < refined.amax((2, 3))).any()


def test_attention_multiplies_the_stem(attentive, images):
    attentive.eval()
    shared = attentive.backbone(images)
    first, second = attentive.spatial_attn.conv1.weight, attentive.spatial_attn.conv2.weight
    expected = F.conv2d(F.conv2d(shared, first).relu(), second).sigmoid()
    out = attentive(images)
    torch.testing.assert_close(out.attention, expected)
    plain = LMBN(5, width=WIDTH).eval()
    state = attentive.state_dict()
    plain.load_state_dict({k: v for k, v in state.items() if "spatial_attn" not in k})
    plain.backbone.register_forward_hook(lambda module, args, output: output * expected)
    torch.testing.assert_close(plain.embed(images), attentive.embed(images))
    assert plain(images).attention is None


def test_initial_values_of_attention():
    torch.manual_seed(0)
    attention = SpatialAttention(64)
    for conv in (attention.conv1, attention.conv2):
        assert conv.bias is None
        assert conv.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.25)


def test_what_starts_alike(network):
    branches = (network.global_branch, network.part_branch, network.channel_branch)
    first, *others = (branch.backbone2.state_dict() for branch in branches)
    for other in others:
        assert all(torch.equal(first[key], other[key]) for key in first)
    for branch, names in ((branches[0], "12"), (branches[1], "123")):
        heads = [branch.get_submodule(f"reduction_{name}").state_dict() for name in names]
        for other in heads[1:]:
            assert all(torch.equal(heads[0][key], other[key]) for key in other)
    channels = branches[2]
    one, two = channels.reduction_ch_0.classifier.weight, channels.reduction_ch_1.classifier.weight
    assert not torch.equal(one, two)
    # All of them are copies: a step on one branch leaves the others as they were.
    addresses = [value.data_ptr() for value in network.parameters()]
    assert len(set(addresses)) == len(addresses)


def test_initial_values_of_heads():
    torch.manual_seed(0)
    head = Head(64, 100, reduces=True)
    assert head.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert head.classifier.bias is None
    assert head.reduction.bias is None
    assert (head.bn.weight == 1).all()
    assert not head.bn.bias.any()
    assert not head.bn.bias.requires_grad
    assert head.bn.weight.requires_grad


def test_the_shared_layer_sees_both_halves(network, images):
    network.train()(images)
    assert network.channel_branch.shared[1].num_batches_tracked == 2


@pytest.mark.parametrize("head", range(len(HEADS)))
def test_every_head_reaches_the_stem(network, images, head):
    network.train()(images).logits[head].square().sum().backward()
    assert network.backbone[0].conv.weight.grad.any()
    own = {0: "global", 1: "global", 2: "part", 3: "part", 4: "part", 5: "channel", 6: "channel"}
    for name in ("global", "part", "channel"):
        last = network.get_submodule(f"{name}_branch").backbone2[2].conv.weight.grad
        assert (last is not None and bool(last.any())) == (own[head] == name)


def test_the_test_time_network_embeds_alike(network, images):
    inference = LMBN(None, width=WIDTH).eval()
    inference.load_state_dict(network.inference_state())
    assert network.inference_state().keys() == without_classifiers(network.state_dict()).keys()
    assert torch.equal(inference.embed(images), network.eval().embed(images))
    assert inference(images).logits is None


def test_embed_refuses_training_mode(network, images):
    with pytest.raises(RuntimeError, match=r"embed\(\) needs evaluation mode; call \.eval\(\)"):
        network.train().embed(images)


def test_half_precision_ends_before_the_heads(network, images):
    with torch.autocast("cpu", torch.bfloat16):
        out = network.train()(images)
    assert {value.dtype for value in (*out.logits, *out.features)} == {torch.float32}
    sum(logits.square().mean() for logits in out.logits).backward()
    gradients = [value.grad for value in network.parameters() if value.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
