"""official_layout_checkpoint.pth: a file with NumPy numbers, as the official code saves it."""

from __future__ import annotations

import pickle

import pytest
import torch

from reid_core.testing.golden import fill_weight
from reid_cssc.weights import read_official


@pytest.fixture(scope="module")
def path(golden):
    return golden.shared_path("official_layout_checkpoint.pth")


def test_torch_refuses_it(path):
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(path, weights_only=True)


def test_it_is_read_without_unsafe_unpickling(path, monkeypatch):
    def unsafe(*args, **kwargs):
        raise AssertionError("an unsafe unpickler was used")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, unsafe)
    checkpoint = read_official(path)
    assert (checkpoint.rank1, checkpoint.mean_ap, checkpoint.epoch) == (0.5, 0.25, 44)
    assert checkpoint.optimizer["param_groups"][0]["initial_lr"] == 3e-4
    assert list(checkpoint.state) == ["bottleneck.weight", "bottleneck.num_batches_tracked"]
    weight = checkpoint.state["bottleneck.weight"]
    expected = fill_weight("bottleneck.weight", weight.shape)
    assert torch.equal(weight, torch.from_numpy(expected))
    assert checkpoint.state["bottleneck.num_batches_tracked"] == 7
