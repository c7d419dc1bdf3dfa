"""CSSC's eval.json and eval.npz under the protocols of core, from features and from distances.

Not applicable: ``small_ragged_official_error`` (the official evaluator crashes where filtering
shortens rankings unevenly; ours is tested on such a case) and the ``rerank_*`` blocks, which
belong to re-ranking.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.evaluation import PROTOCOLS, Labels, evaluate_protocol, l2_normalize
from reid_core.testing.golden import fill
from reid_core.testing.score_features import features_of_scores

GOLDEN_METHOD = "cssc"
CMC_TOLERANCE = 1e-6  # golden README, as all of these
AP_TOLERANCE = 1e-12
DISTANCE_TOLERANCE = 2e-6

# Evaluation: block of the features, protocol, query split.
EVALUATIONS = {
    "ltcc_standard": ("ltcc", "ltcc/standard", "query"),
    "ltcc_cc": ("ltcc", "ltcc/cloth_changing", "query"),
    "market": ("ltcc", "market1501/standard", "query"),
    "prcc_sc": ("prcc_sc", "prcc/same_clothes", "query_same"),
    "prcc_cc": ("prcc_cc", "prcc/cloth_changing", "query_diff"),
    "celeb_official": ("celeb", "celeb/official_cameras", "query"),
    "celeb_disjoint": ("celeb", "celeb/standard", "query"),
    "small": ("small", "celeb/standard", "query"),
}


@pytest.fixture(scope="module")
def figures(golden):
    return golden.json("eval.json")


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("eval.npz")


@pytest.fixture(scope="module")
def embed(golden, figures):
    def rows(name, amplitude, pids):
        """Unit rows a * center(identity) + noise."""
        dim = figures["ltcc_features"]["dim"]
        centers = {pid: fill(golden.input_name(f"center.{pid}"), (dim,)) for pid in set(pids)}
        noise = fill(name, (len(pids), dim))
        clusters = np.float32(amplitude) * np.stack([centers[pid] for pid in pids])
        return l2_normalize(torch.from_numpy(clusters + noise))

    return rows


@pytest.fixture(scope="module")
def both_sides(arrays):
    """Labels of a block's queries and gallery, and how its files call the latter."""

    def labels(block):
        gallery = "prcc" if block.startswith("prcc") else block
        return tuple(
            Labels(
                pids=arrays[f"{prefix}_pids"],
                camids=arrays.get(f"{prefix}_camids"),
                clothes_ids=arrays.get(f"{prefix}_clothids"),
            )
            for prefix in (f"{block}_q", f"{gallery}_g")
        )

    return labels


@pytest.fixture(scope="module")
def features_of(figures, embed, both_sides):
    def features(block):
        about = figures[f"{block}_features"]
        query, gallery = both_sides(block)
        return (
            embed(about["query_name"], about["a_query"], query.pids.tolist()),
            embed(about["gallery_name"], about["a_gallery"], gallery.pids.tolist()),
        )

    return features


@pytest.mark.parametrize("source", ["features", "euclidean", "distances"])
@pytest.mark.parametrize("name", list(EVALUATIONS))
def test_evaluations(name, source, figures, arrays, both_sides, features_of):
    block, protocol, split = EVALUATIONS[name]
    sides = dict(zip((split, "gallery"), both_sides(block), strict=True))
    values = features_of(block)
    if source == "distances":
        values = features_of_scores(-arrays[f"{block}_distmat"])
    result = evaluate_protocol(
        PROTOCOLS[protocol],
        sides,
        dict(zip((split, "gallery"), values, strict=True)),
        metric="euclidean" if source == "euclidean" else "inner_product",
    )
    assert_figures(result, name, figures[name], arrays)


def assert_figures(result, name, block, arrays):
    (ranking,) = result.trials
    curve = arrays[f"{name}_cmc"]
    np.testing.assert_allclose(result.cmc(len(curve)), curve, rtol=0, atol=CMC_TOLERANCE)
    valid = ranking.valid
    expected = {"AP": ranking.average_precision, "INP": ranking.inverse_negative_penalty}
    for kind, values in expected.items():
        if f"{name}_{kind}" in arrays:
            np.testing.assert_allclose(
                values[valid], arrays[f"{name}_{kind}"], rtol=0, atol=AP_TOLERANCE
            )
    compared = {
        "mAP": (ranking.mean_ap, AP_TOLERANCE),
        "mINP": (ranking.mean_inp, AP_TOLERANCE),
        "num_valid": (ranking.num_valid, 0),
        "num_query": (len(ranking), 0),
        "cmc_len": (min(50, result.num_gallery), 0),
        **{f"rank{k}": (ranking.rank_k(k), CMC_TOLERANCE) for k in (1, 5, 10)},
    }
    assert set(block) <= set(compared), "a figure of the file is not compared"
    for key, expected_value in block.items():
        value, tolerance = compared[key]
        assert value == pytest.approx(expected_value, abs=tolerance), key


