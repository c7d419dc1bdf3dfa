"""IICS's evaluation.json and .npz: Market-1501's rules, distractors, hits beyond rank 100."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.evaluation import PROTOCOLS, Labels, evaluate_protocol, l2_normalize
from reid_core.testing.golden import fill
from reid_core.testing.score_features import features_of_scores

GOLDEN_METHOD = "iics"
TOLERANCE = 1e-12  # golden README, from the shipped distances
DISTANCE_TOLERANCE = 1e-6  # float32 products of float32 features


@pytest.fixture(scope="module")
def case(golden):
    return golden.json("evaluation.json")


@pytest.fixture(scope="module")
def distances(golden):
    arrays = golden.arrays("evaluation.npz")
    assert set(arrays) == {"distmat"}
    return arrays["distmat"]


@pytest.fixture(scope="module")
def labels(case):
    return {
        name: Labels(pids=case[f"{name}_ids"], camids=case[f"{name}_cams"])
        for name in ("query", "gallery")
    }


@pytest.fixture(scope="module")
def features(case):
    """Rows 0.55 c[id] + noise of unit length; gallery row 55 faces away from a query."""
    prefix = case["input_prefix"]
    ids = {name: np.array(case[f"{name}_ids"]) for name in ("query", "gallery")}
    centers = fill(f"{prefix}centers", (26, 24))
    rows = {
        name: 0.55 * centers[ids[name]].astype(np.float64)
        + fill(f"{prefix}{name}", (len(ids[name]), 24))
        for name in ids
    }
    rows["gallery"][55] = -rows["query"][np.flatnonzero(ids["query"] == 17)[0]]
    return {name: l2_normalize(torch.from_numpy(values)) for name, values in rows.items()}


def assert_case(result, case):
    (ranking,) = result.trials
    np.testing.assert_allclose(result.cmc(100), case["cmc_100"], rtol=0, atol=TOLERANCE)
    assert len(case["cmc_100"]) == 100
    assert ranking.mean_ap == pytest.approx(case["mAP"], abs=TOLERANCE)
    expected = np.array(case["ap_per_query"], dtype=np.float64)  # null is skipped: NaN
    np.testing.assert_allclose(ranking.average_precision, expected, rtol=0, atol=TOLERANCE)
    assert ranking.num_valid == case["num_valid_queries"]
    skipped = np.flatnonzero(~ranking.valid).tolist()
    assert skipped == sorted(case["query_id_absent_or_samecam_only"])
    assert result.summary()["num_queries"] == len(case["query_ids"])


def test_from_the_shipped_distances(case, labels, distances):
    query, gallery = features_of_scores(-distances)
    result = evaluate_protocol(
        PROTOCOLS["market1501/standard"], labels, {"query": query, "gallery": gallery}
    )
    assert_case(result, case)


@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
def test_from_the_features(case, labels, features, metric):
    result = evaluate_protocol(PROTOCOLS["msmt17/standard"], labels, features, metric=metric)
    assert_case(result, case)


def test_distances(case, features, distances):
    found = 1 - features["query"].double() @ features["gallery"].double().T
    np.testing.assert_allclose(found, distances, rtol=0, atol=DISTANCE_TOLERANCE)
    # No ties, and gaps above the errors of float32: distances and features order alike.
    gaps = np.diff(np.sort(distances, axis=1), axis=1)
    assert gaps.min() == pytest.approx(case["min_gap_between_sorted_distances"], rel=1e-3)
    assert np.abs(np.asarray(found) - distances).max() < gaps.min() / 2


def test_junk_boxes_change_nothing(case, labels, features):
    """Identity -1, which the official reader of Market-1501 drops, is left out of any list."""
    count = len(labels["query"])
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels["gallery"]) + count)
    gallery = Labels(
        pids=np.concatenate([labels["gallery"].pids, np.full(count, -1)])[order],
        camids=np.concatenate([labels["gallery"].camids, rng.integers(0, 4, count)])[order],
    )
    # Boxes that are the queries themselves would push everything else down.
    rows = torch.cat([features["gallery"], features["query"]])[torch.from_numpy(order)]
    result = evaluate_protocol(
        PROTOCOLS["market1501/standard"],
        {**labels, "gallery": gallery},
        {**features, "gallery": rows},
    )
    assert_case(result, case)
    assert result.num_gallery == len(case["gallery_ids"])


def test_no_key_of_the_file_is_left_out(case):
    assert set(case) == {
        "input_prefix",
        "query_ids",
        "query_cams",
        "gallery_ids",
        "gallery_cams",
        "query_id_absent_or_samecam_only",
        "num_valid_queries",
        "cmc_100",
        "mAP",
        "ap_per_query",
        "min_gap_between_sorted_distances",
    }
