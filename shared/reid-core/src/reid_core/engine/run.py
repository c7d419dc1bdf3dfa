"""One training run: folder, device, seeds, logs, and a state that survives being killed."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from reid_core.config import RunConfig
from reid_core.engine.checkpoint import Checkpoint, Stateful, restore_objects, save_checkpoint
from reid_core.engine.device import autocast
from reid_core.engine.distributed import (
    broadcast_buffers,
    broadcast_module,
    gather_objects,
    main_first,
)
from reid_core.engine.folder import CHECKPOINT_NAME, discard_unused
from reid_core.engine.meter import EpochMeter, PendingTerms, check_finite
from reid_core.engine.opening import Identity, OpenRun, open_run
from reid_core.engine.progress import ProgressDisplay
from reid_core.engine.seeding import capture_rng, restore_rng
from reid_core.errors import ReIDError

__all__ = ["BatchLoader", "Position", "Run", "WithPaths"]


class WithPaths(Protocol):
    """A batch that knows its image files."""

    @property
    def paths(self) -> Sequence[Path]:
        """Image file of each item."""
        ...


B = TypeVar("B", bound=WithPaths)
B_co = TypeVar("B_co", bound=WithPaths, covariant=True)


class BatchLoader(Protocol[B_co]):
    """The batches of one epoch, which can be started anywhere inside it."""

    def __len__(self) -> int:
        """Return the number of batches in this epoch."""
        ...

    def batches(self, start: int = 0) -> Iterator[B_co]:
        """Yield batches ``start``, ``start + 1``, ...; each the same as without a start."""
        ...


class Position(NamedTuple):
    """Where training goes on.

    Attributes:
        epoch: Epoch, from 0.
        step: Batches of that epoch that are done.
    """

    epoch: int
    step: int


class Run:
    """A training run, used top to bottom by a recipe that owns its loop.

    ::

        with Run.start(config.run, method="aim", version="1.0", config=values) as run:
            run.track(model=model, optimizer=optimizer, schedule=schedule)
            for epoch in run.epochs(num_epochs):
                loader.set_epoch(epoch)
                for batch in run.batches(loader):
                    run.record(step(batch), batch)
                schedule.step()
                if run.should_evaluate(epoch, num_epochs):
                    run.log_evaluation(epoch, evaluate())

    At the end of each epoch's body, and every ``checkpoint_steps`` batches, the state of everything
    tracked, of all random number generators and of the running means goes to ``last.pt``. A run
    that is killed at any moment and started again with ``resume`` goes on from there, and gives the
    same numbers as one that was never stopped: bit for bit on the CPU, provided that a batch
    depends on its place (epoch, number) and not on what was drawn before.

    Attributes:
        folder: Run folder with ``config.json``, ``metrics.jsonl``, TensorBoard events, ``last.pt``.
        device: Device of this process.
        precision: ``fp32`` or ``bf16``, as really used.
        world: This process among the processes of the run.
        resumed: Whether a checkpoint is being continued.
        origin: How the run was first started.
    """

    def __init__(self, settings: RunConfig, identity: Identity, opened: OpenRun) -> None:
        self.folder = opened.folder
        self.device = opened.device
        self.world = opened.world
        self.precision = opened.precision
        self.resumed = opened.checkpoint is not None
        self.origin = opened.origin
        self._settings = settings
        self._identity = identity
        self._metrics = opened.metrics
        self._checkpoint = opened.checkpoint
        self._closing = opened.closing
        self._tracked: dict[str, Stateful] = {}
        self._position = Position(0, 0)
        self._num_epochs = 0
        self._meter = EpochMeter()
        self._pending: PendingTerms | None = None
        self._open_batches: Generator[Any] | None = None
        if self._checkpoint is not None:
            self._position = Position(self._checkpoint.epoch, self._checkpoint.step)
            self._meter = EpochMeter(**self._checkpoint.processes[self.rank]["meter"])

    @classmethod
    def start(
        cls,
        settings: RunConfig,
        *,
        method: str,
        version: str,
        config: Mapping[str, Any],
        origin: Mapping[str, Any] | None = None,
        resume: bool = False,
        name: str = "",
        may_change: Collection[str] = (),
    ) -> Run:
        """Open a run: processes, device, folder, seeds, logs. Use the result in a ``with``.

        Under ``torchrun`` every process calls this; files are written by process 0, and all
        processes read the checkpoint, so the folder must be visible to all machines.

        Args:
            settings: Where and how.
            method: Method that trains, e.g. ``aim``.
            version: Version of the method's package.
            config: The whole configuration as plain JSON values; goes to ``config.json``.
            origin: How the run was started, e.g. its command line, as plain JSON values; goes to
                ``origin.json`` and is kept when the run is resumed.
            resume: Continue the run in ``settings.out``. A run that was killed before its first
                checkpoint starts again from its beginning.
            name: Start of the folder's name where ``settings.out`` is None; default: ``method``.
            may_change: Dotted settings that may differ from the stopped run's, beside
                ``checkpoint.MAY_CHANGE``.

        Raises:
            ConfigError: When the folder is taken, or the device is absent.
            CheckpointError: When there is nothing to resume, or it does not fit.
            OutputError: When the folder cannot be written.
            PeerError: When another process fails.
        """
        identity = Identity(method, version, dict(config), dict(origin or {}))
        opened = open_run(
            settings, identity, resume=resume, name=name or method, may_change=may_change
        )
        return cls(settings, identity, opened)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open_batches is not None:
            self._open_batches.close()  # ends the loader's thread and the progress bar
        self._closing.__exit__(kind, error, trace)
        if isinstance(error, ReIDError) and self.is_main and not self.resumed:
            # A mistyped path must not leave a folder that the corrected command then refuses.
            discard_unused(self.folder)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.world.rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.world.world_size

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, the one that writes files."""
        return self.world.is_main

    @property
    def position(self) -> Position:
        """Where training goes on; (0, 0) for a new run."""
        return self._position

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass: bf16 autocast, or nothing for fp32."""
        return autocast(self.device, self.precision)

    def main_first(self) -> AbstractContextManager[None]:
        """Let process 0 through the body first; the others follow when it is done.

        For work that leaves a file which the others then find, such as an image cache. When process
        0 fails, the others stop with ``PeerError``.
        """
        return main_first(self.world)

    def track(self, **objects: Stateful) -> None:
        """Name everything that has state; once, before the epochs.

        Modules get process 0's parameters and buffers on all processes. When a run is resumed, all
        objects are set to their state in the checkpoint; the generators follow when the epochs
        begin, so that what is drawn in between does not matter.

        Args:
            **objects: Modules, optimisers, schedules, or anything with ``state_dict`` and
                ``load_state_dict``; a name must mean the same object in every run. Learning rates
                of optimisers are logged as ``lr_<name>``, less a leading ``optimizer_``.

        Raises:
            CheckpointError: When the checkpoint does not fit, e.g. another number of classes.
        """
        assert not self._tracked, "track() is called once, with everything"
        self._tracked = dict(objects)
        if self._checkpoint is not None:
            path = self.folder / CHECKPOINT_NAME
            restore_objects(path, objects, self._checkpoint.objects)
        for module in self._modules():
            broadcast_module(module)

    def epochs(self, total: int, *, first: int = 0) -> Iterator[int]:
        """Yield the epochs that are left, from 0 in a new run; save the state after each body.

        Args:
            total: Number of epochs of the whole run.
            first: Epoch that a new run begins with, above 0 where it goes on from weights of which
                no training state is left.
        """
        assert self._tracked, "call track() before epochs()"
        self._num_epochs = total
        if self._checkpoint is not None:
            restore_rng(self._checkpoint.processes[self.rank]["rng"])
            self._checkpoint = None  # the states are loaded; free their memory
        if self._position == (0, 0):
            self._position = Position(first, 0)
        for epoch in range(self._position.epoch, total):
            yield epoch
            self._check_pending()
            self._position = Position(epoch + 1, 0)
            self._meter = EpochMeter()
            self._save()

    def batches(self, loader: BatchLoader[B]) -> Iterator[B]:
        """Yield the batches of this epoch that are left, and show how it goes.

        At the end the means of everything recorded go to ``metrics.jsonl`` and TensorBoard.

        Args:
            loader: Set to this epoch. Closed with its last batch, or when the run fails.
        """
        self._open_batches = self._iterate(loader)
        return self._open_batches

    def record(self, terms: Mapping[str, Tensor | float], batch: WithPaths) -> None:
        """Count the terms of one batch towards the epoch's means, and check that they are finite.

        On CUDA the values of a batch are looked at when the next one is recorded, so that the
        device is not kept waiting; nothing is saved before they were.

        Args:
            terms: Name to scalar tensor or number: losses, accuracies.
            batch: Where they come from; its files are named if a term is NaN or infinite.

        Raises:
            NonFiniteLossError: With the terms, the place and the files; all files are listed in
                ``nonfinite.json`` in the run folder.
        """
        epoch, step = self._position
        previous = self._pending
        self._pending = PendingTerms(terms, batch.paths, epoch=epoch, step=step)
        if previous is not None:
            self._count(previous)
        if not self._pending.is_late:
            self._check_pending()

    def should_evaluate(self, epoch: int, total: int) -> bool:
        """Tell whether the settings ask for an evaluation after ``epoch``; always after the last.

        Args:
            epoch: Epoch, from 0.
            total: Number of epochs of the whole run.
        """
        every = self._settings.eval_every
        return epoch + 1 == total or (every > 0 and (epoch + 1) % every == 0)

    def log_evaluation(self, epoch: int, results: Mapping[str, Any]) -> None:
        """Add evaluation results to ``metrics.jsonl`` and TensorBoard.

        Args:
            epoch: Epoch just finished, from 0; -1 before training.
            results: Plain values, e.g. protocol to scores.
        """
        self.log("eval", epoch, {"results": results})

    def log(self, kind: str, epoch: int, values: Mapping[str, Any]) -> None:
        """Add a record of another kind to ``metrics.jsonl`` and TensorBoard.

        Args:
            kind: What it is of, e.g. ``clusters``; not ``train``, which is written by ``batches``.
            epoch: Epoch that it belongs to, from 0.
            values: Plain values; mappings may be nested.
        """
        self._log({"kind": kind, "epoch": epoch, **values})

    def save(self) -> None:
        """Save the state now, before the first batch of an epoch.

        For recipes whose epoch begins with long work that is tracked (pseudo labels): a run that is
        killed after it goes on without doing it again. Every process calls this.
        """
        assert self._position.step == 0, "inside an epoch the state is saved by batches()"
        self._save()

    def _modules(self) -> list[nn.Module]:
        return [item for item in self._tracked.values() if isinstance(item, nn.Module)]

    def _iterate(self, loader: BatchLoader[B]) -> Generator[B]:
        epoch, start = self._position
        num_steps = len(loader)
        every = self._settings.checkpoint_steps
        batches = loader.batches(start)
        display = ProgressDisplay(
            epoch=epoch,
            num_epochs=self._num_epochs,
            num_steps=num_steps,
            first_step=start,
            enabled=self.is_main,
        )
        try:
            with display:
                for step in range(start, num_steps):
                    begin = time.perf_counter()
                    batch = next(batches)
                    self._meter.waited += time.perf_counter() - begin
                    yield batch
                    self._meter.seconds += time.perf_counter() - begin
                    self._meter.num_images += len(batch.paths)
                    self._position = Position(epoch, step + 1)
                    display.update(step, self._meter)
                    if every and (step + 1) % every == 0 and step + 1 < num_steps:
                        self._save()
        finally:
            if isinstance(batches, Generator):
                batches.close()
        self._finish_epoch(epoch, display)

    def _finish_epoch(self, epoch: int, display: ProgressDisplay) -> None:
        """Log the epoch's means over all processes."""
        self._check_pending()
        for module in self._modules():
            broadcast_buffers(module)  # an evaluation may be shared out to all processes
        meter = EpochMeter.merged(gather_objects(self._meter.state_dict()))
        rates = {
            f"lr_{name.removeprefix('optimizer_')}": float(item.param_groups[0]["lr"])
            for name, item in self._tracked.items()
            if isinstance(item, Optimizer)
        }
        record = {**meter.means(), **rates, "timing": meter.timing()}
        self._log({"kind": "train", "epoch": epoch, **record})
        display.finish(meter, rates)

    def _log(self, record: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.write(record)

    def _save(self) -> None:
        """Write the state to ``last.pt``; all processes take part, process 0 writes."""
        self._check_pending()
        for module in self._modules():
            broadcast_buffers(module)
        mine = {"rng": capture_rng(), "meter": self._meter.state_dict()}
        processes = gather_objects(mine)
        with self.main_first():
            if self._metrics is None:
                return
            checkpoint = Checkpoint(
                method=self._identity.method,
                version=self._identity.version,
                config=self._identity.config,
                world_size=self.world_size,
                epoch=self._position.epoch,
                step=self._position.step,
                metrics_bytes=self._metrics.sync(),
                objects={name: item.state_dict() for name, item in self._tracked.items()},
                processes=processes,
            )
            save_checkpoint(self.folder / CHECKPOINT_NAME, checkpoint)

    def _check_pending(self) -> None:
        """Count the terms that are still on their way."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._count(pending)

    def _count(self, terms: PendingTerms) -> None:
        values = terms.values()
        check_finite(terms, values, self.folder, self.rank)
        self._meter.add(values, len(terms.paths))
