"""CSSC's rerank.npz and the rerank_* blocks of eval.json: squared distances, scaled by the largest.

Not compared: metrics of the float16 variants (``fp16store``), which differ from exact ones, and of
``lambda0``, where most pairs tie at J = 1 (golden README).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.evaluation import Labels, RerankConfig, l2_normalize, rank_scores, rerank
from reid_core.testing.golden import fill

GOLDEN_METHOD = "cssc"
EXACT_TOLERANCE = 1e-6  # golden README: float64 against float64
FAST_TOLERANCE = 5e-6  # float32
HALF_TOLERANCE = 5e-3  # against float16 intermediates
METRIC_TOLERANCE = 1e-6
TINY = "tiny_3x9"


@pytest.fixture(scope="module")
def figures(golden):
    return golden.json("eval.json")


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("rerank.npz")


@pytest.fixture(scope="module")
def cases(figures):
    """Case to settings."""
    names = ("k1", "k2", "lambda_value")
    found = {
        key.removeprefix("rerank_"): RerankConfig(**{name: block[name] for name in names})
        for key, block in figures.items()
        if key.startswith("rerank_")
    }
    return {**found, TINY: RerankConfig()}


@pytest.fixture(scope="module")
def sides(golden, figures):
    """Features and labels of queries and gallery; the two have no camera in common."""
    about, labels = figures["celeb_features"], golden.arrays("eval.npz")
    found = []
    for side, cameras in (("query", 0), ("gallery", 1)):
        pids = labels[f"celeb_{side[0]}_pids"]
        shape = (about["dim"],)
        centers = {pid: fill(golden.input_name(f"center.{pid}"), shape) for pid in set(pids)}
        rows = np.float32(about[f"a_{side}"]) * np.stack([centers[pid] for pid in pids])
        rows += fill(about[f"{side}_name"], rows.shape)
        features = l2_normalize(torch.from_numpy(rows))
        found.append((features, Labels(pids=pids, camids=np.full(len(pids), cameras))))
    return found


@pytest.fixture(scope="module")
def scores_of(cases, sides):
    def scores(case):
        (query, _), (gallery, _) = sides
        if case == TINY:
            query, gallery = query[:3], gallery[:9]
        return rerank(query, gallery, cases[case])

    return scores


def test_every_array_of_distances(arrays, cases, scores_of):
    assert set(cases) == {name.removesuffix("_f64") for name in arrays if name.endswith("_f64")}
    for case in cases:
        scorer, expected = scores_of(case), arrays[f"{case}_f64"]
        shape = (scorer.num_queries, scorer.num_gallery)
        assert shape == expected.shape
        exact = -scorer.exact(*(axis.ravel() for axis in np.indices(shape))).reshape(shape)
        precise = -scorer.precise(*(np.arange(count) for count in shape))
        fast = scorer.distances(slice(0, shape[0]), slice(0, shape[1])).numpy()
        for found, tolerance in (
            (exact, EXACT_TOLERANCE),
            (precise, EXACT_TOLERANCE),
            (fast, FAST_TOLERANCE),
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=case)
        official = arrays[f"{case}_fp16store"]
        np.testing.assert_allclose(exact, official, rtol=0, atol=HALF_TOLERANCE, err_msg=case)


def test_metrics(figures, arrays, cases, scores_of, sides):
    labels = [labels for _, labels in sides]
    for case, config in cases.items():
        if case == TINY or config.lambda_value == 0:
            continue
        ranking = rank_scores(scores_of(case), *labels)
        block = figures[f"rerank_{case}"]
        found = {"mAP": ranking.mean_ap, "mINP": ranking.mean_inp}
        found.update({f"rank{k}": ranking.rank_k(k) for k in (1, 5, 10)})
        assert set(block["f64"]) <= set(found)
        for name, expected in block["f64"].items():
            assert found[name] == pytest.approx(expected, abs=METRIC_TOLERANCE), (case, name)
        # CMC curve and average precisions are stored for float32 intermediates, default settings.
        if f"{case}_fp32store_AP" in arrays:
            curve = arrays[f"{case}_fp32store_cmc"]
            np.testing.assert_allclose(ranking.cmc(len(curve)), curve, atol=METRIC_TOLERANCE)
            expected = arrays[f"{case}_fp32store_AP"]
            valid = ranking.average_precision[ranking.valid]
            np.testing.assert_allclose(valid, expected, atol=METRIC_TOLERANCE)


def test_no_array_of_the_file_is_left_out(arrays, cases):
    compared = {f"{case}_{kind}" for case in cases for kind in ("f64", "fp16store")}
    compared |= {f"{case}_fp32store_{kind}" for case in cases for kind in ("cmc", "AP")}
    metrics_of_half = {f"{case}_fp16store_{kind}" for case in cases for kind in ("cmc", "AP")}
    assert set(arrays) <= compared | metrics_of_half
