"""AIBN: loop references, gradients, mixed precision, what it is made from, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from reid_core.errors import ConfigError
from reid_iics import aibn
from reid_iics.aibn import AIBN, share_mixing

SHAPES = [(4, 3, 5, 2), (1, 3, 4, 4), (3, 2, 1, 2), (2, 1, 16, 8)]
ALPHAS = [0.0, 0.1, 0.7, 1.0, -0.4, 1.6]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def make(channels, alpha=0.3, dtype=torch.float64):
    """A layer whose values all differ from their start."""
    layer = AIBN(channels)
    with torch.no_grad():
        for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            value.uniform_(0.5, 1.5)
        layer.adaptive_weight.fill_(alpha)
    return layer.to(dtype)


def loop(layer, x, training):
    """The layer image by image and channel by channel; also the batch's statistics."""
    alpha = min(max(layer.adaptive_weight.item(), 0), 1)
    num_images, channels = x.shape[:2]
    output, batch_means, batch_variances = torch.empty_like(x), [], []
    for c in range(channels):
        maps = [x[n, c].flatten().tolist() for n in range(num_images)]
        means = [sum(values) / len(values) for values in maps]
        variances = [
            sum((value - mean) ** 2 for value in values) / (len(values) - 1)
            for values, mean in zip(maps, means, strict=True)
        ]
        batch_mean = sum(means) / num_images
        squares = [v + m * m for m, v in zip(means, variances, strict=True)]
        batch_variance = sum(squares) / num_images - batch_mean**2
        batch_means.append(batch_mean)
        batch_variances.append(batch_variance)
        if not training:
            batch_mean, batch_variance = layer.running_mean[c].item(), layer.running_var[c].item()
        for n in range(num_images):
            mean = (1 - alpha) * means[n] + alpha * batch_mean
            variance = (1 - alpha) * variances[n] + alpha * batch_variance
            normalised = (x[n, c] - mean) / (variance + 1e-5) ** 0.5
            output[n, c] = layer.weight[c] * normalised + layer.bias[c]
    return output.detach(), torch.tensor(batch_means), torch.tensor(batch_variances)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_a_loop(shape, alpha):
    layer = make(shape[1], alpha)
    x = 2 * torch.randn(shape, dtype=torch.float64) + 3
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    expected, *statistics = loop(layer, x, training=True)
    assert torch.allclose(layer(x), expected, rtol=1e-12, atol=1e-12)
    for (name, old), now in zip(before.items(), statistics, strict=True):
        found = layer.get_buffer(name)
        assert torch.allclose(found, 0.9 * old + 0.1 * now.double(), rtol=1e-6, atol=1e-7), name
        assert not found.requires_grad
    expected, *_ = loop(layer, x, training=False)
    given = x.clone()
    assert torch.allclose(layer.eval()(x), expected, rtol=1e-12, atol=1e-12)
    with torch.inference_mode():
        assert torch.allclose(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, given), "the map itself is not changed"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("alpha", [0.3, -0.5, 1.5])
@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (1, 2, 3, 1)])
def test_gradients_against_finite_differences(shape, alpha, training):
    layer = make(shape[1], alpha).train(training)
    names = ("weight", "bias", "adaptive_weight")
    values = [getattr(layer, name).detach().clone().requires_grad_() for name in names]
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def run(feature_map, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (feature_map,))

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize("alpha", [-0.2, 1.3])
def test_no_gradient_for_a_mixing_weight_outside_its_range(alpha):
    layer = make(2, alpha)
    layer(torch.randn(3, 2, 4, 2, dtype=torch.float64)).square().sum().backward()
    assert layer.adaptive_weight.grad.tolist() == [0]


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_one_image_alone_is_normalised_by_itself(alpha):
    layer = make(2, alpha)
    x = torch.randn(1, 2, 4, 2, dtype=torch.float64)
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True)
    normalised = (x - mean) / (variance + 1e-5).sqrt()
    expected = layer.weight[:, None, None] * normalised + layer.bias[:, None, None]
    assert torch.allclose(layer(x), expected, rtol=1e-12)


def test_evaluation_looks_at_each_image_alone():
    layer = make(3).eval()
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(layer(x)[1:2], layer(x[1:2]))


