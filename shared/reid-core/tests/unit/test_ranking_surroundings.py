"""Ranking in whatever surroundings: PyTorch's modes and settings, threads, bad scorers, parts."""

from __future__ import annotations

import math
import threading
from collections import Counter

import numpy as np
import pytest
import torch

from reid_core.errors import ProtocolError
from reid_core.evaluation import Labels, Ranking, l2_normalize, rank_gallery, rank_scores, ranking
from reid_core.evaluation.counting import rivals
from reid_core.evaluation.counting.precision import fast_products
from reid_core.evaluation.counting.scorer import InnerProduct
from reid_core.evaluation.counting.threads import for_each
from reid_core.evaluation.reranking import shared_weights
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.reranked import rerank
from reid_core.evaluation.sharding import rank_shards

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def case():
    """Features of small integers: full of ties."""
    rng = np.random.default_rng(3)
    features = [
        torch.from_numpy(rng.integers(-2, 3, (count, 6)).astype(np.float32)) for count in (40, 300)
    ]
    labels = [
        Labels(pids=rng.integers(0, 12, count), camids=rng.integers(0, 3, count))
        for count in (40, 300)
    ]
    return (*features, *labels)


def assert_same(found: Ranking, wanted: Ranking):
    for name in Ranking.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def test_threads_are_in_the_modes_of_the_caller(two_threads):
    # Both threads have to be there at once, so each does one task.
    together = threading.Barrier(2)
    found = []

    def work(task):
        together.wait(60)
        found.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.no_grad():
        for_each([0, 1], lambda: work)
    with torch.inference_mode():
        for_each([0, 1], lambda: work)
    for_each([0, 1], lambda: work)
    assert Counter(found) == {(False, False): 2, (True, False): 2, (False, True): 2}


def test_error_of_another_thread_surfaces(two_threads):
    together = threading.Barrier(2)

    def work(task):
        if task < 2:
            together.wait(60)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError(f"task {task}")

    with pytest.raises(ZeroDivisionError, match="task"):
        for_each(range(100), lambda: work)
    assert torch.get_num_threads() == 2


def test_reranking_in_inference_mode(two_threads):
    rng = np.random.default_rng(1)
    features = l2_normalize(torch.from_numpy(rng.standard_normal((2300, 8))))
    expected = rerank(features[:300], features[300:])
    with torch.inference_mode():
        found = rerank(features[:300], features[300:])
    rows, columns = rng.integers(0, 300, 500), rng.integers(0, 2000, 500)
    np.testing.assert_array_equal(found.exact(rows, columns), expected.exact(rows, columns))


@pytest.mark.parametrize("in_threads", [False, True])
def test_default_type_of_the_caller_changes_nothing(case, monkeypatch, in_threads):
    monkeypatch.setattr(rivals, "_counts_in_threads", lambda device: in_threads)
    expected = rank_gallery(*case), rank_gallery(*case, identity_cmc=True)
    reranked = rank_scores(rerank(*case[:2]), *case[2:])
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(rank_gallery(*case), expected[0])
        assert_same(rank_gallery(*case, identity_cmc=True), expected[1])
        assert_same(rank_scores(rerank(*case[:2]), *case[2:]), reranked)
    finally:
        torch.set_default_dtype(torch.float32)


def test_scorer_of_features_that_require_gradients(case):
    features = [part.clone().requires_grad_() for part in case[:2]]
    assert_same(rank_scores(InnerProduct(*features), *case[2:]), rank_gallery(*case))


def test_overlapping_evaluations_put_the_precision_back():
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    one, other = fast_products(CPU, "tf32"), fast_products(CPU, "fp32")
    # In one thread the gradient mode would be left as the second block found it.
    with torch.set_grad_enabled(torch.is_grad_enabled()):
        one.__enter__()
        assert backend.fp32_precision == "tf32"
        other.__enter__()
        assert backend.fp32_precision == "ieee"
        one.__exit__(None, None, None)
        assert backend.fp32_precision == "ieee"
        other.__exit__(None, None, None)
    assert backend.fp32_precision == before


class Broken(InnerProduct):
    """Fast scores that are no numbers."""

    def tile(self, rows, columns, out):
        out.fill_(torch.nan)


class Exact(InnerProduct):
    """Small integers: all scores are exact, and it says so."""

    @property
    def tolerance(self):
        return np.zeros(self.num_queries)

    @property
    def precise_tolerance(self):
        return np.zeros(self.num_queries)


class WronglyExact(Exact):
    """The same, but fast scores are wrong where they are not 0."""

    def tile(self, rows, columns, out):
        super().tile(rows, columns, out)
        out.mul_(2)


