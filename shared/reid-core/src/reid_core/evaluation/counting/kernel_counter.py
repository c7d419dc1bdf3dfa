"""Counting by the Triton kernels of ``fused_kernel``; importing this module needs Triton.

Legend: R queries, W gallery images, D embedding size, K thresholds per query, B buckets, the
smallest power of two above K.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from reid_core.evaluation.counting.fused_kernel import count_products_kernel, count_scores_kernel

__all__ = ["Blocks", "KernelCounter", "choose_blocks"]


class Blocks(NamedTuple):
    """How the fused kernel cuts the work.

    Attributes:
        rows: Queries per tile.
        columns: Gallery images per tile.
        depth: Entries of the embeddings that are multiplied at a time.
        warps: Warps per program.
        stages: Steps of ``depth`` that are in flight.
        per_processor: Programs that run on a multiprocessor at once.
        registers: Most registers per thread, or None: what the compiler likes.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    per_processor: int = 1
    registers: int | None = None

    def shared_memory(self, itemsize: int) -> int:
        """Return the bytes of shared memory that the operands in flight take."""
        return self.stages * (self.rows + self.columns) * self.depth * itemsize


# Cells that a thread looks up at a time: enough to hide the latency of the tables.
_CELLS_PER_THREAD = 16

# Blocks of queries that are worked on together: 16 MB at D = 4096, half of a large GPU's cache.
_GROUP = 8

# Cells of a row that a program of the second kernel counts, and its warps.
_ROW_PIECE, _ROW_WARPS = 2048, 4


def choose_blocks(precision: str, capability: tuple[int, int], shared_memory: int) -> Blocks:
    """Return how to cut the work on a device; a step takes 128 bytes of an embedding.

    Args:
        precision: ``fp32``, ``tf32`` or ``bf16``.
        capability: Compute capability.
        shared_memory: Bytes of shared memory that one program may have.
    """
    itemsize = 2 if precision == "bf16" else 4
    depth = 128 // itemsize
    if precision == "fp32":
        # No tensor cores: a thread multiplies 4 x 4 entries of its own.
        choices = [Blocks(64, 64, depth, warps=4, stages=2, per_processor=2)]
    else:
        choices = [
            Blocks(128, 128, depth, warps=8, stages=3),
            Blocks(128, 64, depth, warps=4, stages=2),
        ]
        if capability[0] == 9:
            # Two programs per processor: one multiplies while the other counts.
            twice = Blocks(128, 128, depth, warps=8, stages=3, per_processor=2, registers=128)
            choices.insert(0, twice)
    for blocks in choices:
        if blocks.per_processor * blocks.shared_memory(itemsize) <= shared_memory:
            return blocks
    return Blocks(64, 64, depth, warps=4, stages=2)


