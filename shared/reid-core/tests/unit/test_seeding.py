"""Seeds and generator states."""

# The legacy global generator is part of what a run restores.
# ruff: noqa: NPY002

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch

from reid_core.engine import capture_rng, restore_rng, seed_everything


def draw():
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        torch.rand(3).tolist(),
        torch.randn(1).tolist(),
    ]


def test_seed_repeats_and_ranks_differ():
    draws = []
    for seed, rank in [(1, 0), (1, 0), (1, 1), (2, 0)]:
        seed_everything(seed, rank)
        draws.append(draw())
    assert draws[0] == draws[1]
    assert draws[2] == draws[3]  # seed + rank, as in the official code
    assert draws[0] != draws[2]


@pytest.mark.parametrize("num_before", [0, 1, 700])
def test_state_survives_a_safe_file(num_before):
    """The cached second normal of Python and NumPy and the position in the block included."""
    seed_everything(3)
    for _ in range(num_before):
        draw()
    random.gauss(0, 1)
    np.random.randn()
    file = io.BytesIO()
    torch.save(capture_rng(), file)
    expected = [draw() for _ in range(3)]
    file.seek(0)
    restore_rng(torch.load(file, weights_only=True))
    assert [draw() for _ in range(3)] == expected


def test_states_of_absent_devices_are_left_out():
    state = capture_rng()
    state["cuda"] = state["cuda"] + [torch.zeros(16, dtype=torch.uint8)] * 64
    if not torch.cuda.is_available():
        restore_rng(state)
    assert torch.equal(torch.get_rng_state(), state["torch"])


@pytest.mark.gpu
def test_cuda_state():
    seed_everything(1)
    torch.rand(1, device="cuda")
    state = capture_rng()
    expected = torch.rand(4, device="cuda")
    restore_rng(state)
    assert torch.equal(torch.rand(4, device="cuda"), expected)
