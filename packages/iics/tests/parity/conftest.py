"""Golden values, images and figures that the tests of the golden network share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core.testing.golden import fill, fill_uniform, fill_weight
from reid_iics.model import IICS, Head
from reid_iics.step import build_optimizer

MIXING = ".adaptive_weight"
FILLED_AS_WEIGHTS = (".weight", ".bias", ".running_mean", ".running_var", "num_batches_tracked")

BLOCK = 16  # golden README: side of the blocks of equal pixels in the images trained with
PATTERN = (3, 8, 4)  # colours, rows and columns of blocks
NOISE = np.float32(0.5)

WEIGHT_DECAY = 5e-4  # official; the learning rates are those of the golden README


@pytest.fixture(scope="session")
def golden_fill():
    """Return a function from a name and a shape to golden values (golden README)."""

    def values(name, shape):
        if name.endswith(MIXING):
            return fill_uniform(name, shape, 0.05, 0.95)
        return (fill_weight if name.endswith(FILLED_AS_WEIGHTS) else fill)(name, shape)

    return values


@pytest.fixture(scope="module")
def golden_input(golden, golden_fill):
    """Return a function from the end of an input's name and a shape to its values.

    Names of the public set have no prefix (golden README).
    """
    prefix = "" if golden.name == "public" else f"{golden.name}."

    def values(suffix, shape):
        return torch.from_numpy(golden_fill(f"{prefix}{suffix}", shape))

    return values


@pytest.fixture(scope="session")
def fill_network(golden_fill):
    """Return a function that loads golden weights into a module.

    Values are float32, cast to the module's type afterwards. Layers have the mixing weight of
    their block.
    """

    def load(module, prefix=""):
        state = {}
        for key, old in module.state_dict().items():
            name = f"{prefix}{key}"
            if name.endswith(MIXING):
                name = ".".join(name.split(".")[:3]) + MIXING  # model.layer3.0.adaptive_weight
            state[key] = torch.from_numpy(golden_fill(name, old.shape))
        module.load_state_dict(state)
        return module

    return load


@pytest.fixture(scope="module")
def golden_batch(golden_input):
    """Return a function from labels and the start of the names to images (B, 3, 128, 64)."""

    def batch(labels, start="train."):
        height, width = (BLOCK * size for size in PATTERN[1:])
        images = []
        for number, label in enumerate(labels):
            pattern = golden_input(f"{start}pattern.{label}", PATTERN)
            noise = golden_input(f"{start}noise.{number}", (PATTERN[0], height, width))
            blocks = pattern.repeat_interleave(BLOCK, dim=1).repeat_interleave(BLOCK, dim=2)
            images.append(blocks + NOISE * noise)
        return torch.stack(images)

    return batch


@pytest.fixture(scope="module")
def train(fill_network):
    """Return a function that makes a float64 network with golden weights and trains it.

    Its arguments are the heads, their learning rate, the class of the step, the arguments of its
    calls and how many there are. It returns, under official names:

    - of the first iteration: outputs of the network and of the heads (lists, one per pass), running
      ``statistics`` after it, and ``gradients``;
    - of all: what the calls returned (``terms``), and the ``before`` and ``after`` state.
    """

    def run(heads, lr, step_class, batch, num_steps):
        network = fill_network(IICS()).double().train()
        fill_network(heads, "classifier.").double().train()
        optimizer = build_optimizer(network, heads, lr=lr, weight_decay=WEIGHT_DECAY)
        found = SimpleNamespace(features=[], logits=[], terms=[], gradients=None)

        def state():
            values = {**network.state_dict(prefix=""), **heads.state_dict(prefix="classifier.")}
            return {name: value.clone() for name, value in values.items()}

        def look(parameters):
            if found.gradients is not None:
                return
            found.statistics = {name: value for name, value in state().items() if ".run" in name}
            found.gradients = {
                f"{prefix}{name}": parameter.grad.clone()
                for prefix, module in (("", network), ("classifier.", heads))
                for name, parameter in module.named_parameters()
                if parameter.grad is not None
            }

        single = (heads,) if isinstance(heads, Head) else tuple(heads)
        for module, outputs in [(network, found.features), *((h, found.logits) for h in single)]:
            module.register_forward_hook(
                lambda module, inputs, output, outputs=outputs: outputs.append(output.detach())
            )
        found.before = state()
        step = step_class(network, heads, optimizer, synchronize=look)
        for number in range(num_steps):
            found.terms.append(step(*batch))
            if number == 0:
                found.features, found.logits = list(found.features), list(found.logits)
        found.after = state()
        return found

    return run


def top_level(name):
    """Return the name under which the golden files add up a parameter."""
    if name.endswith(MIXING):
        return MIXING.strip(".")
    return name.split(".")[0 if name.startswith("classifier") else 1]


@pytest.fixture(scope="session")
def module_norms():
    """Return a function from values by official parameter name to L2 norms by top-level module."""

    def norms(values):
        squares = {}
        for name, value in values.items():
            part = top_level(name)
            squares[part] = squares.get(part, 0.0) + value.detach().double().square().sum().item()
        return {part: square**0.5 for part, square in squares.items()}

    return norms


@pytest.fixture(scope="session")
def sum_and_norm():
    """Return a function from a tensor to its sum and its L2 norm."""
    return lambda values: [values.double().sum().item(), values.double().norm().item()]
