"""Rank counting against a brute-force definition, and that nothing but the input decides."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reid_core.errors import ProtocolError
from reid_core.evaluation import (
    MATCH_RULES,
    Labels,
    Ranking,
    rank_gallery,
    rank_scores,
)
from reid_core.evaluation.counting import rivals as counting
from reid_core.evaluation.counting import scores
from reid_core.evaluation.counting.precision import PRECISIONS, rounding_norms
from reid_core.evaluation.counting.scorer import InnerProduct
from reid_core.evaluation.counting.scores import (
    counts_by_bucket,
    counts_by_sorting,
    distinct_pair_scores,
    l2_normalize,
    pair_scores,
)


def exact_score(left, right):
    """The real inner product, rounded once."""
    return math.fsum(left.double().numpy() * right.double().numpy())


def brute_force(query_features, gallery_features, query, gallery, match):
    """Per query (AP, INP, first hit, matches, junk) by sorting exact scores; ties count against."""
    results = []
    for q in range(len(query)):
        same = gallery.pids == query.pids[q]
        clothes = gallery.clothes_ids == query.clothes_ids[q]
        elsewhere = gallery.camids != query.camids[q]
        right = (
            same
            & {
                "any_camera": True,
                "standard": elsewhere,
                "same_clothes": elsewhere & clothes,
                "cloth_changing": elsewhere & ~clothes,
            }[match]
        )
        ranked = [
            (-exact_score(query_features[q], gallery_features[g]), bool(right[g]))
            for g in np.flatnonzero(right | ~same)
        ]
        hits = [rank for rank, (_, hit) in enumerate(sorted(ranked), 1) if hit]
        ap = math.fsum(k / rank for k, rank in enumerate(hits, 1)) / len(hits) if hits else math.nan
        inp = len(hits) / hits[-1] if hits else math.nan
        results.append((ap, inp, hits[0] if hits else 0, len(hits), int((same & ~right).sum())))
    return results


def brute_force_euclidean(query_features, gallery_features, query, gallery, match):
    """The same by distance: the query is (q, 1) and the image (g, -|g|^2 / 2)."""
    query_features, gallery_features = query_features.double(), gallery_features.double()
    ones = torch.ones(len(query), 1, dtype=torch.float64)
    halves = gallery_features.square().sum(1, keepdim=True) / -2
    return brute_force(
        torch.cat([query_features, ones], 1),
        torch.cat([gallery_features, halves], 1),
        query,
        gallery,
        match,
    )


def brute_force_identities(query_features, gallery_features, query, gallery):
    """Rank of each query's identity among identities, by their best images; ties count against."""
    ranks = []
    for q in range(len(query)):
        same = gallery.pids == query.pids[q]
        right = same & (gallery.camids != query.camids[q])
        scores = [exact_score(query_features[q], image) for image in gallery_features]
        if not right.any():
            ranks.append(0)
            continue
        best = max(scores[g] for g in np.flatnonzero(right))
        others = [g for g in np.flatnonzero(~same) if scores[g] >= best]
        ranks.append(1 + len(set(gallery.pids[others].tolist())))
    return ranks


def rows_of(ranking):
    columns = (
        ranking.average_precision,
        ranking.inverse_negative_penalty,
        ranking.first_hit,
        ranking.num_positives,
        ranking.num_junk,
    )
    return [tuple(column[row].item() for column in columns) for row in range(len(ranking))]


def assert_same(found: Ranking, wanted: Ranking):
    """Equal to the last bit."""
    for name in Ranking.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def make_labels(rng, count, num_pids, num_cameras=3, num_outfits=3):
    return Labels(
        pids=rng.integers(0, num_pids, count),
        camids=rng.integers(0, num_cameras, count),
        clothes_ids=rng.integers(0, num_outfits, count),
    )


def make_case(seed, num_queries, num_gallery, dim, num_pids):
    """Features on the unit sphere that cluster by identity."""
    rng = np.random.default_rng(seed)
    query, gallery = (make_labels(rng, n, num_pids) for n in (num_queries, num_gallery))
    centres = rng.standard_normal((num_pids, dim))
    features = [
        l2_normalize(
            torch.from_numpy(centres[labels.pids] + rng.standard_normal((len(labels), dim)))
        )
        for labels in (query, gallery)
    ]
    return (*features, query, gallery)


