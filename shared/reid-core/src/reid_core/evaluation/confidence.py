"""Bootstrap confidence intervals of evaluation figures, over queries or over identities.

A figure is a mean over queries. Queries (or identities with all their queries) are drawn with
replacement, as many as there are, the mean is taken again, and an interval holds the middle share
of many such means (percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap,
1993, section 13.3; clusters: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
section 3.8).

It says how far the figures of one network would move with other queries of the same kind. It does
not cover the gallery, which stays as it is, nor the training, which another seed would change.
Queries of one identity are not independent (the same clothes, the same look-alikes), which makes
intervals over queries too narrow; those over identities account for it.

Legend: Q queries, C groups of queries (identities), M figures, B resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reid_core.errors import ConfigError

__all__ = ["Interval", "bootstrap_intervals"]

Values = npt.NDArray[np.float64]

# Weights that exist at one time: 2 MB of float64, which stays in the cache.
_CELLS = 2**18


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def bootstrap_intervals(
    values: Values,
    *,
    confidence: float = 95.0,
    resamples: int = 10_000,
    seed: int = 1,
    groups: npt.NDArray[np.int64] | None = None,
) -> list[Interval]:
    """Return percentile intervals of means.

    Args:
        values: (Q, M) finite values of each query, one column per figure; queries without a match
            left out.
        confidence: Share of the resampled means within the interval, in percent, above 0 and below
            100.
        resamples: B, number of resamples.
        seed: The same seed gives the same intervals.
        groups: (Q,) labels; queries of equal label are drawn together. By default every query is
            drawn on its own.

    Returns:
        M intervals. Each mean is over all queries drawn: with groups of different sizes their
        number varies from one resample to the next.

    Raises:
        ConfigError: ``confidence`` or ``resamples`` is out of range, or there are no queries.
    """
    if not 0 < confidence < 100:
        raise ConfigError(f"confidence={confidence:g} is not between 0 and 100 (percent); use 95")
    if resamples < 1:
        raise ConfigError(f"resamples={resamples} must be at least 1; 10000 is usual")
    if not len(values):
        raise ConfigError("there is no query with a match, so there is nothing to resample")
    sums = _group_sums(values, groups)
    means = np.empty((resamples, values.shape[1]))
    rng = np.random.default_rng(seed)
    num_groups = len(sums)
    step = max(1, _CELLS // num_groups)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(num_groups, size=(count, num_groups))
        drawn += num_groups * np.arange(count)[:, None]
        weights = np.bincount(drawn.reshape(-1), minlength=count * num_groups)
        totals = weights.reshape(count, num_groups).astype(np.float64) @ sums
        means[start : start + count] = totals[:, 1:] / totals[:, :1]
    tail = (100 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return [Interval(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)]


def _group_sums(values: Values, groups: npt.NDArray[np.int64] | None) -> Values:
    """Return (C, 1 + M): the number of queries of each group and the sums of their values."""
    counted = np.column_stack([np.ones(len(values)), values])
    if groups is None:
        return counted
    _, index = np.unique(groups, return_inverse=True)
    return np.column_stack([np.bincount(index, column) for column in counted.T])
