"""The AGW network: stems, non-local blocks, pooling, gradient paths, mixed precision, errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from reid_agw.model import AGW, NonLocal
from reid_core.errors import ConfigError
from reid_core.models.footprint import training_footprint
from reid_core.models.resnet import ResNetTrunk

NUM_PIDS = 4


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def stir(network):
    """Give the non-local blocks, which start as the identity, and the statistics other values."""
    for block in network.modules():
        if isinstance(block, NonLocal):
            nn.init.uniform_(block.norm.weight, 0.5, 1.5)
            nn.init.normal_(block.norm.bias, std=0.1)
    network.train()(torch.randn(8, 3, 64, 32))
    return network.eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return stir(AGW(NUM_PIDS, backbone="resnet18"))


@pytest.fixture
def images():
    return torch.randn(6, 3, 64, 32)


def loop_non_local(block, x):
    """Every pair of positions, as the paper of the block words it."""
    count, _, height, width = x.shape
    theta, phi, g = (layer(x).flatten(2) for layer in (block.theta, block.phi, block.g))
    n = height * width
    y = torch.zeros_like(g)
    for image in range(count):
        for i in range(n):
            for j in range(n):
                affinity = (theta[image, :, i] * phi[image, :, j]).sum() / n
                y[image, :, i] += affinity * g[image, :, j]
    return x + block.norm(block.project(y.view(count, -1, height, width)))


@pytest.mark.parametrize("width", [1, 3, 16])
@pytest.mark.parametrize("training", [True, False])
def test_non_local_against_all_pairs(width, training):
    block = NonLocal(32, width).double().train(training)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    reference = copy.deepcopy(block)
    x = torch.randn(3, 32, 5, 3, dtype=torch.float64, requires_grad=True)
    found, expected = block(x), loop_non_local(reference, x)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(block.norm.running_var, reference.norm.running_var, rtol=1e-12)
    weights = torch.randn_like(found)
    names, parameters = zip(*block.named_parameters(), strict=True)
    ours = torch.autograd.grad((found * weights).sum(), [x, *parameters])
    theirs = torch.autograd.grad((expected * weights).sum(), [x, *reference.parameters()])
    for name, one, other in zip(("x", *names), ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9), name


def test_non_local_starts_as_the_identity():
    x = torch.randn(2, 64, 6, 3)
    assert torch.equal(NonLocal(64).train()(x), x)
    network = AGW(None, backbone="resnet18").eval()
    plain = AGW(None, backbone="resnet18", non_local=False).eval()
    plain.load_state_dict(
        {key: value for key, value in network.state_dict().items() if "non_local" not in key}
    )
    images, infrared = torch.randn(2, 3, 64, 32), torch.tensor([True, False])
    assert torch.equal(network.embed(images, infrared), plain.embed(images, infrared))


@pytest.mark.parametrize(
    ("backbone", "dim", "after2", "after3"),
    [
        ("resnet10", 512, [0], [0]),
        ("resnet18", 512, [0, 1], [0, 1]),
        ("resnet34", 512, [2, 3], [3, 4, 5]),
        ("resnet50", 2048, [2, 3], [3, 4, 5]),
    ],
)
def test_backbones(backbone, dim, after2, after3):
    """After which blocks of the second and third stage the non-local blocks come."""
    with torch.device("meta"):
        network = AGW(NUM_PIDS, backbone=backbone)
        order = []
        for name, module in network.named_modules():
            if name.startswith(("layer", "non_local")) and name.count(".") == 1:
                module.register_forward_hook(lambda *_, name=name: order.append(name))
        out = network(torch.empty(2, 3, 64, 32))
    assert network.embedding_dim == dim == out.features.shape[1]
    for stage, expected in ((2, after2), (3, after3)):
        found = [
            order[i - 1] for i, name in enumerate(order) if name.startswith(f"non_local{stage}.")
        ]
        assert found == [f"layer{stage}.{block}" for block in expected]
    channels = {block.project.out_channels for block in network.non_local3}
    assert channels == {dim // 2}


def test_outputs_in_training_and_evaluation(network, images):
    out = copy.deepcopy(network).train()(images)
    assert out.features.shape == (6, 512)
    assert out.logits.shape == (6, NUM_PIDS)
    assert network(images).logits is None
    both = network.embed_each(images, torch.tensor([True, False] * 3))
    assert both.shape == (6, len(AGW.feature_names), 512)


def test_the_first_half_is_visible(network, images):
    infrared = torch.tensor([False] * 3 + [True] * 3)
    with torch.no_grad():
        pooled = network.embed_each(images, infrared)[:, AGW.feature_names.index("pool")]
        assert torch.allclose(network(images).features, pooled, atol=1e-6)


def test_embed_is_the_feature_after_the_neck(network, images):
    infrared = torch.tensor([True, False] * 3)
    with torch.no_grad():
        both = network.embed_each(images, infrared)
        assert torch.equal(network.embed(images, infrared), both[:, 0])
        assert torch.allclose(network.bottleneck(both[:, 1]), both[:, 0])


def test_features_do_not_depend_on_the_mixture(network, images):
    infrared = torch.tensor([True, False, False, True, True, False])
    with torch.no_grad():
        mixed = network.embed(images, infrared)
        visible = network.embed(images, torch.zeros(6, dtype=torch.bool))
        thermal = network.embed(images, torch.ones(6, dtype=torch.bool))
    assert torch.equal(mixed, torch.where(infrared[:, None], thermal, visible))
    assert (thermal - visible).abs().amax(dim=1).min() > 1e-3


def test_the_stems_start_equal_and_are_not_tied():
    fresh = AGW(NUM_PIDS, backbone="resnet10")
    pairs = zip(fresh.stem_visible.parameters(), fresh.stem_infrared.parameters(), strict=True)
    for one, other in pairs:
        assert torch.equal(one, other)
        assert one is not other


def test_statistics_of_stems_and_of_shared_parts():
    """A stem's batch norm sees its own modality, the shared ones both."""
    network = AGW(NUM_PIDS, backbone="resnet10").train()
    visible, infrared = torch.randn(4, 3, 64, 32), 3 + 2 * torch.randn(4, 3, 64, 32)
    seen = {}
    for name in ("stem_visible.bn1", "stem_infrared.bn1", "layer1.0.bn1", "bottleneck"):
        network.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].detach()})
        )
    network(torch.cat([visible, infrared]))
    assert {name: len(value) for name, value in seen.items()} == {
        **dict.fromkeys(("stem_visible.bn1", "stem_infrared.bn1"), 4),
        **dict.fromkeys(("layer1.0.bn1", "bottleneck"), 8),
    }
    for name, value in seen.items():
        mean = value.transpose(0, 1).flatten(1).mean(dim=1)
        found = network.get_submodule(name).running_mean
        assert torch.allclose(found, 0.1 * mean, rtol=1e-3, atol=1e-4), name