class KernelCounter:
    """Counts the cells of a chunk of queries, tile by tile, without waiting for the device.

    Args:
        query_ids: (R,) int64.
        high: (R, K) float32, ascending; a score from here on surely counts.
        low: (R, K) float32, ascending, not above ``high``; a score below does not count.
        capacity: Most ambiguous cells that are kept.
    """

    def __init__(self, query_ids: Tensor, high: Tensor, low: Tensor, capacity: int) -> None:
        num_rows, self._num_edges = high.shape
        self._query_ids = query_ids.contiguous()
        self._capacity = capacity
        self._num_buckets = triton.next_power_of_2(self._num_edges + 1)
        # (B, R): the threads of a warp look at neighbouring rows.
        self._high, self._low = (self._table(edges) for edges in (high, low))
        device = high.device
        self._histogram = torch.zeros(self._num_buckets, num_rows, dtype=torch.int32, device=device)
        # It counts beyond the capacity, where most cells of a large gallery may be ambiguous.
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._found = torch.empty(2, capacity, dtype=torch.int32, device=device)
        self._found_scores = torch.empty(capacity, dtype=torch.float32, device=device)

    def _table(self, edges: Tensor) -> Tensor:
        table = edges.new_full((self._num_buckets, len(edges)), torch.inf)
        table[: self._num_edges] = edges.T
        return table

    def add_scores(self, scores: Tensor, gallery_ids: Tensor, first_column: int) -> None:
        """Count the cells of a tile of scores.

        Args:
            scores: (R, W) float32, contiguous.
            gallery_ids: (W,) int64; a cell of the query's own identity is not counted.
            first_column: The tile's first gallery image.
        """
        num_rows, num_columns = scores.shape
        grid = (num_rows * triton.cdiv(num_columns, _ROW_PIECE),)
        with self._on_device():
            count_scores_kernel[grid](
                scores,
                self._query_ids,
                gallery_ids,
                *self._tables(),
                num_rows,
                num_columns,
                first_column,
                self._num_buckets,
                self._capacity,
                PIECE=_ROW_PIECE,
                num_warps=_ROW_WARPS,
                enable_fp_fusion=True,
            )

    def add_products(
        self,
        queries: Tensor,
        gallery: Tensor,
        gallery_ids: Tensor,
        offsets: Tensor,
        first_column: int,
        precision: str,
        blocks: Blocks | None = None,
        num_programs: int | None = None,
    ) -> None:
        """Count the cells of a tile whose scores are computed on the way and never stored.

        Args:
            queries: (R, D) float32, or bfloat16 where that is the precision; contiguous.
            gallery: (W, D) of the same type, contiguous.
            gallery_ids: (W,) int64; a cell of the query's own identity is not counted.
            offsets: (W,) float32, subtracted from the products of an image.
            first_column: The tile's first gallery image.
            precision: ``fp32``, ``tf32`` or ``bf16``.
            blocks: How to cut the work; by default what suits the device.
            num_programs: Programs that share the work; by default as many as run at once.
        """
        (num_rows, dim), num_columns = queries.shape, len(gallery)
        if blocks is None or num_programs is None:
            device = torch.cuda.get_device_properties(queries.device)
            blocks = blocks or choose_blocks(
                precision, (device.major, device.minor), device.shared_memory_per_block_optin
            )
            num_programs = num_programs or blocks.per_processor * device.multi_processor_count
        num_tiles = triton.cdiv(num_rows, blocks.rows) * triton.cdiv(num_columns, blocks.columns)
        num_programs = min(num_programs, num_tiles)
        cells = blocks.rows * blocks.columns
        desk = torch.empty(num_programs, cells, dtype=torch.float32, device=queries.device)
        options = {} if blocks.registers is None else {"maxnreg": blocks.registers}
        with self._on_device():
            count_products_kernel[(num_programs,)](
                queries,
                gallery,
                self._query_ids,
                gallery_ids,
                offsets,
                *self._tables(),
                desk,
                num_rows,
                num_columns,
                first_column,
                self._num_buckets,
                self._capacity,
                dim,
                BLOCK_R=blocks.rows,
                BLOCK_W=blocks.columns,
                BLOCK_D=blocks.depth,
                GROUP=_GROUP,
                PIECE=min(cells, 32 * blocks.warps * _CELLS_PER_THREAD),
                WHOLE_STEPS=dim % blocks.depth == 0,
                INPUT_PRECISION="tf32" if precision == "tf32" else "ieee",
                num_warps=blocks.warps,
                num_stages=blocks.stages,
                enable_fp_fusion=True,
                **options,
            )

    def counts(self) -> Tensor:
        """Return how many cells surely count, (R, K) int64, on the device."""
        reached = self._histogram.flip(0).cumsum(0).flip(0)
        return reached[1 : self._num_edges + 1].T

    def ambiguous(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Wait for the device; return the ambiguous cells' rows, columns and scores, in any order.

        None where there are more than fit.
        """
        num_found = int(self._cursor.item())
        if num_found > self._capacity:
            return None
        rows, columns = self._found[:, :num_found].long()
        return rows, columns, self._found_scores[:num_found]

    def _tables(self) -> tuple[Tensor, ...]:
        return (
            self._high,
            self._low,
            self._histogram,
            self._cursor,
            self._found,
            self._found_scores,
        )

    def _on_device(self) -> torch.cuda.device | nullcontext[None]:
        """Triton starts kernels on the current device."""
        device = self._high.device
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