@st.composite
def cases(draw):
    """Small sets full of ties: small integers, some of them moved by up to three times 2**-21.

    Such a step decides a rank but is lost in float32 products. Scores are exact in float64.
    """
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    dim, num_pids = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    span, steps = draw(st.integers(0, 2)), draw(st.sampled_from([0, 1, 3]))
    features, labels = [], []
    for count in (num_queries, num_gallery):
        values = rng.integers(-span, span + 1, (count, dim))
        values = values + 2.0**-21 * rng.integers(0, steps + 1, (count, dim))
        features.append(torch.from_numpy(values.astype(np.float32)))
        labels.append(make_labels(rng, count, num_pids, 2, 2))
    return (*features, *labels)


@settings(deadline=None, max_examples=200)
@given(
    cases(),
    st.sampled_from(list(MATCH_RULES)),
    st.one_of(st.none(), st.integers(1, 7)),
    st.one_of(st.none(), st.integers(1, 15)),
)
def test_equals_brute_force(case, match, chunk, tile):
    ranking = rank_gallery(*case, match, chunk=chunk, tile=tile)
    np.testing.assert_allclose(rows_of(ranking), brute_force(*case, match), rtol=1e-15)
    assert (ranking.num_negatives == len(case[3]) - ranking.num_positives - ranking.num_junk).all()


@settings(deadline=None, max_examples=100)
@given(cases(), st.one_of(st.none(), st.integers(1, 7)), st.one_of(st.none(), st.integers(1, 15)))
def test_euclidean_equals_brute_force(case, chunk, tile):
    ranking = rank_gallery(*case, metric="euclidean", chunk=chunk, tile=tile)
    expected = brute_force_euclidean(*case, "standard")
    np.testing.assert_allclose(rows_of(ranking), expected, rtol=1e-15)


def test_nearest_first_and_not_the_longest():
    query, gallery = torch.tensor([[1.0, 0]]), torch.tensor([[9.0, 0], [1, 1], [1, 2]])
    labels = (Labels(pids=[1], camids=[0]), Labels(pids=[0, 1, 0], camids=[1, 1, 1]))
    assert rank_gallery(query, gallery, *labels, metric="euclidean").first_hit == [1]
    assert rank_gallery(query, gallery, *labels).first_hit == [3]


def test_unit_features_rank_alike_by_cosine_and_by_distance():
    case = make_case(seed=4, num_queries=30, num_gallery=300, dim=16, num_pids=12)
    assert_same(rank_gallery(*case, metric="euclidean"), rank_gallery(*case))


@settings(deadline=None, max_examples=100)
@given(cases(), st.one_of(st.none(), st.integers(1, 7)), st.one_of(st.none(), st.integers(1, 15)))
def test_identities_equal_brute_force(case, chunk, tile):
    ranking = rank_gallery(*case, identity_cmc=True, chunk=chunk, tile=tile)
    assert ranking.first_identity.tolist() == brute_force_identities(*case)
    np.testing.assert_allclose(rows_of(ranking), brute_force(*case, "standard"), rtol=1e-15)


def test_cmc_of_identities():
    case = make_case(seed=7, num_queries=40, num_gallery=400, dim=6, num_pids=15)
    images, identities = rank_gallery(*case), rank_gallery(*case, identity_cmc=True)
    assert (identities.cmc(10) >= images.cmc(10)).all()
    assert identities.rank_k(3) > images.rank_k(3)
    assert identities.rank_k(15) == 1
    share = np.mean(np.array(brute_force_identities(*case)) <= 3)
    assert identities.rank_k(3) == share


@pytest.mark.parametrize("identity_cmc", [False, True])
def test_groups_of_queries_merge_into_the_whole(identity_cmc):
    query_features, gallery_features, query, gallery = make_case(3, 30, 200, 8, 9)
    whole = rank_gallery(
        query_features, gallery_features, query, gallery, identity_cmc=identity_cmc
    )
    rows = np.split(np.random.default_rng(1).permutation(30), [4, 5])
    parts = [
        rank_gallery(
            query_features[torch.from_numpy(group)],
            gallery_features,
            query.take(group),
            gallery,
            identity_cmc=identity_cmc,
        )
        for group in rows
    ]
    assert_same(Ranking.merge(parts, rows), whole)


