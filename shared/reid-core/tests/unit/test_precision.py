"""in_float32: half-precision arguments are raised, autocast is left, everything else untouched."""

from __future__ import annotations

import pytest
import torch

from reid_core.precision import in_float32


@in_float32
def product(left, right, *, scale=1.0):
    """Multiply."""
    return left @ right * scale


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_arguments_become_float32_and_get_their_gradient(dtype):
    left = torch.full((2, 2), 0.1, dtype=dtype, requires_grad=True)
    result = product(left, right=left)
    assert result.dtype == torch.float32
    result.sum().backward()
    assert left.grad.dtype == dtype
    assert left.grad.abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_passes_unchanged(dtype):
    left = torch.rand(3, 3, dtype=dtype)
    assert torch.equal(product(left, left, scale=2.0), left @ left * 2)


def test_body_runs_outside_autocast():
    values = torch.rand(4, 4)
    expected = values @ values
    with torch.autocast("cpu", torch.bfloat16):
        assert (values @ values).dtype == torch.bfloat16
        assert torch.equal(product(values, values), expected)
        assert (values @ values).dtype == torch.bfloat16
    assert product(values, values).dtype == torch.float32


def test_keeps_name_and_docstring():
    assert product.__name__ == "product"
    assert product.__doc__ == "Multiply."