def test_every_parameter_gets_a_gradient_but_the_frozen_shift(images):
    network = AGW(NUM_PIDS, backbone="resnet18").train()
    for block in (*network.non_local2, *network.non_local3):
        nn.init.ones_(block.norm.weight)
    out = network(images)
    (out.features.square().sum() + out.logits.square().sum()).backward()
    lacking = [name for name, value in network.named_parameters() if value.grad is None]
    assert lacking == ["bottleneck.bias"]


def test_initial_values():
    network = AGW(1000, backbone="resnet10")
    assert network.bottleneck.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert network.bottleneck.weight.mean().item() == pytest.approx(1, abs=0.002)
    assert not network.bottleneck.bias.any()
    assert network.classifier.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert network.classifier.bias is None
    for block in (*network.non_local2, *network.non_local3):
        assert not block.norm.weight.any()
        assert not block.norm.bias.any()
        channels = block.theta.in_channels
        for layer in (block.theta, block.phi, block.g):
            assert layer.weight.abs().max() <= channels**-0.5
            assert layer.bias.abs().max() <= channels**-0.5


def test_parameter_groups(network):
    groups = network.parameter_groups()
    assert [
        item is parameter
        for item, parameter in zip(groups.bottleneck, network.bottleneck.parameters(), strict=True)
    ] == [True, True]
    assert groups.classifier == [network.classifier.weight]
    numbers = sorted(id(item) for group in groups for item in group)
    assert numbers == sorted(map(id, network.parameters()))
    assert AGW(None, backbone="resnet10").parameter_groups().classifier == []


