"""units.npz and units.json: label smoothing, distances and both triplet losses, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reid_core.losses import batch_hard_triplet_euclidean, label_smoothing_cross_entropy
from reid_core.losses.pairs import euclidean_distances
from reid_core.testing.golden import assert_parity, fill

TOLERANCE = 1e-6  # golden README
MARGIN = 0.3
# What the golden README fixes and no array shows: by how much, in which of so many columns of the
# features, the identities of the `sep` cases are set apart.
APART, CLASSES = 2, 5
CASES = ("a", "b")


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("units.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("units.json")


def draw(golden, name, shape, scale=1):
    values = scale * fill(golden.input_name(f"loss.{name}"), shape)
    return torch.from_numpy(values).double().requires_grad_()


@pytest.mark.parametrize("case", CASES)
def test_label_smoothing(golden, arrays, record, case):
    expected = record[f"ce_{case}"]
    gradient = arrays[f"ce_{case}_grad"]
    logits = draw(golden, f"logits.{case}", gradient.shape, scale=3)
    loss = label_smoothing_cross_entropy(logits, torch.tensor(expected["labels"]))
    loss.backward()
    assert_parity(loss, expected["loss"], tolerance=TOLERANCE, what=case)
    assert_parity(logits.grad, gradient, tolerance=TOLERANCE, what=f"gradient of {case}")


@pytest.mark.parametrize("case", CASES)
def test_distances(golden, arrays, case):
    features = draw(golden, f"feat.{case}", arrays[f"tri_{case}_grad"].shape)
    expected = arrays[f"euclid_{case}"].astype(np.float64)
    found = euclidean_distances(features, features).detach().numpy()
    # The official diagonal is rounding noise (golden README).
    for matrix in (found, expected):
        np.fill_diagonal(matrix, 0)
    assert_parity(found, expected, tolerance=TOLERANCE, what=f"distances of {case}")


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_triplet(golden, arrays, record, case, apart):
    name = f"tri_sep_{case}" if apart else f"tri_{case}"
    features = draw(golden, f"feat.{case}", arrays[f"{name}_grad"].shape)
    pids = torch.tensor(record[name]["labels"])
    shift = APART * F.one_hot(pids % CLASSES, features.shape[1]) if apart else 0
    loss = batch_hard_triplet_euclidean(features + shift, pids, margin=MARGIN)
    loss.backward()
    assert_parity(loss, record[name]["loss"], tolerance=TOLERANCE, what=name)
    gradient = arrays[f"{name}_grad"]
    assert_parity(features.grad, gradient, tolerance=TOLERANCE, what=f"gradient of {name}")


@pytest.mark.parametrize("case", CASES)
def test_soft_margin(golden, arrays, record, case):
    features = draw(golden, f"feat.{case}", arrays[f"tri_{case}_grad"].shape)
    pids = torch.tensor(record[f"tri_{case}"]["labels"])
    loss = batch_hard_triplet_euclidean(features, pids, margin=None)
    assert_parity(loss, record[f"tri_soft_{case}"]["loss"], tolerance=TOLERANCE, what=case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_images_of_one_person(golden, arrays, record, dtype):
    gradient = arrays["tri_dup_grad"]
    assert not gradient.any()
    rows = draw(golden, "feat.dup", gradient.shape).detach()
    features = rows[[0, 0, 2, 2]].to(dtype).requires_grad_()
    pids = torch.tensor(record["tri_dup"]["labels"])
    loss = batch_hard_triplet_euclidean(features, pids, margin=MARGIN)
    loss.backward()
    assert loss.item() == record["tri_dup"]["loss"] == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_no_loss_of_the_files_is_left_out(arrays, record):
    names = {f"{kind}_{case}" for kind in ("ce", "tri", "tri_sep") for case in CASES}
    names.add("tri_dup")
    soft = {f"tri_soft_{case}" for case in CASES}
    distances = {f"euclid_{case}" for case in CASES}
    assert {key for key in record if not key.startswith("smr_")} == names | soft
    found = {key for key in arrays if not key.startswith("smr_")}
    assert found == {f"{name}_grad" for name in names} | distances
