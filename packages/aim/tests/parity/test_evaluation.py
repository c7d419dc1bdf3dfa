"""Metrics and single-shot draws of the official evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.evaluation import Labels, Ranking, l2_normalize, rank_gallery, single_shot_draws
from reid_core.testing.golden import fill

TOLERANCE = 1e-9  # golden README: exact ranking

# Block of the file: rule, and where its queries and gallery labels come from.
RULES = {"standard": "standard", "SC": "same_clothes", "CC": "cloth_changing"}
NO_MATCH = "CC_all_queries_without_match"


@pytest.fixture(scope="module")
def blocks(golden):
    return golden.json("evaluation.json")


@pytest.fixture(scope="module")
def case(blocks):
    """Unit features and labels of queries and gallery."""
    features, labels = [], []
    for side in "qg":
        pids = np.array(blocks[f"{side}_pids"])
        name, shape = blocks[f"{side}f_name"], (len(pids), blocks["feat_dim"])
        features.append(l2_normalize(torch.from_numpy(fill(name, shape))))
        labels.append(
            Labels(
                pids=pids,
                camids=np.array(blocks[f"{side}_camids"]),
                clothes_ids=np.array(blocks[f"{side}_clothes_ids"]),
            )
        )
    return (*features, *labels)


def relabelled(labels, **arrays):
    fields = {name: getattr(labels, name) for name in ("pids", "camids", "clothes_ids")}
    return Labels(**{**fields, **arrays})


def assert_block(ranking: Ranking, block):
    """Compare the means, the counts, and every valid query."""
    assert block["CMC"]
    curve = ranking.cmc(len(block["CMC"]))
    np.testing.assert_allclose(curve, block["CMC"], rtol=0, atol=TOLERANCE)
    assert ranking.mean_ap == pytest.approx(block["mAP"], abs=TOLERANCE)
    assert ranking.num_valid == block["num_valid_queries"] == len(block["per_valid_query"])
    queries = block["per_valid_query"]
    valid = ranking.valid
    for found, name in (
        (ranking.first_hit - 1, "first_hit_rank0"),
        (ranking.num_positives, "n_good"),
        (ranking.num_junk, "n_junk"),
    ):
        assert found[valid].tolist() == [query[name] for query in queries], name
    np.testing.assert_allclose(
        ranking.average_precision[valid], [query["ap"] for query in queries], rtol=0, atol=TOLERANCE
    )
    assert np.isnan(ranking.average_precision[~valid]).all()


@pytest.mark.parametrize("name", list(RULES))
def test_rules(blocks, case, name):
    assert_block(rank_gallery(*case, RULES[name]), blocks[name])


@pytest.mark.parametrize("name", list(RULES))
def test_rules_in_small_tiles(blocks, case, name):
    assert_block(rank_gallery(*case, RULES[name], chunk=5, tile=13), blocks[name])


@pytest.mark.parametrize(("name", "camera"), [("same", 1), ("diff", 2)])
def test_prcc_like(blocks, case, name, camera):
    query_features, gallery_features, query, gallery = case
    rows = np.array(blocks["prcc_like"][f"{name}_query_rows"])
    ranking = rank_gallery(
        query_features[torch.from_numpy(rows)],
        gallery_features,
        relabelled(query.take(rows), camids=np.full(len(rows), camera)),
        relabelled(gallery, camids=np.zeros(len(gallery), np.int64)),
    )
    assert_block(ranking, blocks["prcc_like"][name])


@pytest.mark.parametrize(
    ("name", "match"),
    [("standard", "standard"), (NO_MATCH, "cloth_changing")],
)
def test_last_like(blocks, case, name, match):
    query_features, gallery_features, query, gallery = case
    ranking = rank_gallery(
        query_features,
        gallery_features,
        relabelled(query, camids=np.arange(len(query)), clothes_ids=query.pids),
        relabelled(gallery, camids=len(query) + np.arange(len(gallery)), clothes_ids=gallery.pids),
        match,
    )
    assert_block(ranking, blocks["last_like"][name])


def test_no_block_of_the_file_is_left_out(blocks):
    assert {name for name, block in blocks.items() if isinstance(block, dict)} == {
        *RULES,
        "prcc_like",
        "last_like",
    }
    nested = {"prcc_like": {"same", "diff"}, "last_like": {"standard", NO_MATCH}}
    for name, expected in nested.items():
        inner = {key for key, block in blocks[name].items() if isinstance(block, dict)}
        assert inner == expected, name


def test_single_shot_draws(golden):
    prcc = golden.json("readers.json")["prcc"]
    expected = prcc["single_shot_gallery_idx"]
    assert expected
    pids = [pid for _, pid, _, _ in prcc["gallery"]]
    draws = single_shot_draws(pids, len(expected))
    assert {str(trial): draw.tolist() for trial, draw in enumerate(draws)} == expected