def test_the_test_time_network_embeds_alike(network, images):
    inference = AGW(None, backbone="resnet18").eval()
    inference.load_state_dict(network.inference_state())
    infrared = torch.tensor([True, False] * 3)
    with torch.no_grad():
        assert torch.equal(inference.embed(images, infrared), network.embed(images, infrared))


def test_start_weights_reach_both_stems_and_the_stages(tmp_path):
    trunk = ResNetTrunk("resnet10")
    torch.save(trunk.state_dict(), tmp_path / "start.pth")
    network = AGW(None, backbone="resnet10", weights=tmp_path / "start.pth")
    for key, value in trunk.state_dict().items():
        names = [key] if key.startswith("layer") else [f"stem_{m}.{key}" for m in MODALITIES]
        for name in names:
            assert torch.equal(network.state_dict()[name], value), name


MODALITIES = ("visible", "infrared")


def test_last_stride():
    for stride, rows in ((1, 4), (2, 2)):
        network = AGW(None, backbone="resnet10", last_stride=stride).eval()
        shapes = []
        network.layer4.register_forward_hook(lambda m, i, out, s=shapes: s.append(out.shape[2]))
        network.embed(torch.randn(1, 3, 64, 32), torch.tensor([True]))
        assert shapes == [rows]


def test_a_learned_exponent_is_trained(images):
    network = AGW(NUM_PIDS, backbone="resnet10", learn_gem=True, gem_p=2.0).train()
    network(images).features.sum().backward()
    assert network.pool.p.item() == 2.0
    assert network.pool.p.grad.abs() > 0
    assert any(item is network.pool.p for item in network.parameter_groups().backbone)
    assert "pool.p" not in AGW(NUM_PIDS, backbone="resnet10").state_dict()


def test_inner_width_of_the_non_local_blocks():
    network = AGW(None, backbone="resnet10", nonlocal_ratio=2)
    assert [b.theta.out_channels for b in (*network.non_local2, *network.non_local3)] == [64, 128]


def test_memory_of_a_training_step_is_found_without_taking_it():
    network = AGW(NUM_PIDS, backbone="resnet10")
    small, large = (training_footprint(network, (count, 3, 64, 32)) for count in (4, 8))
    assert 0 < small < large


def test_embed_refuses_training_mode(images):
    network = AGW(NUM_PIDS, backbone="resnet10").train()
    with pytest.raises(RuntimeError, match=r"embed\(\) needs evaluation mode; call \.eval\(\)"):
        network.embed(images, torch.zeros(6, dtype=torch.bool))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, r"unknown pooling 'max'; choose one of gem, avg"),
        ({"gem_p": 0.0}, r"gem_p=0\.0 must be above 0; the official value is 3"),
        ({"nonlocal_ratio": 0}, r"nonlocal_ratio=0 must be from 1 to 128, the channels of the map"),
        ({"nonlocal_ratio": 129}, r"nonlocal_ratio=129 must be from 1 to 128"),
        ({"last_stride": 3}, r"last_stride=3 must be 1 or 2"),
    ],
)
def test_options_outside_their_range(options, message):
    with pytest.raises(ConfigError, match=message):
        AGW(None, backbone="resnet10", **options)


def test_an_odd_batch_is_refused(network):
    with pytest.raises(ConfigError, match=r"this one has 3 images; use an even number"):
        network(torch.randn(3, 3, 64, 32))


def test_autocast_covers_the_backbone_only(images):
    network = AGW(NUM_PIDS, backbone="resnet10").train()
    for block in (*network.non_local2, *network.non_local3):
        nn.init.ones_(block.norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(images)
        refined = network.non_local2[0](torch.randn(2, 128, 8, 4, dtype=torch.bfloat16))
    assert {value.dtype for value in out} == {torch.float32}
    assert refined.dtype == torch.bfloat16
    (out.features.square().mean() + out.logits.square().mean()).backward()
    trained = [item for item in network.parameters() if item.requires_grad]
    assert all(torch.isfinite(item.grad).all() for item in trained)


def test_a_large_map_does_not_overflow_the_attention():
    """A product of three values: beyond float16's range long before the values are."""
    block = NonLocal(16).train()
    nn.init.ones_(block.norm.weight)
    x = torch.randn(4, 16, 6, 3).half() * 100
    assert torch.isfinite(block._attend(torch.randn(4, 3, 6, 3).half() * 1000)).all()
    with torch.autocast("cpu", torch.float16):
        assert torch.isfinite(block(x)).all()
