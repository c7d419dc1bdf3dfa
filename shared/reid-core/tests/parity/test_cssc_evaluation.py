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
def embed(golden):
    def rows(name, amplitude, pids, dim):
        """Unit rows a * center(identity) + noise."""
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
        return tuple(
            embed(about[f"{side}_name"], about[f"a_{side}"], labels.pids.tolist(), about["dim"])
            for side, labels in zip(("query", "gallery"), both_sides(block), strict=True)
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
    gap = np.diff(np.sort(found, axis=1), axis=1).min()
    assert gap > 1e-7
    stated = figures[f"{block}_features"]["min_gap"]
    assert gap == pytest.approx(stated, abs=DISTANCE_TOLERANCE)
    assert stated > 1e-7


def test_colliding_queries(figures, both_sides, features_of):
    query, gallery = both_sides("celeb")
    features = dict(zip(("query", "gallery"), features_of("celeb"), strict=True))
    result = evaluate_protocol(
        PROTOCOLS["celeb/official_cameras"], {"query": query, "gallery": gallery}, features
    )
    colliding = np.flatnonzero(result.trials[0].num_junk).tolist()
    assert colliding == figures["celeb_colliding_queries"]


@pytest.fixture(scope="module")
def sides_without_match(arrays, both_sides):
    """Labels of queries, one of which has no match, and of the gallery."""
    query, (_, gallery) = Labels(pids=arrays["prcc_nomatch_q_pids"]), both_sides("prcc_sc")
    assert not np.isin(query.pids, gallery.pids).all()
    return {"query_same": query, "gallery": gallery}


def assert_left_out(ranking, block, expected):
    """Average precisions and means; the official evaluator counts the query without a match."""
    official = np.array(block["AP_official"], dtype=np.float64)
    np.testing.assert_array_equal(ranking.valid, ~np.isnan(official))
    np.testing.assert_allclose(ranking.average_precision, expected, rtol=0, atol=AP_TOLERANCE)
    assert ranking.mean_ap == pytest.approx(np.nanmean(expected), abs=AP_TOLERANCE)
    assert set(block) == {"mAP_official", "AP_official", "num_valid_official"}
    assert np.isnan(float(block["mAP_official"]))
    assert len(ranking) == block["num_valid_official"] > ranking.num_valid


def test_a_query_without_match_is_left_out(figures, arrays, sides_without_match):
    """With the distances of other queries."""
    query, gallery = sides_without_match.values()
    distances = arrays["prcc_sc_distmat"][: len(query)]
    features = dict(zip(sides_without_match, features_of_scores(-distances), strict=True))
    protocol = PROTOCOLS["prcc/same_clothes"]
    (ranking,) = evaluate_protocol(protocol, sides_without_match, features).trials
    expected = sorted_precisions(distances, query, gallery)
    assert_left_out(ranking, figures["prcc_nomatch"], expected)


def test_official_figures_of_a_query_without_match(
    golden, figures, arrays, sides_without_match, embed, features_of
):
    """A row of zeros in the official CMC, a NaN in its mAP.

    Neither the files nor their README say how near to their centers these queries are; the one
    amplitude of two decimals is taken at which sorted distances give the official figures.
    """
    sides, block = sides_without_match, figures["prcc_nomatch"]
    query, gallery = sides.values()
    official = np.array(block["AP_official"], dtype=np.float64)
    name, about = golden.input_name("prcc.query_nomatch"), figures["prcc_sc_features"]
    _, gallery_rows = features_of("prcc_sc")
    for amplitude in np.arange(1, 200) / 100:
        query_rows = embed(name, amplitude, query.pids.tolist(), about["dim"])
        found = sorted_precisions(-(query_rows @ gallery_rows.T).numpy(), query, gallery)
        if np.allclose(found, official, rtol=0, atol=1e-6, equal_nan=True):
            break
    else:
        pytest.skip(f"golden set {golden.name!r} does not say what the features {name} are")
    features = {"query_same": query_rows, "gallery": gallery_rows}
    result = evaluate_protocol(PROTOCOLS["prcc/same_clothes"], sides, features)
    (ranking,) = result.trials
    assert_left_out(ranking, block, official)
    curve = arrays["prcc_nomatch_cmc_official"]
    np.testing.assert_allclose(
        result.cmc(len(curve)) * ranking.num_valid / len(ranking),
        curve,
        rtol=0,
        atol=CMC_TOLERANCE,
    )


def sorted_precisions(distances, query, gallery):
    """Average precision of every query, by sorting; NaN without a match."""
    found = []
    for pid, row in zip(query.pids, distances, strict=True):
        ranks = np.flatnonzero(gallery.pids[np.argsort(row)] == pid) + 1
        found.append((np.arange(1, len(ranks) + 1) / ranks).mean() if len(ranks) else np.nan)
    return np.array(found)


def test_rankings_of_uneven_length(figures, both_sides, features_of):
    """Where the official evaluator crashes: some queries lose all but one of their matches."""
    assert figures["small_ragged_official_error"] == "ValueError"
    query, gallery = both_sides("small")
    searched, first = np.unique(gallery.pids, return_index=True)
    junk = np.isin(gallery.pids, np.intersect1d(query.pids, searched)[::2])
    junk[first] = False
    splits = {
        "query": Labels(pids=query.pids, camids=np.zeros(len(query), int)),
        "gallery": Labels(pids=gallery.pids, camids=np.where(junk, 0, 1)),
    }
    features = dict(zip(("query", "gallery"), features_of("small"), strict=True))
    (ranking,) = evaluate_protocol(PROTOCOLS["custom/standard"], splits, features).trials
    expected = (junk & (query.pids[:, None] == gallery.pids)).sum(axis=1)
    np.testing.assert_array_equal(ranking.num_junk, expected)
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
