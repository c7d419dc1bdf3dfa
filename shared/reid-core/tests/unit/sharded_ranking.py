"""Ranking by several processes; a script, started by tests.

``folder`` holds the input (``case.npz``); process r leaves what it found in ``<r>.npz``, or the
message of the error that stopped it in ``<r>.txt``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from reid_core.engine.distributed import process_group, read_world
from reid_core.errors import ReIDError
from reid_core.evaluation import Labels, Ranking, rank_gallery
from reid_core.evaluation import sharding as ways


def part(labels: Labels, start: int, stop: int) -> Labels:
    return labels.take(np.arange(start, stop))


def rank_own_columns(case, rank, world_size, options) -> Ranking:
    query_features, gallery_features, query, gallery = case
    start, stop = ways.own_columns(len(gallery), rank, world_size)
    return rank_gallery(
        query_features,
        gallery_features[start:stop],
        query,
        gallery,
        columns=(start, stop),
        **options,
    )


def rank_own_shards(case, rank, world_size, options) -> Ranking:
    query_features, gallery_features, query, gallery = case
    # Uneven parts: the first process holds no gallery images, the last no queries.
    first, last = rank == 0, rank == world_size - 1
    start, stop = ways.own_columns(len(gallery), rank - 1, world_size - 1)
    begin, end = ways.own_columns(len(query), rank, world_size - 1)
    columns = slice(0, 0) if first else slice(start, stop)
    rows = slice(0, 0) if last else slice(begin, end)
    return ways.rank_shards(
        query_features[rows],
        gallery_features[columns],
        part(query, rows.start, rows.stop),
        part(gallery, columns.start, columns.stop),
        **options,
    )


def read_case(path: Path):
    arrays = np.load(path)
    labels = [
        Labels(pids=arrays[f"{name}_pids"], camids=arrays[f"{name}_camids"])
        for name in ("query", "gallery")
    ]
    features = [torch.from_numpy(arrays[name]) for name in ("query", "gallery")]
    return (*features, *labels)


def main(args: dict) -> None:
    os.environ.update(args["environment"])
    torch.set_num_threads(1)
    world, folder = read_world(), Path(args["folder"])
    case = read_case(folder / "case.npz")
    rank_parts = rank_own_columns if args["how"] == "columns" else rank_own_shards
    try:
        with process_group(world, torch.device("cpu")):
            if args.get("dies"):
                os._exit(9)
            ranking = rank_parts(case, world.rank, world.world_size, args["options"])
    except ReIDError as error:
        (folder / f"{world.rank}.txt").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
    found = {name: getattr(ranking, name) for name in Ranking.__dataclass_fields__}
    np.savez(folder / f"{world.rank}.npz", **{k: v for k, v in found.items() if v is not None})


if __name__ == "__main__":
    main(ARGS)  # noqa: F821 - given by the test
