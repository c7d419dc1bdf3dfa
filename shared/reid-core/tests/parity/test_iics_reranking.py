"""Re-ranked distances of IICS's clustering.npz: cosine distances, scaled from 0 to 1, all pairs.

Not compared: the class scores and their similarity, which here are inputs, and the clusters.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.evaluation import ImageSetScorer, RerankConfig, rerank_set
from reid_core.testing.score_matrix import ScoreMatrix

GOLDEN_METHOD = "iics"
EXACT_TOLERANCE = 1e-6  # golden README
HALF_TOLERANCE = 5e-3

# Array, and the settings that its name stands for, on the unmixed distances.
VARIANTS = {
    "rerank_f64_k10_3_l0.5": {"k1": 10, "k2": 3, "lambda_value": 0.5},
    "rerank_f64_k20_1_l0.3": {"k2": 1},
    "rerank_k20_6_l0": {"lambda_value": 0.0},
}
MIXING_RATES = (0.02, 0.3)


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("clustering.npz")


@pytest.fixture(scope="module")
def cameras(golden, arrays):
    """Camera of every image."""
    images = golden.json("clustering.json")["intra_index"]
    found = np.empty(len(arrays["features_l2"]), dtype=np.int64)
    for camera, members in images.items():
        found[members] = int(camera)
    return found


def reranked(scorer, **settings):
    """All final distances: exact, and as they are computed fast, row chunk by row chunk."""
    scores = rerank_set(scorer, config=RerankConfig(normalization="min_max", **settings))
    count = scorer.num_queries
    exact = -scores.exact(*(axis.ravel() for axis in np.indices((count, count))))
    chunks = [
        scores.distances(slice(start, min(start + 7, count)), slice(0, count))
        for start in range(0, count, 7)
    ]
    return exact.reshape(count, count), torch.cat(chunks).numpy()


def scores_of(distances):
    """Minus distances, which float32 products do not leave quite symmetric."""
    distances = distances.astype(np.float64)
    return ScoreMatrix(-(distances + distances.T) / 2)


def assert_equal(found, arrays, exact_name, half_name):
    for values in found:
        if exact_name:
            expected = arrays[exact_name]
            np.testing.assert_allclose(
                values, expected, rtol=0, atol=EXACT_TOLERANCE, err_msg=exact_name
            )
        if half_name:
            expected = arrays[half_name].astype(np.float64)
            np.testing.assert_allclose(
                values, expected, rtol=0, atol=HALF_TOLERANCE, err_msg=half_name
            )


def test_distances(arrays, cameras):
    features = torch.from_numpy(arrays["features_l2"])
    members = {f"intra_dist.{camera}": cameras == camera for camera in np.unique(cameras)}
    for name, mask in {"inter_dist": np.full(len(cameras), True), **members}.items():
        scorer = ImageSetScorer(features[torch.from_numpy(mask)], metric="inner_product")
        everything = np.arange(scorer.num_queries)
        found = 1 - scorer.precise(everything, everything)
        np.testing.assert_allclose(found, arrays[name], rtol=0, atol=EXACT_TOLERANCE, err_msg=name)


@pytest.mark.parametrize("source", ["features", "distances"])
def test_within_cameras(arrays, cameras, source):
    features = torch.from_numpy(arrays["features_l2"])
    for camera in np.unique(cameras):
        if source == "features":
            members = torch.from_numpy(np.flatnonzero(cameras == camera))
            scorer = ImageSetScorer(features[members], metric="inner_product")
        else:
            scorer = scores_of(arrays[f"intra_dist.{camera}"])
        names = (f"intra_rerank_f64.{camera}", f"intra_rerank.{camera}")
        assert_equal(reranked(scorer), arrays, *names)


@pytest.mark.parametrize("rate", MIXING_RATES)
def test_mixed_with_class_scores(arrays, cameras, rate):
    other_camera = cameras[:, None] != cameras
    # In float32, as the official ones: rounded otherwise, nearly equal neighbours change places.
    mixed = arrays["inter_dist"] - np.float32(rate) * other_camera * arrays["jaccard_sim"]
    assert mixed.dtype == np.float32
    shipped = arrays.get(f"inter_mixed.mu{rate}")
    if shipped is not None:
        np.testing.assert_allclose(mixed, shipped, rtol=0, atol=EXACT_TOLERANCE)
        mixed = shipped
    exact_name = f"inter_rerank_f64.mu{rate}"
    assert_equal(
        reranked(scores_of(mixed)),
        arrays,
        exact_name if exact_name in arrays else None,
        f"inter_rerank.mu{rate}",
    )


@pytest.mark.parametrize("name", list(VARIANTS))
def test_other_settings(arrays, name):
    found = reranked(scores_of(arrays["inter_dist"]), **VARIANTS[name])
    is_exact = "_f64" in name
    assert_equal(found, arrays, name if is_exact else None, None if is_exact else name)


def test_normalization_is_of_rows(arrays):
    """The triangle that is clustered matters: the matrix is not symmetric."""
    found, _ = reranked(scores_of(arrays["inter_dist"]))
    assert np.abs(found - found.T).max() > 0.01


def test_no_reranked_array_of_the_file_is_left_out(arrays, cameras):
    cameras = np.unique(cameras).tolist()
    expected = {*VARIANTS, *(f"inter_rerank.mu{rate}" for rate in MIXING_RATES)}
    expected |= {f"intra_rerank{kind}.{camera}" for kind in ("", "_f64") for camera in cameras}
    found = {name for name in arrays if "rerank" in name}
    assert expected <= found
    assert found - expected <= {f"inter_rerank_f64.mu{rate}" for rate in MIXING_RATES}
