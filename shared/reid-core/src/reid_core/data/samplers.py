"""Which images make a batch: orders of indices that depend on nothing but their arguments.

Every sampler is stateless: ``epoch(e)`` gives the same order whenever and wherever it is called,
so a resumed run and every process of a distributed run know the order without exchanging it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reid_core.data.batching import check_distinct_batching, num_chunks, require_positive
from reid_core.errors import ConfigError

__all__ = [
    "DistinctIdentitySampler",
    "IdentityChunkSampler",
    "Indices",
    "inference_indices",
    "require_place",
]

Indices = npt.NDArray[np.int64]
Chunk = list[int]

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
        require_positive(num_instances=num_instances, world_size=world_size)
        require_place(seed, rank, world_size)
        self.num_instances = num_instances
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._indices_of = _group(pids)

    def __len__(self) -> int:
        """Return the number of indices that this process gets in every epoch."""
        counts = [len(indices) for indices in self._indices_of.values()]
        chunks = num_chunks(counts, self.num_instances)
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
        chunks: list[Chunk] = []
        for indices in self._indices_of.values():
            chunks += _draw_chunks(indices, self.num_instances, shuffler, drawer)
        shuffler.shuffle(chunks)
        num_dealt = len(chunks) // self.world_size * self.world_size
        mine = chunks[self.rank : num_dealt : self.world_size]
        return np.array(mine, dtype=np.int64).reshape(-1)


class DistinctIdentitySampler:
    """Batches of P different identities with K images each (the sampler of CSSC, official).

    The batches of Hermans et al., "In Defense of the Triplet Loss", 2017, section 2. Per epoch:
    every identity is cut into chunks of K as in ``IdentityChunkSampler``; then, as long as P
    identities have chunks left, P of them are drawn and each gives its next one. What fewer than P
    identities have left is not used in this epoch, so epochs differ in length. Processes get the
    batches in turn.

    ``draw`` equals the official order for given generators. Here each epoch has its own, seeded
    with seed + epoch; the official code lets the two global ones run on from epoch to epoch, so
    that its first epoch alone is equal.

    Args:
        pids: Identity of each training image.
        batch_size: P * K, images per batch and process.
        num_instances: K, images per identity in a batch.
        seed: 0 <= seed < 2**31.
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes; each gets every world_size-th batch.

    Raises:
        ConfigError: An argument is out of range, or as ``check_distinct_batching``.
    """

    def __init__(
        self,
        pids: Sequence[int],
        batch_size: int,
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._num_batches = check_distinct_batching(pids, batch_size, num_instances, world_size)
        require_place(seed, rank, world_size)
        self.batch_size = batch_size
        self.num_instances = num_instances
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._indices_of = _group(pids)

    def __len__(self) -> int:
        """Return the number of indices that this process gets in every epoch at least."""
        return self._num_batches * self.batch_size

    def epoch(self, epoch: int) -> Indices:
        """Return this process's order of image indices in one epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            (n,) int64, n >= len(self) a multiple of the batch size, the same for all processes.
        """
        seed = self.seed + epoch
        order = self.draw(random.Random(seed), np.random.RandomState(seed))
        batches = order.reshape(-1, self.batch_size)
        num_dealt = len(batches) // self.world_size * self.world_size
        return batches[self.rank : num_dealt : self.world_size].reshape(-1)

    def draw(self, shuffler: random.Random, drawer: np.random.RandomState) -> Indices:
        """Draw one epoch of all processes, in the official order of draws.

        Args:
            shuffler: Shuffles images and chooses identities.
            drawer: Draws the images of identities that have fewer than K.

        Returns:
            (n,) int64; each run of K belongs to one identity, each run of P * K to P of them.
        """
        chunks_of = {
            pid: _draw_chunks(indices, self.num_instances, shuffler, drawer)
            for pid, indices in self._indices_of.items()
        }
        available = list(chunks_of)
        num_chosen = self.batch_size // self.num_instances
        order: list[Chunk] = []
        while len(available) >= num_chosen:
            for pid in shuffler.sample(available, num_chosen):
                order.append(chunks_of[pid].pop(0))
                if not chunks_of[pid]:
                    available.remove(pid)
        return np.array(order, dtype=np.int64).reshape(-1)


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


def _group(pids: Sequence[int]) -> dict[int, list[int]]:
    """Return the positions of each identity; identities in order of first appearance."""
    indices_of: dict[int, list[int]] = {}
    for index, pid in enumerate(pids):
        indices_of.setdefault(int(pid), []).append(index)
    return indices_of


def _draw_chunks(
    indices: Sequence[int], size: int, shuffler: random.Random, drawer: np.random.RandomState
) -> list[Chunk]:
    """Shuffle the images of one identity and cut them into chunks; the rest is left out."""
    images = list(indices)
    if len(images) < size:
        images = drawer.choice(images, size=size, replace=True).tolist()
    shuffler.shuffle(images)
    return [images[i : i + size] for i in range(0, len(images) - size + 1, size)]


def require_place(seed: int, rank: int, world_size: int) -> None:
    """Refuse a seed or a place among the processes that a sampler cannot have.

    Raises:
        ConfigError: For the first of them.
    """
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank={rank} is not one of 0..{world_size - 1}.")
    if not 0 <= seed < _SEED_LIMIT:
        raise ConfigError(f"seed={seed} is out of range; use 0..{_SEED_LIMIT - 1}.")
