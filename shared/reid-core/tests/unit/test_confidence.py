"""Bootstrap intervals: against a loop, an analytic case, and what they must not depend on."""

import numpy as np
import pytest

from reid_core.errors import ConfigError
from reid_core.evaluation import confidence
from reid_core.evaluation.confidence import bootstrap_intervals


def by_loop(values, *, level, resamples, seed, groups=None):
    """Resample one at a time, groups with all of their queries."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(values)) if groups is None else groups
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    means = []
    for _ in range(resamples):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[index] for index in drawn])
        means.append(values[rows].mean(axis=0))
    tail = (100 - level) / 2
    return np.percentile(means, [tail, 100 - tail], axis=0).T


@pytest.mark.parametrize("grouped", [False, True])
def test_equals_a_loop(grouped):
    rng = np.random.default_rng(3)
    values = rng.random((41, 3))
    groups = rng.integers(100, 109, 41) if grouped else None
    found = bootstrap_intervals(values, confidence=90, resamples=300, seed=7, groups=groups)
    expected = by_loop(values, level=90, resamples=300, seed=7, groups=groups)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_does_not_depend_on_the_size_of_blocks(monkeypatch):
    values = np.random.default_rng(0).random((37, 2))
    whole = bootstrap_intervals(values, resamples=501)
    monkeypatch.setattr(confidence, "_CELLS", 100)
    np.testing.assert_allclose(bootstrap_intervals(values, resamples=501), whole, rtol=1e-12)


def test_share_of_hits_has_the_binomial_interval():
    """The mean of Q zeros and ones, resampled, is binomial: mean p, variance p (1 - p) / Q."""
    hits = np.zeros((2000, 1))
    hits[:600] = 1
    (interval,) = bootstrap_intervals(hits, confidence=95, resamples=20_000)
    half = 1.959964 * (0.3 * 0.7 / 2000) ** 0.5
    # The ends of an interval of 20,000 resamples are known to about a hundredth of its width.
    assert interval.low == pytest.approx(0.3 - half, abs=0.05 * half)
    assert interval.high == pytest.approx(0.3 + half, abs=0.05 * half)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(400):
        values = rng.beta(2, 3, size=(150, 1))
        (interval,) = bootstrap_intervals(values, confidence=80, resamples=400, seed=trial)
        covered += interval.low <= 0.4 <= interval.high
    # Binomial with p = 0.8 has a standard deviation of 8 in 400; percentile intervals of 150
    # values are known to cover a little less than they say.
    assert 290 <= covered <= 345


def test_identical_queries_of_an_identity_widen_the_interval_by_the_root_of_their_number():
    rng = np.random.default_rng(2)
    values = np.repeat(rng.random((300, 1)), 9, axis=0)
    identities = np.repeat(np.arange(300), 9)
    (narrow,) = bootstrap_intervals(values)
    (wide,) = bootstrap_intervals(values, groups=identities)
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(3, rel=0.05)


def test_constant_values_have_an_interval_of_no_width():
    assert bootstrap_intervals(np.full((9, 1), 0.25), resamples=50) == [(0.25, 0.25)]


def test_the_seed_decides():
    values = np.random.default_rng(0).random((30, 1))
    first, second, other = (bootstrap_intervals(values, seed=seed) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 0}, "confidence=0 is not between"),
        ({"confidence": 100}, "confidence=100 is not between"),
        ({"resamples": 0}, "resamples=0 must be at least 1"),
    ],
)
def test_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        bootstrap_intervals(np.ones((3, 1)), **options)


def test_no_queries():
    with pytest.raises(ConfigError, match="nothing to resample"):
        bootstrap_intervals(np.empty((0, 1)))
