"""Feature extraction and evaluation shared by two processes; a script, started by tests."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from reid_core.data.evaluation_loader import EvaluationBatch
from reid_core.engine import process_group, read_world
from reid_core.evaluation import extract_features, features, own_share

BATCH = 4
WEIGHT = torch.randn(24, 7, generator=torch.Generator().manual_seed(0))


def embed(images):
    return images.flatten(1) @ WEIGHT


def embed_each(images):
    features = embed(images)
    return torch.stack([features, features**3], dim=1)


def batches(images, rows, skipped):
    """Full batches of a share of the list; skipped rows are missing, as from a stream."""
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        part = part[[row not in skipped for row in part]]
        if len(part):
            filled = torch.from_numpy(part).repeat(BATCH)[:BATCH]
            yield EvaluationBatch(images[filled], part)


def extract(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    images = torch.randn(37, 3, 4, 2, generator=torch.Generator().manual_seed(1))
    results = {}
    for name, count, skipped in [
        ("even", 36, ()),
        ("odd", 37, ()),
        ("one", 1, ()),
        ("skipped", 20, (3, 19)),
        ("second process has none", 20, range(10, 20)),
    ]:
        rows = own_share(count, BATCH, rank, world_size)
        for kind, function in (("", embed), (", two features", embed_each)):
            parts = batches(images, rows, skipped)
            results[name + kind] = extract_features(function, parts, num_images=count)
    return results


def main(args: dict) -> None:
    os.environ.update(args["environment"])
    torch.set_num_threads(1)
    folder = Path(args["folder"])
    world = read_world()
    if world.is_main:
        torch.save(extract(0, 1), folder / "alone.pt")
    # Several pieces per exchange.
    features._PIECE_BYTES = 100
    with process_group(world, torch.device("cpu")):
        torch.save(extract(world.rank, world.world_size), folder / f"rank{world.rank}.pt")


if __name__ == "__main__":
    main(ARGS)  # noqa: F821 - given by the test
