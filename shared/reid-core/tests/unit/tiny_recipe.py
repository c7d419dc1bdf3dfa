"""A recipe small enough to be run, killed and resumed many times; a script, started by tests.

Starts a run from the global ``ARGS`` (a dict) when it is run as ``__main__``.
"""

# The legacy global generator is part of what a run restores.
# ruff: noqa: NPY002

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import reid_core.engine.checkpoint
from reid_core.config import RunConfig
from reid_core.engine import Run, average_gradients

NUM_EPOCHS = 3
NUM_STEPS = 5
BATCH_SIZE = 4


@dataclass(frozen=True)
class ToyBatch:
    images: torch.Tensor
    paths: tuple[Path, ...]


class ToyLoader:
    """Batches that depend on their place only, as those of the real loader."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self.epoch = 0
        self.num_closed = 0

    def __len__(self) -> int:
        return NUM_STEPS

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batches(self, start: int = 0):
        try:
            for step in range(start, NUM_STEPS):
                rng = np.random.default_rng([self.epoch, step, self.rank])
                images = torch.from_numpy(rng.normal(size=(BATCH_SIZE, 6)).astype(np.float32))
                names = (f"{self.epoch}-{step}-{self.rank}-{i}.jpg" for i in range(BATCH_SIZE))
                yield ToyBatch(images, tuple(map(Path, names)))
        finally:
            self.num_closed += 1


class ToyNet(nn.Module):
    """Uses running statistics and torch's generator (dropout)."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.classifier(self.body(images))


def settings(out: Path, **changes) -> RunConfig:
    return RunConfig(**{"out": Path(out), "device": "cpu", "eval_every": 2, **changes})


def train(
    out: Path,
    *,
    resume: bool = False,
    num_classes: int = 3,
    config: dict | None = None,
    epochs: int = NUM_EPOCHS,
    first: int = 0,
    on_step=lambda epoch, step: None,
    terms=lambda epoch, step: {},
    loader: ToyLoader | None = None,
    before_epochs=lambda: None,
    before_batches=lambda run, epoch: None,
    **changes,
) -> dict:
    """Train with two optimisers and every generator; return all final states."""
    values = {"lr": 0.1, "epochs": epochs, "run": {"seed": 1, "out": str(out)}, **(config or {})}
    with Run.start(
        settings(out, **changes), method="toy", version="1.0", config=values, resume=resume
    ) as run:
        loader = loader or ToyLoader(run.rank)
        net, extra = ToyNet(num_classes), nn.Linear(6, 1)
        main = torch.optim.Adam(net.parameters(), lr=0.1)
        side = torch.optim.SGD(extra.parameters(), lr=0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.MultiStepLR(main, milestones=[1, 2])
        tracked = {
            "net": net,
            "extra": extra,
            "optimizer_main": main,
            "optimizer_side": side,
            "schedule_main": schedule,
        }
        run.track(**tracked)
        before_epochs()
        for epoch in run.epochs(epochs, first=first):
            loader.set_epoch(epoch)
            before_batches(run, epoch)
            for batch in run.batches(loader):
                step = run.position.step
                on_step(epoch, step)
                noise = random.random() + np.random.rand()
                loss_main = net(batch.images).square().mean() * noise
                loss_side = (extra(batch.images) - loss_main.detach()).square().mean()
                for loss, optimizer in ((loss_main, main), (loss_side, side)):
                    optimizer.zero_grad()
                    loss.backward()
                    average_gradients(optimizer.param_groups[0]["params"])
                    optimizer.step()
                run.record(
                    {"loss_main": loss_main, "loss_side": loss_side, **terms(epoch, step)}, batch
                )
            schedule.step()
            if run.should_evaluate(epoch, epochs):
                run.log_evaluation(epoch, {"toy/standard": {"rank1": random.random()}})
        states = {name: item.state_dict() for name, item in tracked.items()}
        states["draws"] = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        states["rank"] = run.rank
        return states


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_while_saving(number: int) -> None:
    """Die in the middle of the given checkpoint's bytes, the first being 1."""
    save, count = torch.save, 0

    def half_save(value, file) -> None:
        nonlocal count
        count += 1
        if count == number:
            save(value, file)
            file.flush()
            os.truncate(file.fileno(), file.tell() // 2)
            kill()
        save(value, file)

    reid_core.engine.checkpoint.torch.save = half_save


def limit_file_size(num_bytes: int) -> None:
    """Let the operating system refuse larger files, as a full disk would."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def main(args: dict) -> None:
    os.environ.update(args.get("environment", {}))
    torch.set_num_threads(1)
    steps = 0

    def on_step(epoch: int, step: int) -> None:
        nonlocal steps
        steps += 1
        time.sleep(args.get("seconds_per_step", 0))
        if steps == args.get("kill_at"):
            kill()
        if steps == args.get("limit_at"):
            limit_file_size(args["num_bytes"])

    def terms(epoch: int, step: int) -> dict[str, float]:
        return {"loss_bad": float("nan")} if steps == args.get("nan_at") else {}

    if "kill_while_saving" in args:
        kill_while_saving(args["kill_while_saving"])
    try:
        states = train(
            Path(args["out"]),
            resume=args.get("resume", False),
            checkpoint_steps=args.get("checkpoint_steps", 0),
            on_step=on_step,
            terms=terms,
        )
    except Exception as error:
        if "message" not in args:
            raise
        Path(args["message"]).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise SystemExit(2) from None
    torch.save(states, args["result"])


if __name__ == "__main__":
    main(ARGS)  # noqa: F821 - given by the test