@pytest.mark.parametrize("match", list(MATCH_RULES))
def test_equals_brute_force_on_clusters(match):
    case = make_case(seed=1, num_queries=12, num_gallery=150, dim=16, num_pids=6)
    ranking = rank_gallery(*case, match)
    np.testing.assert_allclose(rows_of(ranking), brute_force(*case, match), rtol=1e-15)
    assert 0.2 < ranking.mean_ap < 0.95


@pytest.fixture(scope="module")
def near_ties():
    """Rivals one unit in the last place away from a match: beyond float32, not beyond the rule."""
    query_features, gallery_features, query, gallery = make_case(2, 40, 1500, 24, 15)
    rng = np.random.default_rng(3)
    features = gallery_features.numpy().copy()
    pids = gallery.pids.copy()
    for row, copy in rng.permutation(1500)[:600].reshape(-1, 2):
        features[copy] = features[row]
        features[copy, rng.integers(24)] *= np.float32(1 + 2.0**-23 * rng.integers(-1, 2))
        pids[copy] = (pids[row] + 1) % 15
    gallery = Labels(pids=pids, camids=gallery.camids, clothes_ids=gallery.clothes_ids)
    return query_features, torch.from_numpy(features), query, gallery


def test_near_ties_are_decided_exactly(near_ties):
    ranking = rank_gallery(*near_ties)
    np.testing.assert_allclose(rows_of(ranking), brute_force(*near_ties, "standard"), rtol=1e-15)


class Float32(InnerProduct):
    """Claims that float32 products are exact."""

    def __init__(self, queries, gallery):
        super().__init__(queries, gallery)
        self.products = (queries @ gallery.T).numpy().astype(np.float64)

    def precise(self, rows, columns):
        return self.products[np.ix_(rows, columns)]

    def exact(self, rows, columns):
        return self.products[rows, columns]


def test_float32_products_alone_would_decide_them_wrongly(near_ties):
    exact = rank_gallery(*near_ties)
    rounded = rank_scores(Float32(*near_ties[:2]), *near_ties[2:])
    assert (rounded.average_precision != exact.average_precision).any()


class Careful:
    """A scorer of our own that knows the scores by heart."""

    device = torch.device("cpu")

    def __init__(self, queries, gallery):
        self.num_queries, self.num_gallery = len(queries), len(gallery)
        rows, columns = np.divmod(np.arange(len(queries) * len(gallery)), len(gallery))
        self.scores = pair_scores(queries, gallery, rows, columns).reshape(len(queries), -1)
        self.tolerance = np.full(len(queries), 2.0**-22 * np.abs(self.scores).max())
        self.precise_tolerance = np.zeros(len(queries))

    def tile(self, rows, columns, out):
        out.copy_(torch.from_numpy(self.scores[rows, columns]))

    def precise(self, rows, columns):
        return self.scores[np.ix_(rows, columns)]

    def exact(self, rows, columns):
        return self.scores[rows, columns]


class Careless(InnerProduct):
    """Fast products are worse than they are said to be."""

    def tile(self, rows, columns, out):
        super().tile(rows, columns, out)
        out.copy_(out.bfloat16().float())


def test_products_that_are_worse_than_promised_are_noticed(near_ties, monkeypatch):
    expected = rank_gallery(*near_ties)
    assert_same(rank_scores(Careless(*near_ties[:2]), *near_ties[2:]), expected)
    monkeypatch.delattr(counting.RivalCounter, "_count_precisely")
    with pytest.raises(AttributeError, match="_count_precisely"):
        rank_scores(Careless(*near_ties[:2]), *near_ties[2:])


@pytest.mark.parametrize("cells_per_exact_score", [1, 10**9])
def test_pairs_one_by_one_and_blocks_in_float64_agree(
    near_ties, monkeypatch, cells_per_exact_score
):
    expected = rank_gallery(*near_ties)
    monkeypatch.setattr(counting, "_CELLS_PER_EXACT_SCORE", cells_per_exact_score)
    spare = "_count_precisely" if cells_per_exact_score == 1 else "_decide"
    monkeypatch.delattr(counting.RivalCounter, spare)
    assert_same(rank_gallery(*near_ties), expected)


@pytest.mark.parametrize(("chunk", "tile"), [(1, 1500), (7, 64), (40, 1), (3, 977), (256, 512)])
def test_chunks_change_nothing(near_ties, chunk, tile):
    assert_same(rank_gallery(*near_ties, chunk=chunk, tile=tile), rank_gallery(*near_ties))


