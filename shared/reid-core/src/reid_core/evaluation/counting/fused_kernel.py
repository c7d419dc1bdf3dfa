"""The Triton kernels of ``kernel_counter``: device code.

Both kernels end in the same few lines: a cell's score is looked up among its row's sorted
thresholds by binary search, which takes the same few steps for one threshold as for two hundred,
and only the few cells that reach a threshold touch memory again.

Arguments are those of ``KernelCounter``; the tables of edges and the histogram are (B, R). Capitals
are compiled in.
"""
# Device code is typed by Triton, anew for every kind of arguments.
# ruff: noqa: ANN001, ANN202, ANN201
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["count_products_kernel", "count_scores_kernel"]

# Sizes that differ from call to call would otherwise have the kernels compiled anew where they
# happen to be 1 or a multiple of 16, and so would slices that start anywhere.
_VARYING_SIZES = ["num_rows", "num_columns", "first_column", "num_buckets", "capacity"]
_VARYING_STARTS = ["query_ids", "gallery_ids", "offsets", "found"]


@triton.jit(do_not_specialize=_VARYING_SIZES, do_not_specialize_on_alignment=_VARYING_STARTS)
def count_scores_kernel(
    scores,
    query_ids,
    gallery_ids,
    high,
    low,
    histogram,
    cursor,
    found,
    found_scores,
    num_rows,
    num_columns,
    first_column,
    num_buckets,
    capacity,
    PIECE: tl.constexpr,
):
    """Count a piece of a row."""
    num_pieces = tl.cdiv(num_columns, PIECE)
    row = tl.program_id(0) // num_pieces
    columns = (tl.program_id(0) % num_pieces) * PIECE + tl.arange(0, PIECE)
    inside = columns < num_columns
    line = scores + row.to(tl.int64) * num_columns
    values = tl.load(line + columns, mask=inside, other=float("-inf"))
    column_ids = tl.load(gallery_ids + columns, mask=inside, other=0)
    values = tl.where(column_ids != tl.load(query_ids + row), values, float("-inf"))
    if tl.max(values, axis=0) >= tl.load(low + row):
        _count_cells(
            values,
            tl.zeros_like(columns) + row,
            columns + first_column,
            high,
            low,
            histogram,
            cursor,
            found,
            found_scores,
            num_rows,
            num_buckets,
            capacity,
        )


