"""AIM's evaluation.json under the protocols of core: rules, counts and every valid query."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.evaluation import PROTOCOLS, Labels, evaluate_protocol, l2_normalize
from reid_core.testing.golden import fill

GOLDEN_METHOD = "aim"
TOLERANCE = 1e-9  # golden README: exact ranking
GAP_TOLERANCE = 2e-7  # differences of products of float32 features

NO_MATCH = "CC_all_queries_without_match"


@pytest.fixture(scope="module")
def blocks(golden):
    return golden.json("evaluation.json")


@pytest.fixture(scope="module")
def features(blocks):
    return {
        split: l2_normalize(
            torch.from_numpy(
                fill(blocks[f"{side}f_name"], (len(blocks[f"{side}_pids"]), blocks["feat_dim"]))
            )
        )
        for split, side in (("query", "q"), ("gallery", "g"))
    }


@pytest.fixture(scope="module")
def labels(blocks):
    return {
        split: Labels(
            pids=blocks[f"{side}_pids"],
            camids=blocks[f"{side}_camids"],
            clothes_ids=blocks[f"{side}_clothes_ids"],
        )
        for split, side in (("query", "q"), ("gallery", "g"))
    }


def assert_block(result, block):
    """Compare the means, the counts, and every valid query."""
    (ranking,) = result.trials
    assert block["CMC"]
    np.testing.assert_allclose(result.cmc(len(block["CMC"])), block["CMC"], rtol=0, atol=TOLERANCE)
    assert ranking.mean_ap == pytest.approx(block["mAP"], abs=TOLERANCE)
    assert ranking.num_valid == block["num_valid_queries"] == len(block["per_valid_query"])
    queries, valid = block["per_valid_query"], ranking.valid
    for found, name in (
        (ranking.first_hit - 1, "first_hit_rank0"),
        (ranking.num_positives, "n_good"),
        (ranking.num_junk, "n_junk"),
    ):
        assert found[valid].tolist() == [query[name] for query in queries], name
    np.testing.assert_allclose(
        ranking.average_precision[valid], [query["ap"] for query in queries], rtol=0, atol=TOLERANCE
    )
    assert set(block) == {"CMC", "mAP", "num_valid_queries", "per_valid_query"}
    compared = {"first_hit_rank0", "n_good", "n_junk", "ap"}
    assert all(set(query) == compared for query in queries)


@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("standard", "ltcc/standard"),
        ("SC", "ltcc/same_clothes"),
        ("CC", "ltcc/cloth_changing"),
    ],
)
def test_ltcc(blocks, labels, features, name, protocol, metric):
    result = evaluate_protocol(PROTOCOLS[protocol], labels, features, metric=metric)
    assert_block(result, blocks[name])


@pytest.mark.parametrize("name", ["same", "diff"])
def test_prcc_like(blocks, labels, features, name):
    rows = np.array(blocks["prcc_like"][f"{name}_query_rows"])
    protocol = PROTOCOLS[f"prcc/{'same_clothes' if name == 'same' else 'cloth_changing'}"]
    splits = {
        f"query_{name}": Labels(pids=labels["query"].pids[rows]),
        "gallery": Labels(pids=labels["gallery"].pids),
    }
    own = {f"query_{name}": features["query"][torch.from_numpy(rows)]}
    result = evaluate_protocol(protocol, splits, {**features, **own})
    assert_block(result, blocks["prcc_like"][name])


def test_last_like(blocks, labels, features):
    # Cameras that are all different: the same as no cameras.
    bare = {name: Labels(pids=side.pids) for name, side in labels.items()}
    result = evaluate_protocol(PROTOCOLS["last/standard"], bare, features)
    assert_block(result, blocks["last_like"]["standard"])
    numbered = {
        name: Labels(pids=side.pids, camids=offset + np.arange(len(side)), clothes_ids=side.pids)
        for (name, side), offset in zip(labels.items(), (0, len(labels["query"])), strict=True)
    }
    result = evaluate_protocol(PROTOCOLS["custom/standard"], numbered, features)
    assert_block(result, blocks["last_like"]["standard"])
    result = evaluate_protocol(PROTOCOLS["custom/cloth_changing"], numbered, features)
    assert_block(result, blocks["last_like"][NO_MATCH])


def test_no_two_distances_are_nearly_equal(blocks, features):
    scores = features["query"].double() @ features["gallery"].double().T
    gap = float(scores.sort(dim=1).values.diff(dim=1).min())
    assert gap == pytest.approx(blocks["min_gap_between_sorted_distances"], abs=GAP_TOLERANCE)
    assert gap > GAP_TOLERANCE


def test_no_block_of_the_file_is_left_out(blocks):
    assert {name for name, block in blocks.items() if isinstance(block, dict)} == {
        "standard",
        "SC",
        "CC",
        "prcc_like",
        "last_like",
    }
    nested = {"prcc_like": {"same", "diff"}, "last_like": {"standard", NO_MATCH}}
    for name, expected in nested.items():
        inner = {key for key, block in blocks[name].items() if isinstance(block, dict)}
        assert inner == expected, name