@pytest.fixture
def num_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_change_nothing(near_ties, num_threads):
    num_threads(1)
    one = rank_gallery(*near_ties)
    num_threads(3)
    assert_same(rank_gallery(*near_ties), one)


def test_order_of_the_gallery_changes_nothing(near_ties):
    query_features, gallery_features, query, gallery = near_ties
    order = np.random.default_rng(0).permutation(len(gallery))
    shuffled = (query_features, gallery_features[torch.from_numpy(order)], query)
    assert_same(rank_gallery(*shuffled, gallery.take(order), chunk=9), rank_gallery(*near_ties))


def test_order_of_the_queries_moves_rows_only(near_ties):
    query_features, gallery_features, query, gallery = near_ties
    order = np.random.default_rng(0).permutation(len(query))
    expected = rank_gallery(*near_ties)
    ranking = rank_gallery(
        query_features[torch.from_numpy(order)], gallery_features, query.take(order), gallery
    )
    np.testing.assert_array_equal(ranking.average_precision, expected.average_precision[order])
    assert ranking.mean_ap == expected.mean_ap


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precision_of_fast_products_changes_nothing(near_ties, precision):
    assert_same(rank_gallery(*near_ties, precision=precision), rank_gallery(*near_ties))


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_reduced_precision_of_the_caller_changes_nothing(near_ties, precision):
    expected = rank_gallery(*near_ties)
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ranking = rank_gallery(*near_ties)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    assert_same(ranking, expected)


def test_histogram_counting_gives_the_same(near_ties, monkeypatch):
    expected = rank_gallery(*near_ties)
    monkeypatch.setattr(
        counting, "counts_at_least", lambda cells, edges, _: counts_by_bucket(cells, edges)
    )
    assert_same(rank_gallery(*near_ties, chunk=16, tile=400), expected)


@pytest.fixture
def as_on_a_device(monkeypatch):
    """Count as on a GPU, by PyTorch operations and with one wait per chunk."""
    monkeypatch.setattr(counting, "_counts_in_threads", lambda device: False)


@pytest.mark.parametrize("precision", ["auto", "tf32", "bf16"])
@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
def test_counting_on_a_device_gives_the_same(near_ties, monkeypatch, precision, metric):
    expected = rank_gallery(*near_ties, metric=metric)
    monkeypatch.setattr(counting, "_counts_in_threads", lambda device: False)
    monkeypatch.setattr(counting, "_CELLS_PER_EXACT_SCORE", 1)
    monkeypatch.delattr(counting.RivalCounter, "_count_fast")
    options = {"metric": metric, "precision": precision, "chunk": 16, "tile": 400}
    assert_same(rank_gallery(*near_ties, **options), expected)


@pytest.mark.parametrize("capacity", [1, 2**26])
def test_too_many_ambiguous_cells_for_a_device(near_ties, as_on_a_device, monkeypatch, capacity):
    expected = rank_gallery(*near_ties)
    monkeypatch.setattr(counting, "_MAX_CELLS", capacity)
    assert_same(rank_gallery(*near_ties), expected)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from(["inner_product", "euclidean"]))
def test_counting_on_a_device_equals_brute_force(as_on_a_device, case, metric):
    ranking = rank_gallery(*case, metric=metric, chunk=3, tile=5)
    definition = brute_force if metric == "inner_product" else brute_force_euclidean
    np.testing.assert_allclose(rows_of(ranking), definition(*case, "standard"), rtol=1e-15)


def test_any_scores_are_counted_on_a_device(near_ties, as_on_a_device):
    expected = rank_gallery(*near_ties)
    assert_same(rank_scores(Careful(*near_ties[:2]), *near_ties[2:]), expected)


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("bf16", 7)])
def test_bounds_of_rounding(precision, bits):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 30)) * 10.0 ** rng.integers(-8, 8, (40, 30))
    features[3] = 0
    features = torch.from_numpy(features.astype(np.float32))
    mantissa, exponent = torch.frexp(features.double())
    if precision == "tf32":  # cut off
        rounded = torch.ldexp(torch.trunc(torch.ldexp(mantissa, torch.tensor(bits + 1))), exponent)
        rounded = torch.ldexp(rounded, torch.tensor(-bits - 1))
    else:
        rounded = features.bfloat16().double()
    lost = torch.linalg.vector_norm(features.double() - rounded, dim=1).numpy()
    bounds = rounding_norms(features, precision)
    assert (bounds >= lost).all()
    assert bounds[3] == 0
    assert bounds.sum() < 3 * lost.sum()


