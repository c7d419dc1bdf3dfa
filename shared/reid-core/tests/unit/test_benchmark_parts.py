"""The parts of benchmarks/evaluation.py and benchmarks/reranking.py that figures rest on."""

import importlib
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from reid_core.evaluation import rank_gallery
from reid_core.evaluation.reranking.reranked import rerank

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture
def cost(monkeypatch):
    """Import a part by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"cost.{name}")


@pytest.fixture
def problem(cost, tmp_path):
    features = cost("synthetic_features")
    size = replace(features.LTCC, num_queries=40, num_gallery=300, num_pids=12, dim=160)
    features.write_features(tmp_path, size)
    images = torch.from_numpy(
        np.concatenate([np.load(tmp_path / f"{split}.npy") for split in ("query", "gallery")])
    )
    query_labels, gallery_labels = features.read_labels(tmp_path)
    return cost("problem").Problem(
        query=images[:40],
        gallery=images[40:],
        images=images,
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        match="standard",
        device=CPU,
        precision="auto",
    )


def test_features_are_unit_rows_with_labels(problem):
    assert problem.images.shape == (340, 160)
    assert problem.images.dtype == torch.float32
    assert torch.allclose(problem.images.norm(dim=1), torch.ones(340), atol=1e-6)
    labels = problem.gallery_labels
    assert set(labels.pids) == set(range(12))
    assert np.array_equal(labels.clothes_ids // 6, labels.pids)


def test_distractors_are_nobody_twice(cost, tmp_path):
    features = cost("synthetic_features")
    size = replace(features.MARKET, num_queries=8, num_gallery=100, num_pids=5, dim=128)
    features.write_features(tmp_path, size)
    _, gallery = features.read_labels(tmp_path)
    pids, counts = np.unique(gallery.pids, return_counts=True)
    assert (counts[pids >= 5] == 1).all()
    assert (pids >= 5).sum() == 15


@pytest.mark.parametrize("match", ["standard", "cloth_changing"])
def test_the_sorting_reference_finds_what_the_engine_finds(cost, problem, match):
    found = cost("contestants").run_sorting(replace(problem, match=match))
    ranking = rank_gallery(
        problem.query, problem.gallery, problem.query_labels, problem.gallery_labels, match
    )
    assert found.mean_ap == pytest.approx(ranking.mean_ap, abs=1e-12)
    assert 0.1 < found.mean_ap < 0.999
    np.testing.assert_allclose(found.average_precision, ranking.average_precision, atol=1e-12)
    np.testing.assert_array_equal(found.cmc, ranking.cmc(len(found.cmc)))


def test_the_dense_reference_finds_the_distances_of_the_engine(cost, problem):
    found = cost("rerank_contestants").dense_distances(problem)
    ours = rerank(problem.query, problem.gallery).distances(slice(0, 40), slice(0, 300))
    np.testing.assert_allclose(found, ours.numpy(), atol=2e-6)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_peak_memory_counts_what_was_held_and_let_go(cost):
    with cost("memory").PeakMemory(CPU) as peak:
        held = np.ones(2**23)
        time.sleep(0.3)  # the sampler's turn
        del held
    # 64 MiB; other threads of the process may let go of a little meanwhile.
    assert 0.9 < peak.memory / 2**26 < 1.5
    assert 0.9 < peak.anonymous / 2**26 < 1.5
    assert peak.resident > peak.memory


def test_all_ways_to_compute_the_product_run(cost, problem):
    ways = cost("measuring").products(problem.query, problem.gallery)
    assert list(ways) == ["whole", "rows", "tiles", "wide tiles"]
    for way in ways.values():
        way()()


def test_a_plot_is_a_sound_picture(cost):
    loglog = cost("loglog")
    lines = [loglog.Line("a < b", [(1000, 2.0), (10, 0.5)]), loglog.Line("none", [(10, 0.0)])]
    text = loglog.draw([loglog.Panel("cost", "images", lines)], label="cost of it")
    names = [element.text for element in ElementTree.fromstring(text).iter() if element.text]
    assert {"cost", "images", "a < b", "10", "1,000"} <= set(names)
    assert text.count("<circle") == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [([10, 1000], [1, 2, 3]), ([3, 40], [0, 1, 2]), ([10], [1, 2]), ([0.02], [-2, -1])],
)
def test_decades_enclose_the_values(cost, values, expected):
    assert cost("loglog").decades(values) == expected


@pytest.fixture
def row(cost):
    return cost("rounds").Row(
        case="LTCC",
        contestant="product",
        does="",
        threads=1,
        device="cpu",
        precision="auto",
        num_queries=1,
        of_queries=1,
        num_gallery=1,
        dim=1,
        product="whole",
        rounds=1,
        machine="",
        ratios=(1.0, 1.5),
    )


def test_new_rows_take_the_place_of_those_they_repeat(cost, row):
    rounds = cost("rounds")
    other = replace(row, threads=2)
    again = replace(row, ratio=1.0)
    assert rounds.merge([row, other], [again]) == [again, other]


def test_rows_survive_their_file(cost, row, tmp_path):
    rounds = cost("rounds")
    assert rounds.read_rows(tmp_path / "none.json") == []
    rounds.write_rows(tmp_path / "rows.json", [row])
    assert rounds.read_rows(tmp_path / "rows.json") == [row]