@triton.jit(do_not_specialize=_VARYING_SIZES, do_not_specialize_on_alignment=_VARYING_STARTS)
def count_products_kernel(
    queries,
    gallery,
    query_ids,
    gallery_ids,
    offsets,
    high,
    low,
    histogram,
    cursor,
    found,
    found_scores,
    desk,
    num_rows,
    num_columns,
    first_column,
    num_buckets,
    capacity,
    dim,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    PIECE: tl.constexpr,
    WHOLE_STEPS: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Count tile after tile, those of GROUP blocks of queries along the gallery, then the next.

    Programs that run together then share both queries and images, which stay in the cache.
    """
    num_row_blocks = tl.cdiv(num_rows, BLOCK_R)
    num_column_blocks = tl.cdiv(num_columns, BLOCK_W)
    num_tiles = num_row_blocks * num_column_blocks
    desk += tl.program_id(0) * (BLOCK_R * BLOCK_W)
    for tile in range(tl.program_id(0), num_tiles, tl.num_programs(0)):
        group = tile // (GROUP * num_column_blocks)
        place = tile % (GROUP * num_column_blocks)
        group_size = tl.minimum(num_row_blocks - group * GROUP, GROUP)
        top = (group * GROUP + place % group_size) * BLOCK_R
        start = (place // group_size) * BLOCK_W
        rows = top + tl.arange(0, BLOCK_R)
        columns = start + tl.arange(0, BLOCK_W)
        has_row = rows < num_rows
        has_column = columns < num_columns
        scores = _products(
            queries,
            gallery,
            tl.minimum(rows, num_rows - 1),
            tl.minimum(columns, num_columns - 1),
            dim,
            BLOCK_R,
            BLOCK_W,
            BLOCK_D,
            WHOLE_STEPS,
            INPUT_PRECISION,
        )
        scores -= tl.load(offsets + columns, mask=has_column, other=0.0)[None, :]
        row_ids = tl.load(query_ids + rows, mask=has_row, other=0)
        column_ids = tl.load(gallery_ids + columns, mask=has_column, other=0)
        is_rival = (row_ids[:, None] != column_ids[None, :]) & has_column[None, :]
        scores = tl.where(is_rival & has_row[:, None], scores, float("-inf"))
        lowest = tl.load(low + rows, mask=has_row, other=float("inf"))
        if tl.max((tl.max(scores, axis=1) >= lowest).to(tl.int32), axis=0) > 0:
            # Tensor cores leave a tile scattered over the threads; looking it up as it lies would
            # take all registers. The program has a desk, memory that stays in the cache, from which
            # it takes the tile again in order, piece by piece.
            cells = tl.arange(0, BLOCK_R)[:, None] * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
            tl.store(desk + cells, scores)
            tl.debug_barrier()
            for first in range(0, BLOCK_R * BLOCK_W, PIECE):
                piece = first + tl.arange(0, PIECE)
                _count_cells(
                    tl.load(desk + piece),
                    tl.minimum(top + piece // BLOCK_W, num_rows - 1),
                    first_column + start + piece % BLOCK_W,
                    high,
                    low,
                    histogram,
                    cursor,
                    found,
                    found_scores,
                    num_rows,
                    num_buckets,
                    capacity,
                )
            tl.debug_barrier()


@triton.jit
def _products(
    queries,
    gallery,
    rows,
    columns,
    dim,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WHOLE_STEPS: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Return the tile's inner products, (BLOCK_R, BLOCK_W) float32, added in steps of BLOCK_D."""
    depth = tl.arange(0, BLOCK_D)
    # A gallery may hold more than 2**31 numbers.
    left = queries + rows.to(tl.int64)[:, None] * dim + depth[None, :]
    right = gallery + columns.to(tl.int64)[None, :] * dim + depth[:, None]
    products = tl.zeros((BLOCK_R, BLOCK_W), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        if WHOLE_STEPS:
            row_part = tl.load(left)
            column_part = tl.load(right)
        else:
            inside = depth < dim - start
            row_part = tl.load(left, mask=inside[None, :], other=0.0)
            column_part = tl.load(right, mask=inside[:, None], other=0.0)
        products = tl.dot(row_part, column_part, products, input_precision=INPUT_PRECISION)
        left += BLOCK_D
        right += BLOCK_D
    return products


@triton.jit
def _count_cells(
    scores,
    rows,
    columns,
    high,
    low,
    histogram,
    cursor,
    found,
    found_scores,
    num_rows,
    num_buckets,
    capacity,
):
    """Count cells, 1-D, of which those of -inf never count, and keep the ambiguous ones."""
    # A cell's bucket is the number of its row's high edges that it reaches.
    buckets = tl.zeros_like(rows)
    half = num_buckets // 2
    while half > 0:
        edges = tl.load(high + (buckets + (half - 1)) * num_rows + rows)
        buckets = tl.where(scores >= edges, buckets + half, buckets)
        half = half // 2
    table_cells = buckets * num_rows + rows
    tl.atomic_add(histogram + table_cells, 1, mask=buckets > 0, sem="relaxed")
    # Edges ascend: if any window holds the cell, then the first that ends above it does.
    near = scores >= tl.load(low + table_cells)
    num_near = tl.sum(near.to(tl.int32), axis=0)
    if num_near > 0:
        # Whatever is asked before a barrier must be the same for all threads of a program. How far
        # the cursor is, is not: others move it meanwhile. So it goes on after an overflow, too.
        first = tl.atomic_add(cursor, num_near.to(tl.int64), sem="relaxed")
        slots = tl.minimum(first, capacity).to(tl.int32) + tl.cumsum(near.to(tl.int32), axis=0) - 1
        kept = near & (slots < capacity)
        tl.store(found + slots, rows, mask=kept)
        tl.store(found + capacity + slots, columns, mask=kept)
        tl.store(found_scores + slots, scores, mask=kept)