@pytest.mark.parametrize("kind", [Broken, Exact, WronglyExact])
def test_scorers_that_do_not_keep_their_promise_are_noticed(case, kind):
    assert_same(rank_scores(kind(*case[:2]), *case[2:]), rank_gallery(*case))


def test_few_rows_at_a_time_note_the_same_identities(case, monkeypatch):
    expected = rank_gallery(*case, identity_cmc=True)
    monkeypatch.setattr(rivals, "_SEEN_CELLS", 700)
    assert_same(rank_gallery(*case, identity_cmc=True), expected)


def test_few_cells_at_a_time_are_settled_alike(case, monkeypatch):
    expected = rank_gallery(*case)
    monkeypatch.setattr(rivals, "_counts_in_threads", lambda device: False)
    monkeypatch.setattr(rivals, "_CELLS_PER_EXACT_SCORE", 1)
    monkeypatch.setattr(rivals, "_SETTLED_CELLS", 3)
    monkeypatch.delattr(rivals.RivalCounter, "_count_precisely")
    assert_same(rank_gallery(*case), expected)


def test_few_minima_at_a_time_give_the_same_sums(monkeypatch):
    """Where all images are alike, all share the entries of a few."""
    features = torch.ones(400, 3)
    features[200:] += torch.from_numpy(np.random.default_rng(2).random((200, 3))).float() * 1e-3
    whole = rerank(features[:150], features[150:])
    rows, columns = np.divmod(np.arange(150 * 250), 250)
    expected = whole.exact(rows, columns)
    monkeypatch.setattr(shared_weights, "_MINIMA", 77)
    np.testing.assert_array_equal(whole.exact(rows, columns), expected)


@pytest.mark.parametrize("in_threads", [False, True])
@pytest.mark.parametrize(
    ("scale", "lambda_value"), [(1e-30, 0.3), (1e-42, 1.0), (1e25, 0.0), (1e25, 0.3)]
)
def test_reranking_beyond_float32(monkeypatch, in_threads, scale, lambda_value):
    """Distances, or their inverses, that float32 does not hold; or that do not count at all."""
    rng = np.random.default_rng(4)
    values = rng.integers(-9, 10, (130, 3)) * scale
    features = torch.from_numpy(values.astype(np.float32))
    labels = [Labels(pids=np.arange(count) % 7, camids=[2] * count) for count in (10, 120)]
    monkeypatch.setattr(rivals, "_counts_in_threads", lambda device: in_threads)
    scores = rerank(features[:10], features[10:], RerankConfig(lambda_value=lambda_value))
    rows, columns = np.divmod(np.arange(10 * 120), 120)
    exact = scores.exact(rows, columns).reshape(10, 120)
    found = rank_scores(scores, *labels, "any_camera")
    for query in range(10):
        is_match = labels[1].pids == labels[0].pids[query]
        rivals_of = exact[query][~is_match]
        matches = np.sort(exact[query][is_match])[::-1]
        ranks = [k + int((rivals_of >= score).sum()) for k, score in enumerate(matches, 1)]
        precisions = np.arange(1, len(ranks) + 1) / ranks
        assert found.average_precision[query] == math.fsum(precisions) / len(ranks)
    distances = scores.distances(slice(0, 10), slice(0, 120)).numpy()
    np.testing.assert_allclose(distances, -exact, atol=1e-5)


@pytest.mark.parametrize("columns", [(0, 299), (1, 300), (3, 3)])
def test_columns_that_are_not_the_gallery(case, columns):
    query_features, gallery_features, query, gallery = case
    held = gallery_features[slice(*columns)]
    with pytest.raises(ProtocolError, match=f"rows {columns[0]}-{columns[1]}; together .* 0-300"):
        rank_gallery(query_features, held, query, gallery, columns=columns)


def test_labels_that_differ_between_processes(case, monkeypatch):
    def with_another(value):
        return [value, (value[0], b"")]

    monkeypatch.setattr(ranking, "gather_objects", with_another)
    with pytest.raises(ProtocolError, match="labels differ between processes"):
        rank_gallery(*case, columns=(0, 300))


def test_columns_beyond_the_gallery(case):
    query_features, gallery_features, query, gallery = case
    with pytest.raises(ProtocolError, match="300 feature rows but labels of 290 images"):
        rank_gallery(query_features, gallery_features, query, gallery, columns=(10, 310))


def test_shards_of_another_dimension_or_without_images(case):
    query_features, gallery_features, query, gallery = case
    with pytest.raises(ProtocolError, match="have 5, 6 dimensions"):
        rank_shards(query_features, gallery_features[:, :5], query, gallery)
    with pytest.raises(ProtocolError, match="the gallery is empty"):
        rank_shards(query_features, gallery_features[:0], query, gallery.take(np.arange(0)))
