"""One AIM training step against its own forward and backward pass on data already in memory.

    python benchmarks/training_step.py [--rounds 5] [--steps 8] [--json FILE]

Three things take turns in each round, so that a shared machine's moods hit them alike:

- ``pass``: forward pass, losses, backward passes and optimiser steps on one batch in memory;
- ``train``: the same through the input pipeline of ``aim-train`` after its first epoch;
- ``wait``: the part of ``train`` that was spent waiting for the next batch.

The target is a wait below 5 % of the step. Figures are ratios within one run; the images are
synthetic, which does not matter for time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from reid_aim.config import LossConfig, demo
from reid_aim.model import AIM
from reid_aim.step import TrainingStep, build_optimizers
from reid_core.config import DataConfig
from reid_core.data.augment import BatchAugment
from reid_core.data.loader import TrainLoader
from reid_core.data.opening import open_dataset, open_images
from reid_core.data.sample import pid2clothes
from reid_core.data.samplers import IdentityChunkSampler

CASES = {
    # name: backbone, height, width
    "demo (resnet10, 128x64)": ("resnet10", 128, 64),
    "resnet18, 256x128": ("resnet18", 256, 128),
}


def main(argv: Sequence[str]) -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description="AIM's training step and its wait for data.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="steps per round and contestant")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(argv)
    results = []
    print(f"{'case':<28}{'pass ms':>10}{'train ms':>10}{'train/pass':>12}{'wait':>8}")
    for name, (backbone, height, width) in CASES.items():
        figures = measure(backbone, height, width, options.rounds, options.steps)
        results.append({"case": name, "threads": torch.get_num_threads(), **figures})
        print(
            f"{name:<28}{1e3 * figures['pass']:>10.0f}{1e3 * figures['train']:>10.0f}"
            f"{figures['ratio']:>12.3f}{figures['wait']:>8.2%}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(backbone: str, height: int, width: int, rounds: int, steps: int) -> dict[str, float]:
    """Return medians over the rounds: seconds per step, their ratio, share of waiting."""
    config = demo()
    data = DataConfig(root="synthetic", height=height, width=width)
    dataset = open_dataset(data)
    model = AIM(dataset.num_pids, dataset.num_clothes, backbone=backbone).train()  # type: ignore[arg-type]
    step = TrainingStep(
        model,
        LossConfig(start_epoch_adv=0, start_epoch_cc=0),
        build_optimizers(model, config.optim),
        torch.from_numpy(pid2clothes(dataset.train)),
    )
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(root="synthetic", height=height, width=width, cache_dir=Path(folder))
        images = open_images(dataset.train, data, crop_scale=config.augment.crop_scale)
        samples = images.select(dataset.train)
        pids = [sample.pid for sample in samples]
        loader = TrainLoader(
            images,
            samples,
            IdentityChunkSampler(pids, config.num_instances, 1),
            BatchAugment(config.augment, height, width),
            batch_size=config.batch_size,
            device=torch.device("cpu"),
            seed=1,
        )
        batches = loader.batches()
        batch = next(batches)
        step(batch.images, batch.pids, batch.clothes_ids, 0)  # warm up
        in_memory, in_training, waits = [], [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(steps):
                step(batch.images, batch.pids, batch.clothes_ids, 0)
            in_memory.append((time.perf_counter() - begin) / steps)
            # A fresh pass over the data: nothing was prepared while the other contestant ran.
            batches.close()  # type: ignore[attr-defined]
            batches = loader.batches()
            next(batches)
            waited = 0.0
            begin = time.perf_counter()
            for _ in range(steps):
                asked = time.perf_counter()
                new = next(batches)
                waited += time.perf_counter() - asked
                step(new.images, new.pids, new.clothes_ids, 0)
            seconds = time.perf_counter() - begin
            in_training.append(seconds / steps)
            waits.append(waited / seconds)
        batches.close()  # type: ignore[attr-defined]
    ratios = [train / alone for train, alone in zip(in_training, in_memory, strict=True)]
    return {
        "pass": statistics.median(in_memory),
        "train": statistics.median(in_training),
        "ratio": statistics.median(ratios),
        "wait": statistics.median(waits),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