@pytest.mark.gpu
def test_gpu_gives_the_same(near_ties):
    device = torch.device("cuda")
    expected = rank_gallery(*near_ties)
    assert_same(rank_gallery(*near_ties, device=device), expected)
    query_features, gallery_features, *labels = near_ties
    on_gpu = (query_features.to(device), gallery_features.to(device))
    assert_same(rank_gallery(*on_gpu, *labels, chunk=16, tile=400), expected)


@pytest.mark.parametrize(
    ("query_scale", "gallery_scale"), [(1e20, 1e25), (1e-20, 1e-22), (1, 1e-38)]
)
def test_scale_of_the_features_changes_nothing(query_scale, gallery_scale):
    query_features, gallery_features, query, gallery = make_case(5, 20, 200, 8, 5)
    scaled = (query_features * query_scale, gallery_features * gallery_scale, query, gallery)
    np.testing.assert_allclose(
        rows_of(rank_gallery(*scaled)), brute_force(*scaled, "standard"), rtol=1e-15
    )


def test_collapsed_features_are_worst_not_perfect():
    query_features, gallery_features, query, gallery = make_case(5, 300, 2100, 8, 5)
    same = rank_gallery(
        torch.ones_like(query_features), torch.ones_like(gallery_features), query, gallery
    )
    assert same.rank_k(1) == 0
    np.testing.assert_array_equal(same.first_hit, same.num_negatives + 1)
    assert same.mean_ap < same.chance_mean_ap


def test_hardly_different_features():
    query_features, gallery_features, query, gallery = make_case(6, 20, 400, 8, 5)
    close = (query_features * 1e-2 + 1, gallery_features * 1e-6 + 1, query, gallery)
    np.testing.assert_allclose(
        rows_of(rank_gallery(*close)), brute_force(*close, "standard"), rtol=1e-15
    )


def test_no_matrix_of_all_pairs(monkeypatch):
    shapes = []

    def spy(cells, edges, scratch):
        shapes.append(tuple(cells.shape))
        return counts_by_sorting(cells, edges, scratch)

    monkeypatch.setattr(counting, "counts_at_least", spy)
    rank_gallery(*make_case(1, 50, 300, 8, 5), chunk=16, tile=64)
    assert max(shapes) == (16, 64)
    assert len(shapes) == 4 * 5


def one_query(scores, right, junk=()):
    """One query whose gallery has these scores; rows in ``right`` match, ``junk`` is left out."""
    count = len(scores)
    pids = np.array([int(row in right or row in junk) for row in range(count)])
    camids = np.array([int(row not in junk) for row in range(count)])
    return rank_gallery(
        torch.ones(1, 1),
        torch.tensor(scores, dtype=torch.float32)[:, None],
        Labels(pids=np.ones(1, int), camids=np.zeros(1, int), clothes_ids=np.zeros(1, int)),
        Labels(pids=pids, camids=camids, clothes_ids=np.zeros(count, int)),
    )


@pytest.mark.parametrize(
    ("scores", "right", "junk", "ap", "inp", "first"),
    [
        ([3, 2, 1], {0}, (), 1, 1, 1),
        ([3, 2, 1], {2}, (), 1 / 3, 1 / 3, 3),
        ([5, 4, 3, 2, 1], {1, 3}, (), (1 / 2 + 2 / 4) / 2, 2 / 4, 2),
        ([5, 4, 3, 2, 1], {1, 3}, (0, 2), 1, 1, 1),
        ([1, 1, 1], {0}, (), 1 / 3, 1 / 3, 3),
        ([1, 1, 1], {0, 1, 2}, (), 1, 1, 1),
        ([1, 1, 1, 1], {0, 1}, (2,), (1 / 2 + 2 / 3) / 2, 2 / 3, 2),
        ([7], {0}, (), 1, 1, 1),
    ],
)
def test_by_hand(scores, right, junk, ap, inp, first):
    ranking = one_query(scores, right, junk)
    assert ranking.average_precision[0] == pytest.approx(ap, rel=1e-15)
    assert ranking.inverse_negative_penalty[0] == pytest.approx(inp, rel=1e-15)
    assert ranking.first_hit[0] == first
    assert (ranking.num_positives[0], ranking.num_junk[0]) == (len(right), len(junk))


