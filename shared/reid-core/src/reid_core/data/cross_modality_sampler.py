"""Batches of the same people in visible light and in infrared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.data.batching import check_cross_modality_batching
from reid_core.data.sample import Modality, Sample
from reid_core.data.samplers import Indices, require_place

__all__ = ["CrossModalitySampler"]

State = dict[str, Any]
"""State of NumPy's legacy generator."""


class CrossModalitySampler:
    """Batches of B identities with P visible and P infrared images each (AGW, official).

    Per batch: B different identities are drawn, all alike, however many images they have; of each,
    P visible, then P infrared images are drawn with replacement. A batch holds the visible images
    first; rows k and B * P + k are one person, and the rows of a person are consecutive. An epoch
    has floor(N / (B * P)) + 1 batches, N the number of images of the modality that has more, and is
    no pass over the data. Processes get the batches in turn.

    The order equals the official one for the same seed: one legacy NumPy generator runs through all
    epochs. Here an epoch is known without the ones before having been trained, because their draws
    are repeated (a tenth of a second per epoch of SYSU-MM01); each epoch's state is kept.

    Args:
        samples: The training images.
        batch_size: 2 * B * P, images per batch and process.
        num_instances: P.
        seed: 0 <= seed < 2**31.
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes; each gets every world_size-th batch.

    Raises:
        ConfigError: An argument is out of range, or as ``check_cross_modality_batching``.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._num_batches = check_cross_modality_batching(
            samples, batch_size, num_instances, world_size
        )
        require_place(seed, rank, world_size)
        self.batch_size = batch_size
        self.num_instances = num_instances
        self.rank = rank
        self.world_size = world_size
        self._visible = _group(samples, "visible")
        self._infrared = _group(samples, "infrared")
        self._pids = np.array(sorted(self._visible), np.int64)
        # States of the generator before epochs 0, 1, ..., as far as they are known.
        self._states: list[State] = [np.random.RandomState(seed).get_state(legacy=False)]

    def __len__(self) -> int:
        """Return the number of indices that this process gets in every epoch."""
        return self._num_batches // self.world_size * self.batch_size

    def epoch(self, epoch: int) -> Indices:
        """Return this process's order of image indices in one epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            (len(self),) int64.
        """
        generator = np.random.RandomState()
        for number in range(min(epoch, len(self._states) - 1), epoch + 1):
            generator.set_state(self._states[number])
            order = self.draw(generator)
            if number == len(self._states) - 1:
                self._states.append(generator.get_state(legacy=False))
        batches = order.reshape(-1, self.batch_size)
        num_dealt = len(batches) // self.world_size * self.world_size
        return batches[self.rank : num_dealt : self.world_size].reshape(-1)

    def draw(self, generator: np.random.RandomState) -> Indices:
        """Draw one epoch of all processes, in the official order of draws.

        Args:
            generator: Draws identities and images.

        Returns:
            (n,) int64, n a multiple of the batch size.
        """
        half, size = self.batch_size // 2, self.num_instances
        batches = np.empty((self._num_batches, 2, half // size, size), np.int64)
        for batch in batches:
            chosen = generator.choice(self._pids, half // size, replace=False)
            for row, pid in enumerate(chosen.tolist()):
                batch[0, row] = generator.choice(self._visible[pid], size)
                batch[1, row] = generator.choice(self._infrared[pid], size)
        return batches.reshape(-1)


def _group(samples: Sequence[Sample], modality: Modality) -> dict[int, npt.NDArray[np.int64]]:
    """Return the ascending positions of each identity's images of one modality."""
    indices_of: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        if sample.modality == modality:
            indices_of.setdefault(sample.pid, []).append(index)
    return {pid: np.array(indices, np.int64) for pid, indices in indices_of.items()}
