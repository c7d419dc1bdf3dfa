"""What changes from cycle to cycle."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reid_iics.schedule import inter_lr, mixing_rate


@pytest.mark.parametrize(
    ("cycle", "expected"),
    [(0, 0.02), (20, 0.02 * 0.5**0.6), (20, 0.013195), (39, 0.0021867)],
)
def test_mixing_rate(cycle, expected):
    assert mixing_rate(cycle, num_cycles=40) == pytest.approx(expected, rel=1e-4)


def test_shapes_of_the_decay():
    assert [mixing_rate(t, num_cycles=4, initial=1.0, power=1.0) for t in range(4)] == [
        *(1.0, 0.75, 0.5, 0.25),
    ]
    assert [mixing_rate(t, num_cycles=4, initial=0.5, power=0.0) for t in range(4)] == [0.5] * 4
    assert mixing_rate(3, num_cycles=9, initial=0.0) == 0


def test_learning_rate_follows_the_batch():
    assert [inter_lr(0.005, size) for size in (32, 64, 16)] == [0.005, 0.01, 0.0025]


def test_it_imports_no_torch():
    code = "import sys, reid_iics.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
