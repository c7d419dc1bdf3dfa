"""Counting on a device: both ways against loops, and that a broken compiler is survived."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.evaluation import Labels, l2_normalize, pair_scores, rank_gallery
from reid_core.evaluation.counting import fused, scorer
from reid_core.evaluation.counting import rivals as counting
from reid_core.evaluation.counting.fused import (
    ChunkCounter,
    TileCounts,
    count_tile,
    count_tile_torch,
)


def make_case(seed, num_rows, num_columns, dim, num_edges, num_pids, width=1.0):
    """Small integers, so that every product is exact and many are equal."""
    random = torch.Generator().manual_seed(seed)

    def integers(low, high, *shape):
        return torch.randint(low, high, shape, generator=random)

    middle = integers(-2 * dim, 2 * dim + 1, num_rows, num_edges).float().sort(dim=1).values
    padding = torch.arange(num_edges) >= integers(1, num_edges + 1, num_rows, 1)
    middle[padding] = torch.inf
    return {
        "queries": integers(-2, 3, num_rows, dim).float(),
        "gallery": integers(-2, 3, num_columns, dim).float(),
        "query_ids": integers(0, num_pids, num_rows) * 10**12,
        "gallery_ids": integers(0, num_pids, num_columns) * 10**12,
        "high": middle + width,
        "low": middle - width,
        "offsets": integers(-3, 4, num_columns).float(),
        "capacity": num_rows * num_columns,
    }


def by_loops(case):
    """Counts and ambiguous cells by definition, in float64."""
    num_rows, num_edges = case["high"].shape
    sure = np.zeros((num_rows, num_edges), dtype=np.int64)
    cells = {}
    for row, query in enumerate(case["queries"].double().numpy()):
        windows = list(zip(case["low"][row].tolist(), case["high"][row].tolist(), strict=True))
        for column, image in enumerate(case["gallery"].double().numpy()):
            if case["query_ids"][row] == case["gallery_ids"][column]:
                continue
            score = math.fsum(query * image) - case["offsets"][column].item()
            sure[row] += [score >= high for _, high in windows]
            if any(low <= score < high for low, high in windows):
                cells[row, column] = score
    return sure, cells


def assert_counts(found, case, name=""):
    sure, cells = by_loops(case)
    np.testing.assert_array_equal(found.sure.numpy(force=True), sure, err_msg=name)
    pairs = zip(found.rows.tolist(), found.columns.tolist(), strict=True)
    scores = dict(zip(pairs, found.scores.tolist(), strict=True))
    assert scores == cells, name
    assert len(found.rows) == len(cells), name  # each cell once
    assert (found.sure.dtype, found.rows.dtype, found.scores.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
    )


def distinct_scores():
    """One query; gallery scores 0, 1, ..., 9."""
    case = make_case(0, 1, 10, 1, 1, 1)
    case["query_ids"] = torch.tensor([-1])
    case["queries"], case["gallery"] = torch.ones(1, 1), torch.arange(10.0)[:, None]
    case["offsets"] = torch.zeros(10)
    return case


CASES = {
    "one cell": make_case(1, 1, 1, 1, 1, 2),
    "one threshold, odd sizes": make_case(2, 3, 50, 7, 1, 2),
    "several tiles": make_case(3, 37, 75, 33, 3, 4),
    "several groups": make_case(12, 16 * 9 + 5, 70, 5, 2, 9),
    "whole steps": make_case(4, 20, 70, 64, 9, 5),
    "all of one identity": make_case(5, 33, 50, 16, 2, 1),
    "many thresholds": make_case(6, 20, 45, 20, 70, 6),
    "a power of two": make_case(7, 5, 33, 16, 32, 100),
    "one below it": make_case(8, 5, 33, 16, 31, 100),
    "windows that overlap": make_case(9, 18, 40, 8, 12, 3, width=9.0),
    "no ambiguous cell": make_case(10, 18, 40, 8, 5, 3, width=0.0),
    "duplicates": make_case(11, 18, 40, 8, 5, 3)
    | {"queries": torch.ones(18, 8), "gallery": torch.ones(40, 8), "offsets": torch.zeros(40)},
    "distinct scores": distinct_scores(),
}


def features(case):
    return [case[key] for key in ("queries", "gallery", "query_ids", "gallery_ids", "high", "low")]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_operations_count_as_loops_do(name, precision):
    case = CASES[name]
    found = count_tile_torch(
        *features(case), capacity=10**5, precision=precision, offsets=case["offsets"]
    )
    assert_counts(found, case)


def test_by_hand():
    case = distinct_scores()
    case["high"], case["low"] = torch.tensor([[5.0, 7.5, 99.0]]), torch.tensor([[4.0, 6.5, 99.0]])
    found = count_tile(*features(case), capacity=2, precision="fp32")
    assert found.sure.tolist() == [[5, 2, 0]]
    assert sorted(zip(found.columns.tolist(), found.scores.tolist(), strict=True)) == [
        (4, 4.0),
        (7, 7.0),
    ]


@pytest.mark.parametrize("cells", [1, 40, 150])
def test_blocks_change_nothing(monkeypatch, cells):
    case = CASES["several tiles"]
    monkeypatch.setattr(fused, "_BLOCK_CELLS", cells)
    found = count_tile_torch(
        *features(case), capacity=10**5, precision="fp32", offsets=case["offsets"]
    )
    assert_counts(found, case)


def test_tiles_and_scores_add_up():
    case = CASES["several tiles"]
    counter = ChunkCounter(
        case["query_ids"], case["high"], case["low"], capacity=10**5, kernels=False
    )
    head, tail = slice(0, 31), slice(31, None)
    counter.add_products(
        case["queries"],
        case["gallery"][head],
        case["gallery_ids"][head],
        precision="bf16",
        offsets=case["offsets"][head],
    )
    scores = case["queries"] @ case["gallery"][tail].T - case["offsets"][tail]
    counter.add_scores(scores, case["gallery_ids"][tail], first_column=31)
    assert_counts(counter.result(), case)


def test_no_tile_at_all():
    """A process may hold no part of the gallery."""
    case = CASES["several tiles"]
    counter = ChunkCounter(case["query_ids"], case["high"], case["low"], capacity=1, kernels=False)
    found = counter.result()
    assert found.sure.shape == case["high"].shape
    assert not found.sure.any()
    assert [len(part) for part in found[1:]] == [0, 0, 0]


@pytest.mark.parametrize("name", ["several tiles", "duplicates"])
def test_overflow(name):
    case = CASES[name]
    num_cells = len(by_loops(case)[1])
    for capacity, fits in [(num_cells, True), (num_cells - 1, False), (0, False)]:
        found = count_tile(
            *features(case), capacity=capacity, precision="fp32", offsets=case["offsets"]
        )
        assert (found is not None) == fits


TASKS = [
    *((name, kernel, 1) for name in CASES for kernel in ("fp32", "scores")),
    *(("several tiles", kernel, 2) for kernel in ("fp32", "tf32", "scores")),
]
OVERFLOW_CASE = "one threshold, odd sizes"
OVERFLOW_TASKS = [(kernel, lacking) for kernel in ("fp32", "scores") for lacking in (0, 1, 10**6)]


def make_pairs(dim):
    """Rows whose sums depend on the order of the additions, and pairs of them."""
    random = torch.Generator().manual_seed(dim)
    scale = torch.logspace(-15, 15, dim)
    queries, gallery = (torch.randn(num, dim, generator=random) for num in (9, 11))
    pairs = torch.tensor([[0, 3, 8, 8, 2], [10, 0, 5, 5, 1]])
    return queries * scale, gallery * scale.flip(0), *pairs


PAIRS = {dim: make_pairs(dim) for dim in (1, 2, 3, 5, 7, 64, 65, 100, 129, 515, 2048)}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Results by Triton's interpreter, which has to be chosen before the kernels are imported."""
    pytest.importorskip("triton")
    tasks = [(CASES[name], *how) for name, *how in TASKS]
    case = CASES[OVERFLOW_CASE]
    num_cells = len(by_loops(case)[1])
    for kernel, lacking in OVERFLOW_TASKS:
        tasks.append((case | {"capacity": max(0, num_cells - lacking)}, kernel, 1))
    folder = tmp_path_factory.mktemp("fused")
    torch.save((tasks, list(PAIRS.values())), folder / "tasks.pt")
    script = Path(__file__).with_name("fused_cases.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("the interpreter of this Triton (3.6 and older) does not work with NumPy 2.4")
    assert done.returncode == 0, done.stderr
    counted, scored = torch.load(folder / "results.pt")
    return dict(zip((*TASKS, *OVERFLOW_TASKS, *PAIRS), counted + scored, strict=True))


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_kernels_count_as_loops_do(interpreted, task):
    assert_counts(TileCounts(*interpreted[task]), CASES[task[0]])


@pytest.mark.parametrize("task", OVERFLOW_TASKS, ids=str)
def test_kernels_overflow(interpreted, task):
    assert (interpreted[task] is None) == (task[1] > 0)


@pytest.mark.parametrize("dim", PAIRS)
def test_pair_kernel_adds_in_the_fixed_order(interpreted, dim):
    queries, gallery, rows, columns = PAIRS[dim]
    expected = pair_scores(queries, gallery, rows.numpy(), columns.numpy())
    np.testing.assert_array_equal(interpreted[dim].numpy(), expected)
    if dim > 64:
        other = (queries[rows].double() * gallery[columns].double()).flip(1).cumsum(1)[:, -1]
        assert (other.numpy() != expected).any()


def test_order_of_additions():
    pytest.importorskip("triton")
    from reid_core.evaluation.counting.pair_kernel import addition_order

    assert addition_order(1).tolist() == [0]
    assert addition_order(4).tolist() == [0, 1, 2, 3]
    # 5: 0+3, 1+4, 2; then 0+2, 1; then 0+1.
    assert addition_order(5).tolist() == [0, 1, 2, -1, 3, 4, -1, -1]
    for dim in (6, 7, 100, 515):
        order = addition_order(dim)
        assert sorted(order[order >= 0]) == list(range(dim))
        assert dim <= len(order) < 2 * dim


def assembly(precision, capability):
    """Compile the kernel of products for a GPU that need not be here."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from reid_core.evaluation.counting.fused_kernel import count_products_kernel as kernel
    from reid_core.evaluation.counting.kernel_counter import choose_blocks

    blocks = choose_blocks(precision, divmod(capability, 10), 160 * 1024)
    constants = {
        "BLOCK_R": blocks.rows,
        "BLOCK_W": blocks.columns,
        "BLOCK_D": blocks.depth,
        "GROUP": 8,
        "PIECE": 4096,
        "WHOLE_STEPS": True,
        "INPUT_PRECISION": "tf32" if precision == "tf32" else "ieee",
    }
    features = "*bf16" if precision == "bf16" else "*fp32"
    types = dict.fromkeys(("queries", "gallery"), features)
    types |= dict.fromkeys(("query_ids", "gallery_ids", "cursor"), "*i64")
    types |= dict.fromkeys(("histogram", "found"), "*i32")
    types |= dict.fromkeys(("offsets", "high", "low", "found_scores", "desk"), "*fp32")
    types |= dict.fromkeys(constants, "constexpr")
    names = kernel.arg_names
    source = ASTSource(
        kernel,
        signature={name: types.get(name, "i32") for name in names},
        constexprs=constants,
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in ("queries", "dim")},
    )
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm


@pytest.mark.parametrize(
    ("precision", "capability", "instruction"),
    [
        ("tf32", 80, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"),
        ("bf16", 80, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
        ("tf32", 90, "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32"),
        ("bf16", 90, "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16"),
        ("fp32", 90, "fma.rn.f32"),
    ],
)
def test_kernels_compile_for_the_right_units(
    monkeypatch, tmp_path, precision, capability, instruction
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled = assembly(precision, capability)
    assert compiled["cubin"]
    assert instruction in compiled["ptx"]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (9, 0), (12, 0)])
@pytest.mark.parametrize("kilobytes", [48, 64, 99, 163, 227])
def test_blocks_fit_the_device(precision, capability, kilobytes):
    pytest.importorskip("triton")
    from reid_core.evaluation.counting.kernel_counter import choose_blocks

    blocks = choose_blocks(precision, capability, kilobytes * 1024)
    itemsize = 2 if precision == "bf16" else 4
    assert blocks.per_processor * blocks.shared_memory(itemsize) <= kilobytes * 1024


@pytest.fixture
def unproved():
    """Forget what was tried before and after."""
    caches = (fused._proved, fused._warn_once)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_without_triton_one_warning_says_so(unproved, monkeypatch, caplog):
    for name in ("triton", "triton.language"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("kernel_counter", "fused_kernel", "pair_kernel"):
        monkeypatch.delitem(sys.modules, f"reid_core.evaluation.counting.{name}", raising=False)
    with caplog.at_level(logging.WARNING):
        for dim in (8, 8, 16):
            assert not fused.kernels_work(torch.device("cuda"), "tf32", dim)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ModuleNotFoundError: import of triton halted" in caplog.text
    assert "PyTorch operations give the same results" in caplog.text


@pytest.mark.parametrize("wrong", [False, True])
def test_kernels_that_fail_are_not_used(unproved, monkeypatch, caplog, wrong):
    pytest.importorskip("triton")
    calls = []

    def counts_agree(*arguments):
        calls.append(arguments)
        if wrong:
            return False
        raise RuntimeError("PTX assembly aborted\nwith a long listing")

    monkeypatch.setattr(fused, "_counts_agree", counts_agree)
    for _ in range(2):
        assert not fused.kernels_work(torch.device("cuda"), "bf16", 64)
    assert len(calls) == len(caplog.records) == 1
    reason = "they get a small known case wrong" if wrong else "RuntimeError: PTX assembly abor"
    assert reason in caplog.text
    assert "listing" not in caplog.text


def test_the_cpu_never_asks_for_kernels(unproved, caplog):
    assert not fused.kernels_work(torch.device("cpu"), "tf32", 64)
    assert not caplog.records


@pytest.mark.parametrize("kernels", [False, True])
def test_known_case_has_cells_of_every_kind(monkeypatch, kernels):
    """Where kernels are wrong about any kind of cell, the known case tells."""
    results = []

    class Counter(ChunkCounter):
        def __init__(self, *args, capacity, kernels):
            super().__init__(*args, capacity=capacity, kernels=False)
            self.spoil = kernels

        def result(self):
            found = super().result()
            results.append(found)
            if self.spoil and kernels:
                return found._replace(columns=found.columns.flip(0))
            return found

    monkeypatch.setattr(fused, "ChunkCounter", Counter)
    agree = fused._counts_agree(torch.device("cpu"), "tf32", 2048)
    assert agree != kernels
    assert all((found.sure > 0).any(dim=0).all() for found in results)
    assert all(len(found.rows) > 100 for found in results)


def near_ties(seed, num_queries, num_gallery, dim, num_pids):
    """Features of which many hardly differ, with their labels."""
    rng = np.random.default_rng(seed)
    pids = [rng.integers(0, num_pids, count) for count in (num_queries, num_gallery)]
    centres = rng.standard_normal((num_pids, dim))
    values = [centres[of] + 1.5 * rng.standard_normal((len(of), dim)) for of in pids]
    copies = rng.integers(0, num_gallery, num_gallery // 4)
    values[1][: len(copies)] = values[1][copies] * (1 + 1e-8)
    labels = [Labels(pids=of, camids=rng.integers(0, 4, len(of))) for of in pids]
    return [l2_normalize(torch.from_numpy(rows).float()) for rows in values], labels


RANKS = ("average_precision", "inverse_negative_penalty", "first_hit")


@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32", "bf16"])
@pytest.mark.parametrize(("tile", "max_cells"), [(None, 2**26), (333, 2**26), (700, 20)])
def test_ranks_counted_as_on_a_device(monkeypatch, metric, precision, tile, max_cells):
    vectors, labels = near_ties(0, 60, 1000, 64, 12)
    expected = rank_gallery(*vectors, *labels, metric=metric)
    monkeypatch.setattr(counting, "_counts_in_threads", lambda device: False)
    monkeypatch.setattr(counting, "_MAX_CELLS", max_cells)
    found = rank_gallery(*vectors, *labels, metric=metric, precision=precision, chunk=25, tile=tile)
    for name in RANKS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_gpu_counts_as_loops_do(name, precision):
    case = CASES[name]
    on_gpu = [values.cuda() for values in features(case)]
    options = {"capacity": 10**5, "precision": precision, "offsets": case["offsets"].cuda()}
    assert fused.kernels_work(on_gpu[0].device, precision, on_gpu[0].shape[1])
    assert_counts(count_tile(*on_gpu, **options), case)
    assert_counts(count_tile_torch(*on_gpu, **options), case)


@pytest.mark.gpu
@pytest.mark.parametrize("dim", [2048, 2000, 515])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_gpu_kernels_compile_and_agree(precision, dim):
    assert fused._counts_agree(torch.device("cuda", 0), precision, dim)


@pytest.mark.gpu
@pytest.mark.parametrize("dim", PAIRS)
def test_gpu_scores_pairs_as_the_cpu_does(dim):
    from reid_core.evaluation.counting.pair_kernel import pair_products

    queries, gallery, rows, columns = PAIRS[dim]
    found = pair_products(*(values.cuda() for values in PAIRS[dim]))
    expected = pair_scores(queries, gallery, rows.numpy(), columns.numpy())
    np.testing.assert_array_equal(found.cpu().numpy(), expected)
    assert fused.pair_kernel_works(found.device, dim)


@pytest.mark.gpu
def test_gpu_multiplies_in_float32_by_the_kernel_too():
    """The engine leaves float32 products to the library; the kernel knows them all the same."""
    from reid_core.evaluation.counting.kernel_counter import KernelCounter

    case = CASES["several tiles"]
    on_gpu = {key: values.cuda() for key, values in case.items() if key != "capacity"}
    counter = KernelCounter(on_gpu["query_ids"], on_gpu["high"], on_gpu["low"], 10**5)
    counter.add_products(
        *(on_gpu[key] for key in ("queries", "gallery", "gallery_ids", "offsets")), 0, "fp32"
    )
    assert_counts(TileCounts(counter.counts(), *counter.ambiguous()), case)


@pytest.mark.gpu
@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
@pytest.mark.parametrize("kernels", [True, False])
def test_gpu_ranks_as_the_cpu_does(monkeypatch, metric, kernels):
    vectors, labels = near_ties(0, 300, 5000, 256, 40)
    expected = rank_gallery(*vectors, *labels, metric=metric)
    if not kernels:
        for module in (counting, scorer):
            monkeypatch.setattr(module, "kernels_work", lambda *_: False)
    for precision in ("fp32", "tf32", "bf16"):
        for tile in (None, 1111):
            found = rank_gallery(
                *vectors,
                *labels,
                metric=metric,
                device=torch.device("cuda"),
                precision=precision,
                tile=tile,
            )
            for name in RANKS:
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_gpu_overflows_in_order(precision):
    """Programs that find more than fit, all at once, many times: each has to end as it began."""
    ones = torch.ones(2000, 256, device="cuda")
    ids = torch.arange(len(ones), device="cuda")
    high, low = (torch.full((len(ones), 3), edge, device="cuda") for edge in (300.0, 200.0))
    for capacity in (0, 10, 1000, 100_000):
        for _ in range(10):
            tile = (ones, ones, ids, ids, high, low)
            assert count_tile(*tile, capacity=capacity, precision=precision) is None
    torch.cuda.synchronize()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "tf32", "bf16"])
def test_gpu_ranks_a_collapsed_network_as_the_cpu_does(precision):
    """Nearly all scores tie: more cells are ambiguous than are kept."""
    rng = np.random.default_rng(0)
    values = [torch.from_numpy(1 + 1e-7 * rng.random((count, 512))).float() for count in (90, 900)]
    labels = [Labels(pids=rng.integers(0, 9, len(of)), camids=np.arange(len(of))) for of in values]
    expected = rank_gallery(*values, *labels)
    for _ in range(5):
        found = rank_gallery(
            *values, *labels, device=torch.device("cuda"), precision=precision, tile=200
        )
        for name in RANKS:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
