"""What queries contribute to figures: their means are the figures, over trials and searches."""

import numpy as np
import pytest
import torch

from reid_core.evaluation import PROTOCOLS, Labels, evaluate_protocol, l2_normalize
from reid_core.evaluation.query_figures import FIGURES, query_figures, result_intervals


def evaluate(name, seed=0, **splits):
    """Evaluate random features of splits of the sizes given."""
    rng = np.random.default_rng(seed)
    labels, features = {}, {}
    for split, count in splits.items():
        labels[split] = Labels(
            pids=rng.integers(0, 6, count),
            camids=rng.integers(0, 6, count),
            clothes_ids=rng.integers(0, 20, count),
            modalities=rng.choice(["visible", "infrared"], count),
        )
        features[split] = l2_normalize(torch.from_numpy(rng.normal(size=(count, 5))))
    features = {name: values.float() for name, values in features.items()}
    return evaluate_protocol(PROTOCOLS[name], labels, features), labels


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("custom/standard", {"query": 40, "gallery": 70}),
        ("custom/same_clothes", {"query": 40, "gallery": 70}),
        ("sysu/all_search", {"test": 400}),
    ],
)
def test_means_over_queries_are_the_figures(name, splits):
    result, _ = evaluate(name, **splits)
    figures, summary = query_figures(result), result.summary()
    assert len(figures.rows) == summary["num_valid"]
    means = dict(zip(FIGURES, figures.values.mean(axis=0), strict=True))
    assert means == pytest.approx({key: summary[key] for key in FIGURES}, rel=1e-12)


def test_queries_of_lists_of_their_own_are_all_counted():
    result, _ = evaluate("regdb/visible_to_thermal", test_1=60, test_3=80)
    figures = query_figures(result)
    assert set(figures.splits) == {"test_1", "test_3"}
    assert len(figures.rows) == sum(ranking.num_valid for ranking in result.trials)


@pytest.mark.parametrize("resample", ["queries", "identities"])
def test_intervals_hold_the_figures(resample):
    result, labels = evaluate("custom/standard", query=40, gallery=70)
    found = result_intervals(result, labels, confidence=99, resample=resample, resamples=500)
    summary = result.summary()
    assert tuple(found) == FIGURES
    assert all(low < summary[name] < high for name, (low, high) in found.items())


def test_no_intervals_without_a_valid_query():
    labels = Labels(pids=np.zeros(3, int), camids=np.zeros(3, int))
    splits, features = {"query": labels, "gallery": labels}, torch.eye(3)
    protocol = PROTOCOLS["custom/standard"]
    result = evaluate_protocol(protocol, splits, {"query": features, "gallery": features})
    assert result_intervals(result, splits, confidence=95) == {}
