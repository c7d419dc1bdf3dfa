"""Which images make a batch: orders of indices that depend on nothing but their arguments.

Every sampler is stateless: ``epoch(e)`` gives the same order whenever and wherever it is called,
so a resumed run and every process of a distributed run know the order without exchanging it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reid_core.errors import ConfigError

__all__ = ["IdentityChunkSampler", "Indices", "check_batching", "inference_indices"]

Indices = npt.NDArray[np.int64]

# The sampler seeds NumPy's legacy generator with seed + epoch, which must stay below 2**32.
_SEED_LIMIT = 2**31


class IdentityChunkSampler:
    """Chunks of K images of one identity in random order (the sampler of CAL and AIM).

    Per epoch: the images of each identity (identities in order of first appearance) are shuffled
    and cut into chunks of K, the remainder is left out; an identity with fewer than K images gives
    one chunk drawn with replacement. All chunks are shuffled and dealt to the processes in turn. A
    batch is a run of consecutive chunks, so its identities are usually, not always, distinct.

    The order equals the official one (python ``random`` and NumPy's legacy generator, both seeded
    with seed + epoch), without touching the global generators.

    Args:
        pids: Identity of each training image.
        num_instances: K, images per chunk.
        seed: 0 <= seed < 2**31.
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes; each gets every world_size-th chunk.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        pids: Sequence[int],
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _require_positive(num_instances=num_instances, world_size=world_size)
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank={rank} is not one of 0..{world_size - 1}.")
        if not 0 <= seed < _SEED_LIMIT:
            raise ConfigError(f"seed={seed} is out of range; use 0..{_SEED_LIMIT - 1}.")
        self.num_instances = num_instances
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._indices_of: dict[int, list[int]] = {}
        for index, pid in enumerate(pids):
            self._indices_of.setdefault(int(pid), []).append(index)

    def __len__(self) -> int:
        """Return the number of indices that this process gets in every epoch."""
        counts = [len(indices) for indices in self._indices_of.values()]
        chunks = _num_chunks(counts, self.num_instances)
        return chunks // self.world_size * self.num_instances

    def epoch(self, epoch: int) -> Indices:
        """Return this process's order of image indices in one epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            (len(self),) int64; consecutive runs of K belong to one identity.
        """
        shuffler = random.Random(self.seed + epoch)
        drawer = np.random.RandomState(self.seed + epoch)
        size = self.num_instances
        chunks: list[list[int]] = []
        for indices in self._indices_of.values():
            images = list(indices)
            if len(images) < size:
                images = drawer.choice(images, size=size, replace=True).tolist()
            shuffler.shuffle(images)
            chunks += [images[i : i + size] for i in range(0, len(images) - size + 1, size)]
        shuffler.shuffle(chunks)
        num_dealt = len(chunks) // self.world_size * self.world_size
        mine = chunks[self.rank : num_dealt : self.world_size]
        return np.array(mine, dtype=np.int64).reshape(-1)


def check_batching(
    pids: Sequence[int], batch_size: int, num_instances: int, world_size: int = 1
) -> int:
    """Check that identity chunks fill batches, before anything expensive starts.

    Args:
        pids: Identity of each training image.
        batch_size: Images per batch and process.
        num_instances: K, images per identity chunk.
        world_size: Number of processes.

    Returns:
        Number of full batches that each process gets per epoch, at least 1.

    Raises:
        ConfigError: K does not divide the batch, there is one identity only, or the data do not
            fill a single batch; the message holds the numbers and what to use instead.
    """
    _require_positive(batch_size=batch_size, num_instances=num_instances, world_size=world_size)
    if batch_size % num_instances:
        below = batch_size // num_instances * num_instances
        choices = f"{below} or {below + num_instances}" if below else f"{num_instances}"
        raise ConfigError(
            f"batch_size={batch_size} is not a multiple of num_instances={num_instances}; "
            f"use batch_size {choices}, or a num_instances that divides {batch_size}."
        )
    counts = list(Counter(pids).values())
    if len(counts) < 2:
        raise ConfigError(
            f"the training split has {len(counts)} identities ({len(pids)} images); telling people "
            "apart needs at least 2. Check that the data root and the identity labels are right."
        )
    chunks = _num_chunks(counts, num_instances)
    num_images = chunks // world_size * num_instances
    if num_images < batch_size:
        advice = (
            f"use a batch_size of at most {num_images}"
            if num_images
            else f"use at most {chunks} processes"
        )
        raise ConfigError(
            f"batch_size={batch_size} is larger than the data: {len(pids)} images of "
            f"{len(counts)} identities give {chunks} chunks of num_instances={num_instances}, "
            f"which is {num_images} images per epoch for each of {world_size} process(es); "
            f"{advice}, or more images."
        )
    return num_images // batch_size


def inference_indices(num_images: int, rank: int = 0, world_size: int = 1) -> Indices:
    """Return the shard of a list that one process embeds in the official code of CAL and AIM.

    All shards have the same length, ceil(num_images / world_size); the last ones are padded with
    the last index. Gathered in rank order and cut to ``num_images`` they are the whole list.
    Evaluation here uses ``reid_core.evaluation.own_share``, whose shards are whole batches, so that
    features do not depend on the number of processes.

    Args:
        num_images: Length of the list.
        rank: This process.
        world_size: Number of processes.

    Returns:
        (ceil(num_images / world_size),) int64.
    """
    length = -(-num_images // world_size)
    shard = np.arange(rank * length, (rank + 1) * length, dtype=np.int64)
    return np.minimum(shard, num_images - 1)


def _num_chunks(counts: Sequence[int], num_instances: int) -> int:
    return sum(max(count, num_instances) // num_instances for count in counts)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1.")
