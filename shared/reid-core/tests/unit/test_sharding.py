"""Galleries dealt over processes: the same ranking to the last bit, and no hang when one dies."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.errors import ProtocolError
from reid_core.evaluation import Labels, l2_normalize, rank_gallery
from reid_core.evaluation.sharding import own_columns, rank_shards

SCRIPT = Path(__file__).with_name("sharded_ranking.py")


@pytest.fixture
def case(tmp_path):
    """Clustered features with many exact ties; returns what one process finds."""
    rng = np.random.default_rng(5)
    arrays, parts = {}, []
    centres = rng.standard_normal((30, 24))
    for name, count in (("query", 61), ("gallery", 503)):
        pids, camids = rng.integers(0, 30, count), rng.integers(0, 3, count)
        features = l2_normalize(torch.from_numpy(centres[pids] + rng.standard_normal((count, 24))))
        features[1::4] = features[0 : len(features[1::4]) * 4 : 4]
        arrays |= {name: features.numpy(), f"{name}_pids": pids, f"{name}_camids": camids}
        parts.append((features, Labels(pids=pids, camids=camids)))
    np.savez(tmp_path / "case.npz", **arrays)
    (query_features, query), (gallery_features, gallery) = parts
    return query_features, gallery_features, query, gallery


def test_parts_cover_the_gallery_once():
    for count in (1, 3, 10, 1001):
        parts = [own_columns(count, rank, 4) for rank in range(4)]
        assert parts[0][0] == 0
        assert parts[-1][1] == count
        assert all(left[1] == right[0] for left, right in pairwise(parts))


@pytest.mark.parametrize(
    ("world_size", "how", "options"),
    [
        (2, "columns", {}),
        (4, "columns", {"identity_cmc": True}),
        (2, "columns", {"metric": "euclidean"}),
        (3, "shards", {"identity_cmc": True, "metric": "euclidean"}),
        (4, "shards", {}),
    ],
)
def test_processes_agree_with_one(start_group, tmp_path, case, world_size, how, options):
    expected = rank_gallery(*case, **options)
    codes = start_group(world_size, SCRIPT, folder=str(tmp_path), how=how, options=options)
    assert codes == [0] * world_size
    for rank in range(world_size):
        with np.load(tmp_path / f"{rank}.npz") as found:
            assert ("first_identity" in found) == bool(options.get("identity_cmc"))
            for name in found:
                np.testing.assert_array_equal(found[name], getattr(expected, name), err_msg=name)


def test_one_process_holds_all_shards(case):
    expected = rank_gallery(*case)
    ranking = rank_shards(*case)
    np.testing.assert_array_equal(ranking.average_precision, expected.average_precision)


def test_blocks_of_queries_change_nothing(case, monkeypatch):
    monkeypatch.setattr("reid_core.evaluation.sharding._BLOCK_BYTES", 4 * 24 * 7)
    expected = rank_gallery(*case)
    ranking = rank_shards(*case)
    np.testing.assert_array_equal(ranking.average_precision, expected.average_precision)


@pytest.mark.parametrize("how", ["columns", "shards"])
def test_others_end_when_one_process_dies(start_group, tmp_path, case, how):
    codes = start_group(
        3, SCRIPT, only={1: {"dies": True}}, folder=str(tmp_path), how=how, options={}
    )
    assert codes == [1, 9, 1]
    for rank in (0, 2):
        message = (tmp_path / f"{rank}.txt").read_text()
        assert message.startswith("PeerError: another process of this run stopped")


def test_shards_that_do_not_fit_their_labels(case):
    query_features, gallery_features, query, gallery = case
    with pytest.raises(ProtocolError, match="gallery: 502 feature rows but labels of 503 images"):
        rank_shards(query_features, gallery_features[1:], query, gallery)
    with pytest.raises(ProtocolError, match="the query is empty"):
        rank_shards(query_features[:0], gallery_features, query.take(np.arange(0)), gallery)
