"""Synthetic features shaped like those of a ReID network, for measurements of time and memory.

A feature is the sum of its identity's, its camera's and (where people change clothes) its outfit's
vector and of noise, in 128 dimensions, rotated into D dimensions and L2-normalised. What is
measured on them says what an evaluation costs and nothing of how well anyone is recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.evaluation.rules import Labels

LATENT_DIM = 128
CAMERA_SCALE = 0.5
OUTFIT_SCALE = 1.0
BLOCK_ROWS = 8192

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many images, people, cameras and dimensions.

    Attributes:
        name: What ``--sizes`` calls it.
        title: What the table calls it.
        noise: Standard deviation of the noise; an identity's vector has 1. It sets the mAP.
        num_outfits: Outfits per person; 0 where outfits are not labelled.
        distractors: Share of the gallery that shows nobody else twice.
    """

    name: str
    title: str
    num_queries: int
    num_gallery: int
    dim: int
    num_pids: int
    num_cameras: int
    noise: float
    num_outfits: int = 0
    distractors: float = 0.0

    @property
    def shape(self) -> str:
        """Queries, gallery images and dimensions, as text."""
        return f"{self.num_queries:,} x {self.num_gallery:,}, D = {self.dim}"


LTCC = Size(
    name="ltcc",
    title="LTCC",
    num_queries=493,
    num_gallery=7_050,
    dim=2048,
    num_pids=75,
    num_cameras=12,
    noise=1.6,
    num_outfits=6,
)
MARKET = Size(
    name="market",
    title="Market-1501",
    num_queries=3_368,
    num_gallery=15_913,
    dim=2048,
    num_pids=750,
    num_cameras=6,
    noise=1.25,
    distractors=0.15,
)
MARKET_PART = Size(
    name="small",
    title="6,000 images",
    num_queries=1_048,
    num_gallery=4_952,
    dim=2048,
    num_pids=250,
    num_cameras=6,
    noise=1.25,
)
MSMT17 = Size(
    name="msmt17",
    title="MSMT17",
    num_queries=11_659,
    num_gallery=82_161,
    dim=2048,
    num_pids=3_060,
    num_cameras=15,
    noise=1.3,
)
BIG = Size(
    name="big",
    title="a million images",
    num_queries=1_000,
    num_gallery=1_000_000,
    dim=512,
    num_pids=50_000,
    num_cameras=20,
    noise=1.1,
)


def sweep(num_gallery: int) -> Size:
    """Return the size of one point of the plot: 200 queries, D = 512, 20 images per person."""
    return Size(
        name=f"sweep-{num_gallery}",
        title=f"{num_gallery:,} images",
        num_queries=200,
        num_gallery=num_gallery,
        dim=512,
        num_pids=max(10, num_gallery // 20),
        num_cameras=6,
        noise=1.1,
    )


def shrunk(size: Size, factor: int) -> Size:
    """Return a size with ``factor`` times fewer queries, gallery images and people."""
    if factor == 1:
        return size
    return replace(
        size,
        title=f"{size.title} / {factor}",
        num_queries=max(8, size.num_queries // factor),
        num_gallery=max(64, size.num_gallery // factor),
        num_pids=max(4, size.num_pids // factor),
    )


def write_features(folder: Path, size: Size, seed: int = 1) -> None:
    """Write ``query.npy`` and ``gallery.npy``, (N, D) float32 unit rows, and ``labels.npz``."""
    rng = np.random.default_rng(seed)
    people = rng.standard_normal((size.num_pids, LATENT_DIM), dtype=np.float32)
    cameras = CAMERA_SCALE * rng.standard_normal((size.num_cameras, LATENT_DIM), dtype=np.float32)
    outfits = OUTFIT_SCALE * rng.standard_normal(
        (size.num_pids * size.num_outfits, LATENT_DIM), dtype=np.float32
    )
    basis = rng.standard_normal((max(size.dim, LATENT_DIM), LATENT_DIM))
    rotation = np.linalg.qr(basis)[0][: size.dim].T.astype(np.float32)
    labels: dict[str, Any] = {}
    for split, pids in (
        ("query", rng.integers(size.num_pids, size=size.num_queries)),
        ("gallery", _gallery_pids(rng, size)),
    ):
        camids = rng.integers(size.num_cameras, size=len(pids))
        clothes_ids = np.full(len(pids), -1)
        if size.num_outfits:
            clothes_ids = pids * size.num_outfits + rng.integers(size.num_outfits, size=len(pids))
        shape = (len(pids), size.dim)
        path = folder / f"{split}.npy"
        features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for rows in _blocks(len(pids)):
            # A distractor has a number beyond those of the people, and a vector of its own.
            latent = rng.standard_normal((len(pids[rows]), LATENT_DIM), dtype=np.float32)
            known = pids[rows] < size.num_pids
            latent[known] *= size.noise
            latent[known] += people[pids[rows][known]]
            latent += cameras[camids[rows]]
            if size.num_outfits:
                latent += outfits[clothes_ids[rows]]
            block = latent @ rotation
            features[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
        features.flush()
        labels |= {
            f"{split}_pids": pids,
            f"{split}_camids": camids,
            f"{split}_clothes_ids": clothes_ids,
        }
    np.savez(folder / "labels.npz", **labels)


def read_labels(folder: Path) -> tuple[Labels, Labels]:
    """Return the labels of query and gallery that ``write_features`` wrote."""
    with np.load(folder / "labels.npz") as file:
        query, gallery = (
            Labels(
                pids=file[f"{split}_pids"],
                camids=file[f"{split}_camids"],
                clothes_ids=file[f"{split}_clothes_ids"],
            )
            for split in ("query", "gallery")
        )
    return query, gallery


def _gallery_pids(rng: np.random.Generator, size: Size) -> Integers:
    """Draw people for the gallery: half of it evenly, half as unevenly as real sets are."""
    num_distractors = round(size.distractors * size.num_gallery)
    num_known = size.num_gallery - num_distractors
    even = np.arange(num_known // 2) % size.num_pids
    weights = rng.gamma(1.0, size=size.num_pids)
    uneven = rng.choice(size.num_pids, size=num_known - len(even), p=weights / weights.sum())
    distractors = size.num_pids + np.arange(num_distractors)
    return rng.permutation(np.concatenate([even, uneven, distractors])).astype(np.int64)


def _blocks(num_rows: int) -> Iterator[slice]:
    for start in range(0, num_rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, num_rows))