def test_curve_and_summary():
    nan = math.nan
    ranking = Ranking(
        average_precision=np.array([1.0, 0.25, nan, 0.5]),
        inverse_negative_penalty=np.array([1.0, 0.5, nan, 0.25]),
        first_hit=np.array([1, 4, 0, 2]),
        num_positives=np.array([1, 2, 0, 1]),
        num_junk=np.array([0, 0, 3, 1]),
        num_negatives=np.array([5, 4, 3, 4]),
    )
    np.testing.assert_allclose(ranking.cmc(6), [1 / 3, 2 / 3, 2 / 3, 1, 1, 1])
    assert ranking.rank_k(2) == pytest.approx(2 / 3)
    summary = json.loads(json.dumps(ranking.summary()))
    assert summary == {
        "rank1": pytest.approx(1 / 3),
        "rank5": 1,
        "rank10": 1,
        "rank20": 1,
        "mAP": pytest.approx(1.75 / 3),
        "mINP": pytest.approx(1.75 / 3),
        "num_queries": 4,
        "num_valid": 3,
        "chance_rank1": pytest.approx((1 / 6 + 2 / 6 + 1 / 5) / 3),
        "chance_mAP": pytest.approx(ranking.chance_mean_ap),
    }


@pytest.mark.parametrize("junk", [(), (0, 1, 2)])
def test_no_valid_query_gives_zeros(junk):
    ranking = one_query([3, 2, 1], set(), junk)
    assert ranking.num_valid == 0
    assert math.isnan(ranking.average_precision[0])
    assert ranking.cmc(5).tolist() == [0] * 5
    summary = ranking.summary()
    assert all(summary[name] == 0 for name in summary if name != "num_queries")


@pytest.mark.parametrize(("positives", "negatives"), [(1, 0), (1, 4), (2, 3), (3, 3), (4, 0)])
def test_chance_is_the_mean_over_all_rankings(positives, negatives):
    total = positives + negatives
    aps, firsts = [], []
    for hits in itertools.combinations(range(1, total + 1), positives):
        aps.append(sum(k / rank for k, rank in enumerate(hits, 1)) / positives)
        firsts.append(hits[0] == 1)
    ranking = one_query(range(total), set(range(positives)))
    assert ranking.chance_mean_ap == pytest.approx(np.mean(aps), rel=1e-13)
    assert ranking.chance_rank1 == pytest.approx(np.mean(firsts), rel=1e-13)


def broken(rows, value=math.nan):
    def change(case):
        features = case["query_features"].clone()
        features[rows, 1] = value
        return {"query_features": features}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken([4]), r"query features hold NaN or infinite values in 1 of 8 rows: 4\."),
        (broken([1, 2], math.inf), r"in 2 of 8 rows: 1, 2\."),
        (broken(range(7)), r"in 7 of 8 rows: 0, 1, 2, 3, 4 and 2 more\."),
        (
            lambda case: {"gallery_features": case["gallery_features"].double()},
            r"gallery features are torch\.float64; convert them to torch\.float32",
        ),
        (
            lambda case: {"gallery_features": case["gallery_features"][0]},
            r"gallery features have shape \(4,\); a matrix \(images, D\) is expected",
        ),
        (
            lambda case: {"query_features": case["query_features"][:, :0]},
            r"query features have shape \(8, 0\)",
        ),
        (
            lambda case: {"match": "cloth-changing"},
            "no match rule is called 'cloth-changing'; use standard, cloth_changing, same_clothes",
        ),
        (
            lambda case: {"query_features": case["query_features"][:5]},
            "query: 5 feature rows but labels of 8 images; both must list the same images",
        ),
        (
            lambda case: {"gallery_features": case["gallery_features"][:, :3]},
            "query features have 4 dimensions and gallery features 3",
        ),
        (
            lambda case: {
                "query_features": case["query_features"][:0],
                "query": case["query"].take(np.arange(0)),
            },
            "the query is empty: there is nothing to rank",
        ),
        (
            lambda case: {
                "gallery_features": case["gallery_features"][:0],
                "gallery": case["gallery"].take(np.arange(0)),
            },
            "the gallery is empty",
        ),
    ],
)
def test_refused_input(change, message):
    names = ("query_features", "gallery_features", "query", "gallery")
    case = dict(zip(names, make_case(1, 8, 20, 4, 3), strict=True))
    with pytest.raises(ProtocolError, match=message):
        rank_gallery(**{**case, **change(case)})


