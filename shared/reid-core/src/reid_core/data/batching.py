"""Whether the identities and images of a training split fill batches, said before the start.

Says nothing of which images make a batch: that is in ``samplers``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reid_core.data.sample import Sample
from reid_core.errors import ConfigError

__all__ = [
    "check_batching",
    "check_cross_modality_batching",
    "check_distinct_batching",
    "num_chunks",
    "require_pair_batches",
    "require_positive",
]


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
    counts = _count_images(pids, batch_size, num_instances, world_size)
    chunks = num_chunks(counts, num_instances)
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


def check_distinct_batching(
    pids: Sequence[int], batch_size: int, num_instances: int, world_size: int = 1
) -> int:
    """Check that the identities fill batches of different ones, before anything expensive starts.

    Args:
        pids: Identity of each training image.
        batch_size: Images per batch and process.
        num_instances: K, images per identity in a batch.
        world_size: Number of processes.

    Returns:
        Number of batches that each process gets per epoch at least, at least 1.

    Raises:
        ConfigError: K does not divide the batch, there is one identity only, fewer identities than
            a batch holds, or too few images for so many processes.
    """
    counts = _count_images(pids, batch_size, num_instances, world_size)
    num_chosen = batch_size // num_instances
    if len(counts) < num_chosen:
        raise ConfigError(
            f"a batch of {batch_size} images with num_instances={num_instances} holds {num_chosen} "
            f"different identities, and the training split has {len(counts)}; use a batch_size of "
            f"at most {len(counts) * num_instances}, or a larger num_instances."
        )
    # An epoch ends when fewer than P identities have chunks left: at worst those with the most.
    chunks = sorted(num_chunks([count], num_instances) for count in counts)
    num_batches = max(-(-sum(chunks[: len(chunks) - num_chosen + 1]) // num_chosen), 1)
    if num_batches < world_size:
        raise ConfigError(
            f"{len(pids)} images of {len(counts)} identities are sure to give {num_batches} "
            f"batches of {batch_size} images per epoch, which is less than one for each of "
            f"{world_size} processes; use at most {num_batches} processes, a smaller batch_size, "
            "or more images."
        )
    return num_batches // world_size


def check_cross_modality_batching(
    samples: Sequence[Sample], batch_size: int, num_instances: int, world_size: int = 1
) -> int:
    """Check that the people fill batches of both modalities, before anything expensive starts.

    Args:
        samples: The training images.
        batch_size: Images per batch and process.
        num_instances: P, images per identity and modality in a batch.
        world_size: Number of processes.

    Returns:
        Number of batches of all processes per epoch, floor(N / (batch_size / 2)) + 1 with N the
        number of images of the modality that has more (official).

    Raises:
        ConfigError: As ``require_pair_batches``; or a batch holds more people than there are, a
            modality is missing, people lack images of one modality, or there are too few images for
            so many processes.
    """
    require_positive(batch_size=batch_size, num_instances=num_instances, world_size=world_size)
    require_pair_batches(batch_size, num_instances)
    visible, infrared = _count_modalities(samples)
    num_chosen = batch_size // (2 * num_instances)
    if len(visible) < num_chosen:
        raise ConfigError(
            f"a batch of {batch_size} images with num_instances={num_instances} holds {num_chosen} "
            f"different identities, and the training split has {len(visible)}; use a batch_size of "
            f"at most {len(visible) * 2 * num_instances}, or a larger num_instances."
        )
    num_batches = max(visible.total(), infrared.total()) // (batch_size // 2) + 1
    if num_batches < world_size:
        raise ConfigError(
            f"{len(samples)} images give {num_batches} batches of {batch_size} images per epoch, "
            f"which is less than one for each of {world_size} processes; use at most {num_batches} "
            "processes, a smaller batch_size, or more images."
        )
    return num_batches


def require_pair_batches(batch_size: int, num_instances: int) -> None:
    """Check that a batch is made of at least two people with P images of each modality.

    Args:
        batch_size: Images per batch and process.
        num_instances: P, images per identity and modality in a batch.

    Raises:
        ConfigError: When it is not; the message says what to use instead.
    """
    size = 2 * num_instances
    if batch_size < 2 * size or batch_size % size:
        below = max(batch_size // size * size, 2 * size)
        raise ConfigError(
            f"batch_size={batch_size} must be 2, 3, ... times 2 x num_instances={num_instances}: a "
            f"batch holds {num_instances} visible and {num_instances} infrared images of each of "
            f"at least two people; use {below} or {below + size}."
        )


def num_chunks(counts: Sequence[int], num_instances: int) -> int:
    """Return how many chunks of K identities with so many images give; each gives at least one."""
    return sum(max(count, num_instances) // num_instances for count in counts)


def require_positive(**values: int) -> None:
    """Refuse values below 1, by their names.

    Raises:
        ConfigError: For the first of them.
    """
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1.")


def _count_images(
    pids: Sequence[int], batch_size: int, num_instances: int, world_size: int
) -> list[int]:
    """Return the number of images of each identity, having checked what all batches need."""
    require_positive(batch_size=batch_size, num_instances=num_instances, world_size=world_size)
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
    return counts


def _count_modalities(samples: Sequence[Sample]) -> list[Counter[int]]:
    """Return the number of visible and of infrared images of each identity, which have both."""
    counts: list[Counter[int]] = []
    for modality in ("visible", "infrared"):
        counts.append(Counter(sample.pid for sample in samples if sample.modality == modality))
        if not counts[-1]:
            raise ConfigError(
                f"none of the {len(samples)} training images is {modality}; training across "
                "modalities needs visible and infrared images of the same people: SYSU-MM01, "
                "RegDB, LLCM, or a table with a column `modality`."
            )
    visible, infrared = counts
    unpaired = sorted(visible.keys() ^ infrared.keys())
    if unpaired:
        shown = ", ".join(map(str, unpaired[:5])) + (", ..." if len(unpaired) > 5 else "")
        raise ConfigError(
            f"{len(unpaired)} of {len(visible | infrared)} people of the training split (labels "
            f"{shown}) have images of one modality only; each needs visible and infrared ones. "
            "Leave these people out of the training split."
        )
    return counts