@pytest.mark.parametrize("block", ["ltcc", "prcc_sc", "prcc_cc", "celeb", "small"])
def test_distances(block, figures, arrays, features_of):
    query, gallery = (values.double().numpy() for values in features_of(block))
    found = (query**2).sum(1)[:, None] + (gallery**2).sum(1) - 2 * query @ gallery.T
    np.testing.assert_allclose(found, arrays[f"{block}_distmat"], rtol=0, atol=DISTANCE_TOLERANCE)
    # Ranks must be equal because no two distances of a query are nearly so.
    assert np.diff(np.sort(found, axis=1), axis=1).min() > 1e-7
    assert figures[f"{block}_features"]["min_gap"] > 1e-7


def test_colliding_queries(figures, both_sides, features_of):
    query, gallery = both_sides("celeb")
    features = dict(zip(("query", "gallery"), features_of("celeb"), strict=True))
    result = evaluate_protocol(
        PROTOCOLS["celeb/official_cameras"], {"query": query, "gallery": gallery}, features
    )
    colliding = np.flatnonzero(result.trials[0].num_junk).tolist()
    assert colliding == figures["celeb_colliding_queries"]


def test_a_query_without_match_is_left_out(golden, figures, arrays, both_sides, embed, features_of):
    """The official evaluator of PRCC counts it: a row of zeros in CMC, a NaN in mAP."""
    query = Labels(pids=arrays["prcc_nomatch_q_pids"])
    _, gallery = both_sides("prcc_sc")
    amplitude = figures["prcc_sc_features"]["a_gallery"]
    name = golden.input_name("prcc.query_nomatch")
    features = {
        "query_same": embed(name, amplitude, query.pids.tolist()),
        "gallery": features_of("prcc_sc")[1],
    }
    result = evaluate_protocol(
        PROTOCOLS["prcc/same_clothes"], {"query_same": query, "gallery": gallery}, features
    )
    (ranking,) = result.trials
    block = figures["prcc_nomatch"]
    assert set(block) == {"mAP_official", "AP_official", "num_valid_official"}
    official = np.array(block["AP_official"], dtype=np.float64)
    np.testing.assert_allclose(ranking.average_precision, official, rtol=0, atol=AP_TOLERANCE)
    assert np.isnan(float(block["mAP_official"]))
    assert ranking.mean_ap == pytest.approx(np.nanmean(official), abs=AP_TOLERANCE)
    assert len(ranking) == block["num_valid_official"]
    assert ranking.num_valid == int((~np.isnan(official)).sum()) < len(ranking)
    curve = arrays["prcc_nomatch_cmc_official"]
    np.testing.assert_allclose(
        result.cmc(len(curve)) * ranking.num_valid / len(ranking),
        curve,
        rtol=0,
        atol=CMC_TOLERANCE,
    )


def test_rankings_of_uneven_length(figures, both_sides, features_of):
    """Where the official evaluator crashes: a query loses all but a few of a small gallery."""
    assert figures["small_ragged_official_error"] == "ValueError"
    query, gallery = both_sides("small")
    cameras = np.arange(len(gallery)) % 2
    splits = {
        "query": Labels(pids=query.pids, camids=np.zeros(len(query), int)),
        "gallery": Labels(pids=gallery.pids, camids=cameras),
    }
    features = dict(zip(("query", "gallery"), features_of("small"), strict=True))
    (ranking,) = evaluate_protocol(PROTOCOLS["custom/standard"], splits, features).trials
    assert len(set(ranking.num_junk.tolist())) > 1
    assert ranking.cmc(50)[-1] == 1


def test_nothing_of_the_files_is_left_out(figures, arrays):
    blocks = {block for block, _, _ in EVALUATIONS.values()}
    expected = {
        *EVALUATIONS,
        *(f"{block}_features" for block in blocks),
        "prcc_nomatch",
        "celeb_colliding_queries",
        "small_ragged_official_error",
    }
    assert {name for name in figures if not name.startswith("rerank_")} == expected
    kinds = ("cmc", "AP", "INP", "distmat", "pids", "camids", "clothids", "official")
    assert all(name.endswith(kinds) for name in arrays)
    for name in arrays:
        if name.endswith(("_cmc", "_AP", "_INP")):
            assert name.rpartition("_")[0] in EVALUATIONS
