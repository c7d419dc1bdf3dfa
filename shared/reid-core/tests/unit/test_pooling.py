"""Global poolings against loops over positions."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from reid_core.errors import ConfigError
from reid_core.models import PoolingName, build_pooling
from reid_core.models.pooling import GeM, pool_stripes


def positions(feature_map):
    """All (batch, channel) value lists."""
    for image in feature_map:
        for channel in image:
            yield channel.flatten().tolist()


REFERENCES = {
    "avg": lambda values: [sum(values) / len(values)],
    "max": lambda values: [max(values)],
    "gem": lambda values: [(sum(max(v, 1e-6) ** 3 for v in values) / len(values)) ** (1 / 3)],
}


@pytest.mark.parametrize("name", list(REFERENCES))
def test_against_a_loop(name):
    feature_map = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    pooling = build_pooling(name).double()
    expected = torch.tensor([REFERENCES[name](values) for values in positions(feature_map)])
    found = pooling(feature_map)
    assert found.shape == (2, 3 * pooling.expansion)
    assert torch.allclose(found.flatten(), expected.double().flatten(), rtol=1e-7)


def test_maxavg_is_maximum_then_mean():
    feature_map = torch.randn(2, 3, 4, 5)
    pooling = build_pooling("maxavg")
    found = pooling(feature_map)
    assert pooling.expansion == 2
    assert torch.equal(found[:, :3], feature_map.amax(dim=(2, 3)))
    assert torch.equal(found[:, 3:], feature_map.mean(dim=(2, 3)))


def test_every_name_can_be_built():
    for name in get_args(PoolingName):
        assert build_pooling(name)(torch.rand(2, 4, 3, 3)).shape[0] == 2


def test_unknown_name():
    with pytest.raises(
        ConfigError, match=r"unknown pooling 'mean'; choose one of avg, max, gem, maxavg"
    ):
        build_pooling("mean")


def test_gem_interpolates_between_mean_and_maximum():
    feature_map = torch.rand(2, 3, 4, 4)
    assert torch.allclose(GeM(p=1.0)(feature_map), feature_map.mean(dim=(2, 3)), rtol=1e-5)
    assert torch.allclose(GeM(p=200.0)(feature_map), feature_map.amax(dim=(2, 3)), rtol=0.02)


def test_gem_is_finite_with_gradient_on_a_dead_map():
    feature_map = torch.zeros(2, 3, 4, 4, requires_grad=True)
    pooling = GeM()
    pooling(feature_map).sum().backward()
    assert torch.isfinite(feature_map.grad).all()
    assert torch.isfinite(pooling.p.grad).all()
    assert list(pooling.state_dict()) == ["p"]


@pytest.mark.parametrize("learn_p", [True, False])
def test_gem_with_an_added_epsilon(learn_p):
    """AGW's: nothing is bounded below; the epsilon is outside the mean."""
    feature_map = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    feature_map[0, 0] = 0
    eps = 1e-3
    pooling = GeM(p=2.5, eps=eps, learn_p=learn_p, add_eps=True).double()
    assert list(pooling.state_dict()) == (["p"] if learn_p else [])
    found = pooling(feature_map).flatten().tolist()
    for one, values in zip(found, positions(feature_map), strict=True):
        mean = sum(value**2.5 for value in values) / len(values)
        assert one == pytest.approx((mean + eps) ** (1 / 2.5), rel=1e-9)


def test_gem_with_an_added_epsilon_has_finite_gradients_where_all_is_zero():
    feature_map = torch.zeros(2, 3, 4, 4).half().requires_grad_()
    GeM(eps=1e-12, learn_p=False, add_eps=True)(feature_map).sum().backward()
    assert torch.equal(feature_map.grad, torch.zeros_like(feature_map))


def test_of_equal_maxima_one_takes_the_gradient():
    feature_map = torch.ones(1, 1, 2, 2, requires_grad=True)
    build_pooling("max")(feature_map).sum().backward()
    assert sorted(feature_map.grad.flatten().tolist()) == [0, 0, 0, 1]


@pytest.mark.parametrize("name", get_args(PoolingName))
def test_half_precision_maps_are_pooled_in_float32(name):
    # 4,096 values of which bfloat16 sums would lose most.
    feature_map = torch.rand(1, 2, 64, 64).bfloat16()
    found = build_pooling(name)(feature_map)
    assert found.dtype == torch.float32
    assert torch.allclose(found, build_pooling(name)(feature_map.float()))


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", lambda x: sum(x) / len(x)), ("max", max)])
@pytest.mark.parametrize(("height", "num_stripes"), [(8, 8), (10, 3), (26, 8), (5, 1)])
def test_stripes_against_a_loop(pooling, reduce, height, num_stripes):
    feature_map = torch.randn(2, 3, height, 4, dtype=torch.float64)
    rows = height // num_stripes
    found = pool_stripes(feature_map, num_stripes, pooling=pooling)
    assert found.shape == (2, 3, num_stripes)
    for i in range(num_stripes):
        stripe = feature_map[:, :, i * rows : (i + 1) * rows]
        expected = [reduce(values) for values in positions(stripe)]
        assert found[:, :, i].flatten().tolist() == pytest.approx(expected, rel=1e-12)