@pytest.mark.parametrize("shape", [(3, 4, 6, 2), (1, 1, 1, 2), (2, 5, 3, 3)])
def test_both_forms_of_the_gradients_sums(shape):
    first, second = torch.randn(2, *shape, dtype=torch.float64)
    centre = torch.randn(shape[:2], dtype=torch.float64)
    fused = aibn._fused_sums(first, second, centre)
    plain = aibn._plain_sums(first, second, centre)
    for one, other in zip(fused, plain, strict=True):
        assert one.shape == other.shape == shape[:2]
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_memory_layout_does_not_matter(training):
    layer = make(4).train(training)
    x = torch.randn(3, 4, 6, 2, dtype=torch.float64)
    found = {}
    for name, layout in {
        "plain": x,
        "last": x.to(memory_format=torch.channels_last),
        "view": x.transpose(2, 3).contiguous().transpose(2, 3),
    }.items():
        values = layout.detach().requires_grad_()
        output = layer(values)
        gradient = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(x)
        found[name] = (output, torch.autograd.grad(output, values, gradient)[0])
    for name in ("last", "view"):
        for one, other in zip(found["plain"], found[name], strict=True):
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("training", [True, False])
def test_float32_with_a_mean_far_from_zero(training):
    layer = make(2).train(training)
    x = torch.randn(4, 2, 16, 8) + 100
    exact = layer(x.double())
    found = make(2, dtype=torch.float32).train(training)
    found.load_state_dict({name: value.float() for name, value in layer.state_dict().items()})
    assert (found(x) - exact).abs().max() < 1e-4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_have_float32_statistics(dtype, training):
    half, full = make(3, dtype=torch.float32), make(3, dtype=torch.float32)
    full.load_state_dict(half.state_dict())
    x = (torch.randn(8, 3, 16, 8) + 5).to(dtype)
    outputs, gradients = [], []
    for layer, values in ((half, x), (full, x.float())):
        leaf = values.detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            outputs.append(layer.train(training)(leaf))
        outputs[-1].float().pow(3).mean().backward()
        gradients.append([leaf.grad, *(value.grad for value in layer.parameters())])
    assert [value.dtype for value in outputs] == [dtype, torch.float32]
    precision = torch.finfo(dtype).eps
    assert torch.allclose(outputs[0].float(), outputs[1], rtol=precision, atol=precision)
    for name in ("running_mean", "running_var"):
        assert torch.equal(half.get_buffer(name), full.get_buffer(name)), name
    assert [value.dtype for value in gradients[0]] == [dtype, *[torch.float32] * 3]
    for one, other in zip(*gradients, strict=True):
        scale = other.abs().max().item()
        assert (one.float() - other).abs().max() <= 16 * precision * scale


def test_takes_the_place_of_a_batch_norm():
    norm = nn.BatchNorm2d(3, eps=1e-3).double()
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        value.data.uniform_(0.5, 1.5)
    layer = AIBN.from_batchnorm(norm, init=0.25)
    assert (layer.eps, layer.adaptive_weight.item()) == (1e-3, 0.25)
    for name in ("weight", "bias", "running_mean", "running_var"):
        found = getattr(layer, name)
        assert torch.equal(found, getattr(norm, name)), name
        assert found.dtype == torch.float64, name
        assert found.data_ptr() != getattr(norm, name).data_ptr(), name
    assert layer.weight.requires_grad
    assert "num_batches_tracked" not in layer.state_dict()


def test_start():
    layer = AIBN(2)
    assert [(name, value.tolist()) for name, value in layer.state_dict().items()] == [
        ("weight", [1, 1]),
        ("bias", [0, 0]),
        ("adaptive_weight", pytest.approx([0.1])),
        ("running_mean", [0, 0]),
        ("running_var", [1, 1]),
    ]


def test_a_block_shares_one_mixing_weight():
    block = BasicBlock(2, 2, downsample=nn.Sequential(nn.Conv2d(2, 2, 1), AIBN(2)), norm_layer=AIBN)
    share_mixing(block, init=0.75)
    names = [name for name, _ in block.named_parameters() if name.endswith("adaptive_weight")]
    assert names == ["adaptive_weight"]
    assert next(iter(block.state_dict())) == "adaptive_weight"
    aliases = [key for key in block.state_dict() if key.endswith(".adaptive_weight")]
    assert aliases == [f"{name}.adaptive_weight" for name in ("bn1", "bn2", "downsample.1")]
    block(torch.randn(2, 2, 4, 4)).square().sum().backward()
    assert block.adaptive_weight.grad.item() != 0
    assert block.bn2.adaptive_weight is block.adaptive_weight


@pytest.mark.parametrize("training", [True, False])
def test_one_position_is_refused(training):
    with pytest.raises(ConfigError, match=r"a map is 1 x 1; use images larger than 16 x 16 pixels"):
        AIBN(2).train(training)(torch.randn(4, 2, 1, 1))


@pytest.mark.parametrize("init", [-0.1, 1.1, float("nan")])
def test_initial_mixing_weight_out_of_range(init):
    with pytest.raises(ConfigError, match=rf"mixing weight of AIBN is {init}; it must lie in \[0"):
        AIBN(2, init=init)
