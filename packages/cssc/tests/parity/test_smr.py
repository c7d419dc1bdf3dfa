"""units.npz: SMR blocks alone, with both poolings, with and without rows outside the stripes."""

from __future__ import annotations

import pytest
import torch

from reid_core.testing.golden import assert_parity, fill, fill_module
from reid_cssc.model import SMR

TOLERANCE = 1e-5  # golden README

# Sizes of the golden blocks that no array shows (golden README); the map is (B, C, H, 3).
PART_DIM, REDUCTION, WIDTH = 4, 4, 3
CASES = [(pooling, height) for pooling in ("avg", "max") for height in (24, 26)]


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("units.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("units.json")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}_h{case[1]}")
def case(request, golden, arrays):
    """The block, its input with a gradient, everything computed, and the golden prefix."""
    pooling, height = request.param
    name = f"{pooling}_h{height}"
    count, num_channels = arrays[f"smr_{name}_g"].shape
    block = SMR(
        num_channels,
        pooling=pooling,
        num_pids=arrays[f"smr_{name}_y"].shape[1],
        part_dim=PART_DIM,
        reduction=REDUCTION,
    )
    fill_module(block, "smr_unit")
    shape = (count, num_channels, height, WIDTH)
    feature_map = torch.from_numpy(fill(golden.input_name(f"smr.x_{name}"), shape))
    feature_map.requires_grad_()
    out = block.train()(feature_map)
    parts = (out.feature_map, out.features, out.logits)
    total = sum(
        (part * torch.from_numpy(fill(golden.input_name(f"smr.r{i}_{name}"), part.shape))).sum()
        for i, part in enumerate(parts, start=1)
    )
    total.backward()
    return block, feature_map, out, total, f"smr_{name}"


def check(found, arrays, name):
    assert_parity(found, arrays[name], tolerance=TOLERANCE, what=name)


def test_forward_in_training(case, arrays):
    block, _, out, _, name = case
    check(out.features, arrays, f"{name}_g")
    check(out.logits, arrays, f"{name}_y")
    check(block.gate(out.features), arrays, f"{name}_gate")
    check(out.feature_map.mean(dim=(2, 3)), arrays, f"{name}_refined_mean")


def test_gradients(case, arrays, record):
    block, feature_map, _, total, name = case
    expected = record[name]
    assert total.item() == pytest.approx(expected["S"], rel=TOLERANCE)
    check(feature_map.grad.mean(dim=(2, 3)), arrays, f"{name}_dx_meanhw")
    rows = feature_map.grad.abs().sum(dim=(0, 1, 3))
    check(rows, arrays, f"{name}_dx_rows")
    norms = {
        key: parameter.grad.norm().item()
        for key, parameter in block.named_parameters()
        if parameter.requires_grad
    }
    assert norms == {
        key: pytest.approx(value, rel=TOLERANCE) for key, value in expected["grad_norms"].items()
    }


def test_evaluation_mode(case, arrays):
    block, feature_map, _, _, name = case
    with torch.no_grad():
        out = block.eval()(feature_map)
    assert out.logits is None
    check(out.feature_map.mean(dim=(2, 3)), arrays, f"{name}_eval_refined_mean")


def test_no_array_of_the_file_is_left_out(arrays):
    names = {name.rpartition("_h")[0] for name in arrays if name.startswith("smr_")}
    assert names == {f"smr_{pooling}" for pooling, _ in CASES}