@pytest.mark.parametrize(
    ("pids", "camids", "message"),
    [
        ([1, 2, 3], [1, 2], "differ in length: pids 3, camids 2, clothes_ids 3"),
        ([1.0, 2.0, 3.0], [0, 0, 0], "pids must be a list of integers, not float64 of shape"),
        ([1, 2, 3], ["a", "b", "c"], "camids must be a list of integers, not <U1"),
        ([[1], [2], [3]], [0, 0, 0], r"not int64 of shape \(3, 1\)"),
    ],
)
def test_refused_labels(pids, camids, message):
    with pytest.raises(ProtocolError, match=message):
        Labels(pids=pids, camids=camids, clothes_ids=[0, 0, 0])


def test_labels_may_be_lists_and_tensors():
    labels = Labels(pids=[3, 4], camids=torch.tensor([0, 1]), clothes_ids=np.array([0, 1], np.int8))
    assert all(
        values.dtype == np.int64 for values in (labels.pids, labels.camids, labels.clothes_ids)
    )
    assert labels.take(np.array([1])).pids.tolist() == [4]


def test_features_that_need_gradients_are_ranked():
    case = make_case(1, 8, 20, 4, 3)
    features = [value.clone().requires_grad_() for value in case[:2]]
    assert_same(rank_gallery(*features, *case[2:]), rank_gallery(*case))


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 1000))
@example(1, 0)
@example(64, 0)
@example(65, 0)
def test_score_is_the_float64_inner_product(dim, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((2, 5, dim)).astype(np.float32)
    found = pair_scores(torch.from_numpy(left), torch.from_numpy(right), np.arange(5), np.arange(5))
    for row in range(5):
        products = left[row].astype(np.float64) * right[row]
        assert found[row] == pytest.approx(
            math.fsum(products), abs=dim * 2.0**-53 * np.abs(products).sum()
        )


def test_score_depends_on_the_two_vectors_alone(num_threads, monkeypatch):
    rng = np.random.default_rng(0)
    queries, gallery = (torch.from_numpy(rng.standard_normal((9, 77), np.float32)) for _ in "ab")
    gallery[5] = gallery[2]
    pairs = np.array(list(itertools.product(range(9), range(9)))).T
    expected = pair_scores(queries, gallery, *pairs).reshape(9, 9)
    np.testing.assert_array_equal(expected[:, 5], expected[:, 2])
    np.testing.assert_array_equal(
        distinct_pair_scores(queries, gallery, *pairs).reshape(9, 9), expected
    )
    num_threads(2)
    monkeypatch.setattr(scores, "_BLOCK_ELEMENTS", 200)
    np.testing.assert_array_equal(
        pair_scores(queries, gallery, *pairs[:, ::-1]), expected.reshape(-1)[::-1]
    )


@pytest.mark.parametrize("by", ["sorting", "bucket"])
def test_counts_at_least(by):
    rng = np.random.default_rng(0)
    cells = rng.integers(-3, 4, (6, 50)).astype(np.float32)
    cells[:, :4] = -np.inf
    edges = rng.integers(-4, 5, (6, 7)).astype(np.float32)
    edges[:, 3] = np.inf
    tensors = (torch.from_numpy(cells), torch.from_numpy(edges))
    if by == "sorting":
        found = counts_by_sorting(*tensors, torch.empty(6, 50))
    else:
        found = counts_by_bucket(*tensors)
    np.testing.assert_array_equal(found, (cells[:, None] >= edges[:, :, None]).sum(2))
    assert found.dtype == torch.int64


def test_l2_normalize():
    values = torch.randn(50, 33, generator=torch.Generator().manual_seed(0))
    values[3] = 0
    values[4] *= 1e30
    units = l2_normalize(values)
    assert units.dtype == torch.float32
    assert not units[3].any()
    wide = values.double()
    expected = wide / wide.norm(dim=1, keepdim=True).clamp_min(1e-12)
    torch.testing.assert_close(units.double(), expected, rtol=2.0**-24, atol=0)
    assert torch.equal(l2_normalize(values[7:8]), units[7:8])


def test_l2_normalize_small_rows_are_divided_by_eps():
    assert l2_normalize(torch.full((1, 4), 1e-20)).max().item() == pytest.approx(1e-8)
