"""CSSC's rerank.npz and the rerank_* blocks of eval.json: squared distances, scaled by the largest.

Official metrics come from distances with rounding errors of a stated size, in float16 about 1e-3.
They must lie between the metrics of our exact distances with every match that much farther and
every other image that much nearer, and those of the reverse. For float64 and float32 the two are
one number, but for images that tie.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from reid_core.evaluation import Labels, RerankConfig, rank_scores, rerank
from reid_core.testing.golden import fill
from reid_core.testing.score_matrix import ScoreMatrix

GOLDEN_METHOD = "cssc"
EXACT_TOLERANCE = 1e-6  # golden README: float64 against float64
FAST_TOLERANCE = 5e-6  # float32
HALF_TOLERANCE = 5e-3  # against float16 intermediates
METRIC_TOLERANCE = 1e-6
EXACT_ERROR = 1e-9  # ours and the official distances in float64 are within 1e-15
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
        # In float32 throughout, as the official features: no neighbour changes its place.
        features = normalize(torch.from_numpy(rows), dim=1)
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


def exact_distances(scorer):
    shape = (scorer.num_queries, scorer.num_gallery)
    return -scorer.exact(*(axis.ravel() for axis in np.indices(shape))).reshape(shape)


def test_every_array_of_distances(arrays, cases, scores_of):
    assert set(cases) == {name.removesuffix("_f64") for name in arrays if name.endswith("_f64")}
    for case in cases:
        scorer, expected = scores_of(case), arrays[f"{case}_f64"]
        shape = (scorer.num_queries, scorer.num_gallery)
        assert shape == expected.shape
        exact = exact_distances(scorer)
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


@pytest.mark.parametrize("kind", ["f64", "fp32store", "fp16store", "fp16store_official_cams"])
def test_metrics(kind, figures, arrays, cases, scores_of, sides):
    (_, query), (_, gallery) = sides
    if kind == "fp16store_official_cams":
        query, gallery = numbered(query), numbered(gallery)
    for case in cases:
        if case == TINY:
            continue
        block = figures[f"rerank_{case}"]
        distances = exact_distances(scores_of(case))
        error = EXACT_ERROR
        if kind != "f64":
            error += block[f"max_abs_{'fp16' if 'fp16' in kind else 'fp32'}_vs_f64"]
        worst, best = (
            rank_scores(ScoreMatrix(-shifted), query, gallery)
            for shifted in apart(distances, query, gallery, error)
        )
        metrics = dict(block[kind])
        for name in ("cmc", "AP"):
            if f"{case}_{kind}_{name}" in arrays:
                metrics[name] = arrays[f"{case}_{kind}_{name}"]
        assert "mAP" in metrics
        for name, official in metrics.items():
            low, high = (figure(ranking, name, np.size(official)) for ranking in (worst, best))
            about = f"{case} {kind} {name}: {official}, {low} to {high} expected"
            assert np.shape(low) == np.shape(official), about
            assert np.all(low - METRIC_TOLERANCE <= official), about
            assert np.all(official <= high + METRIC_TOLERANCE), about


def numbered(labels):
    return Labels(pids=labels.pids, camids=np.arange(len(labels)))


def apart(distances, query, gallery, error):
    """All matches pushed back and all others forward by the largest error, and the reverse."""
    shift = error * np.where(query.pids[:, None] == gallery.pids, 1, -1)
    return distances + shift, distances - shift


def figure(ranking, name, size):
    if name == "mAP":
        return ranking.mean_ap
    if name == "mINP":
        return ranking.mean_inp
    if name == "AP":
        return ranking.average_precision[ranking.valid]
    return ranking.cmc(size) if name == "cmc" else ranking.rank_k(int(name.removeprefix("rank")))


def test_distance_between_the_official_figures_and_exact_ones(figures, arrays, cases, scores_of):
    for case in set(cases) - {TINY}:
        block = figures[f"rerank_{case}"]
        assert set(block) == {
            *("k1", "k2", "lambda_value", "f64", "fp32store", "fp16store"),
            *("fp16store_official_cams", "out_dtype_fp16"),
            *("max_abs_fp16_vs_f64", "max_abs_fp32_vs_f64"),
        }
        official = arrays[f"{case}_fp16store"]
        assert official.dtype == block["out_dtype_fp16"]
        largest = np.abs(exact_distances(scores_of(case)) - official).max()
        assert largest == pytest.approx(block["max_abs_fp16_vs_f64"], abs=EXACT_TOLERANCE)
        # Intermediates of float32 are not ours to compare, but no worse than our fast distances.
        assert block["max_abs_fp32_vs_f64"] <= FAST_TOLERANCE


def test_no_array_of_the_file_is_left_out(arrays, cases):
    compared = {f"{case}_{kind}" for case in cases for kind in ("f64", "fp16store")}
    stores = ("fp16store_cmc", "fp16store_AP", "fp32store_cmc", "fp32store_AP")
    metrics = {f"{case}_{kind}" for case in set(cases) - {TINY} for kind in stores}
    assert compared <= set(arrays) <= compared | metrics
