"""aibn.npz: one layer, with mixing weights inside and outside [0, 1]."""

from __future__ import annotations

import pytest
import torch

from reid_core.testing.golden import assert_parity
from reid_iics.aibn import AIBN

TOLERANCE = 1e-6  # golden README
ALPHAS = ("+0.1", "+0.5", "+0.0", "+1.0", "-0.2", "+1.3")
ENDS = (0.0, 1.0)  # where the derivative of the clamp is a convention (golden README)


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("aibn.npz")


@pytest.mark.parametrize("alpha", ALPHAS)
def test_layer(golden_input, arrays, alpha):
    expected = {
        key.removeprefix(f"a{alpha}."): value
        for key, value in arrays.items()
        if key.startswith(f"a{alpha}.")
    }
    shape = expected["train_out"].shape
    layer = AIBN(shape[1])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(layer, name).data.copy_(golden_input(f"aibn.{name}", (shape[1],)))
    layer.adaptive_weight.data.fill_(float(alpha))

    x = (2 * golden_input("aibn.x", shape) + 1).requires_grad_()
    output = layer(x)
    (output * golden_input("aibn.grad_out", shape)).sum().backward()
    found = {
        "train_out": output,
        "grad_x": x.grad,
        "grad_weight": layer.weight.grad,
        "grad_bias": layer.bias.grad,
        "running_mean_1": layer.running_mean.clone(),
        "running_var_1": layer.running_var.clone(),
    }
    if float(alpha) in ENDS:
        expected.pop("grad_alpha")
    else:
        found["grad_alpha"] = layer.adaptive_weight.grad
    layer(golden_input("aibn.x2", shape))
    found.update(running_mean_2=layer.running_mean, running_var_2=layer.running_var)
    with torch.no_grad():
        found["eval_out"] = layer.eval()(x)

    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_parity(value, expected[name], tolerance=TOLERANCE, what=f"{name} at {alpha}")


def test_no_mixing_weight_of_the_file_is_left_out(arrays):
    assert {key.rpartition(".")[0] for key in arrays} == {f"a{alpha}" for alpha in ALPHAS}
