"""fill_check.json: the generator of all golden weights and inputs."""

from __future__ import annotations

import pytest


def test_first_values_and_sums(golden, golden_fill):
    record = golden.shared_json("fill_check.json")
    assert record
    for name, expected in record.items():
        values = golden_fill(name, expected["shape"])
        assert list(values.shape) == expected["shape"], name
        assert [float(value) for value in values.flat[:3]] == expected["first3"], name
        total = values.astype(float).sum()
        assert total == pytest.approx(expected["sum_float64"], rel=1e-12), name
