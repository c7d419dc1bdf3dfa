"""Features of images: image and mirror image through a network, summed, scaled to length 1.

Legend: N images of a list, n of them in one process, B images of a batch, F features of D numbers
each, P parts of a feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from reid_core.config import FlipTest
from reid_core.data.sample import Sample
from reid_core.engine.distributed import gather_objects
from reid_core.errors import ReIDError
from reid_core.evaluation.counting.scores import l2_normalize
from reid_core.evaluation.rules import Indices
from reid_core.models.embedding import companion_sizes, is_cross_modal, mirror, num_parts

__all__ = ["Embed", "ImageBatch", "extract_features", "extract_split_features", "own_share"]

Embed = Callable[..., Tensor]
"""Images (B, 3, H, W), of cross-modal networks with ``infrared`` (B,), then companions, to
embeddings (B, D), or (B, F, D) of a network with several features; not normalised."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

# Bytes of features that a process sends at one time.
_PIECE_BYTES = 2**24


class ImageBatch(Protocol):
    """What feature extraction reads; ``EvaluationBatch`` of ``data.evaluation_loader`` is one."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W), ready for the network; rows from len(indices) on are padding."""

    @property
    def indices(self) -> Indices:
        """(n,) int64, positions in the list of the first n rows, 1 <= n <= B."""

    @property
    def infrared(self) -> Tensor | None:
        """(B,) bool on the images' device, true for infrared images; None where it is unknown."""

    @property
    def companions(self) -> tuple[Tensor, ...]:
        """Normalised companions of the images, (B, 3, h, w) of each kind; zero where missing."""


def own_share(num_images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> Indices:
    """Return the part of a list that one process embeds: a run of whole batches.

    The batches are those that one process alone would form. Kernels may round an image's result
    differently in another place of a batch; as every image keeps its place, features are equal to
    the last bit for any number of processes.

    Args:
        num_images: N.
        batch_size: B.
        rank: This process.
        world_size: Number of processes.

    Returns:
        (n,) int64 consecutive positions; none where there are fewer batches than processes.
    """
    num_batches = -(-num_images // batch_size)
    per_process = -(-num_batches // world_size) * batch_size
    start = min(rank * per_process, num_images)
    return np.arange(start, min(start + per_process, num_images), dtype=np.int64)


def extract_features(
    embed: Embed,
    batches: Iterable[ImageBatch],
    *,
    num_images: int,
    flip: FlipTest = "sum",
    normalize: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """Embed a list of images.

    The feature of an image x is normalize(f(x) + f(mirrored x)), or what else ``flip`` says: sums
    in float32, lengths by ``l2_normalize``, of a feature in parts those of each part. f is put into
    evaluation mode meanwhile. Where it is a cross-modal network's, it gets the images' modalities,
    too, and those companions that the network looks at.

    In a process group every process gives the batches of its own share of the list
    (``own_share``), and gets the features of the whole list.

    Args:
        embed: f: a module, a method of one (``network.embed``, ``network.embed_each``), or a
            function; a function has to see to evaluation mode itself, and gets images only.
        batches: The images; one batch at a time is held.
        num_images: N.
        flip: What becomes of the mirror image, see ``FlipTest``.
        normalize: Scale features to length 1; otherwise (not with ``mean``) they stay as f has
            them, f(x) + f(mirrored x) for ``sum``.
        progress: Called after every batch with the images of this process, done and (about) in
            all.

    Returns:
        (N, D) float32 on the CPU; (N, F, D) where f returns several features, of which each
        ``[:, i]`` is contiguous. Of a feature in parts D is that of all parts, one after the other;
        each is of length 1, or zero where the network has it so. Rows of images that no batch held
        (unreadable files that were skipped) are NaN.

    Raises:
        ReIDError: No image was embedded, f does not return one row per image, or as many parts as
            the network says, or a network is not told what it has to know of the images.
        ValueError: ``mean`` without ``normalize``: it is of features of length 1.
        PeerError: Another process has stopped.
    """
    if flip == "mean" and not normalize:
        raise ValueError("flip='mean' averages features of length 1; it needs normalize=True")
    num_own = -(-num_images // len(gather_objects(None)))
    own_rows: list[Indices] = []
    num_done = 0
    result = torch.empty(0, 0)
    with _evaluation_mode(embed), torch.inference_mode():
        for batch in batches:
            features = _features(embed, batch, flip)
            if normalize:
                features = _normalize(features, num_parts(_module_of(embed)))
            if not own_rows:
                result = _unfilled(num_images, features.shape[1:])
            result[torch.from_numpy(batch.indices)] = features
            own_rows.append(batch.indices)
            num_done += len(batch.indices)
            if progress is not None:
                progress(num_done, num_own)
    return _share(result, own_rows, num_images)


def extract_split_features(
    embed: Embed,
    splits: Mapping[str, Sequence[Sample]],
    open_batches: Callable[[str], Iterable[ImageBatch]],
    *,
    flip: FlipTest = "sum",
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Embed several splits, each once, whatever number of protocols uses it.

    Args:
        embed: As in ``extract_features``.
        splits: Split name to samples; those that ``splits_of`` the protocols names.
        open_batches: Returns the batches of a split, or of this process's share of it.
        flip: What becomes of the mirror image.
        progress: Called with the images of all splits together.

    Returns:
        Split name to (N, D) or (N, F, D) float32 features on the CPU. Splits of the same files
        share a tensor.

    Raises:
        ReIDError: As ``extract_features``.
    """
    total = sum(len(samples) for samples in splits.values())
    num_done = 0

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(num_done + done, total)

    features: dict[str, Tensor] = {}
    embedded: dict[tuple[Path, ...], Tensor] = {}
    for name, samples in splits.items():
        paths = tuple(sample.path for sample in samples)
        if paths not in embedded:
            embedded[paths] = extract_features(
                embed,
                open_batches(name),
                num_images=len(samples),
                flip=flip,
                progress=advance,
            )
        features[name] = embedded[paths]
        num_done += len(samples)
    return features


def _features(embed: Embed, batch: ImageBatch, flip: FlipTest) -> Tensor:
    """Return the features (n, D) or (n, F, D) of a batch's images, not yet of length 1."""
    network = _module_of(embed)
    others = list(batch.companions)
    if len(others) != len(companion_sizes(network)):
        raise ReIDError(
            f"the network looks at {', '.join(companion_sizes(network)) or 'nothing'} beside the "
            f"images, and the batches hold {len(others)} kinds of companions"
        )
    if is_cross_modal(network):
        if batch.infrared is None:
            raise ReIDError(
                "the network treats visible and infrared images differently, and the modality of "
                "these images is not known"
            )
        others.insert(0, batch.infrared)
    count, parts = len(batch.indices), num_parts(network)
    features = _embed(embed, parts, batch.images, *others)
    if flip == "none":
        return features[:count]
    mirrored = _embed(embed, parts, *mirror((batch.images, *others)))
    if flip == "mean":
        features, mirrored = _normalize(features, parts), _normalize(mirrored, parts)
    features += mirrored
    return features[:count]


def _embed(embed: Embed, parts: int, images: Tensor, *others: Tensor) -> Tensor:
    features = embed(images, *others)
    if features.ndim not in (2, 3) or len(features) != len(images):
        raise ReIDError(
            f"the network returned shape {tuple(features.shape)} for {len(images)} images; "
            "embeddings (images, D) are expected, or (images, features, D)"
        )
    if features.shape[-1] % parts:
        raise ReIDError(
            f"the network says that its feature has {parts} parts of one size, and returned "
            f"{features.shape[-1]} numbers per image"
        )
    return features.to("cpu", torch.float32)


def _normalize(features: Tensor, parts: int) -> Tensor:
    """Scale every feature, or every part of it, to length 1."""
    rows = features.reshape(-1, features.shape[-1] // parts)
    return l2_normalize(rows).view(features.shape)


def _unfilled(num_images: int, shape: Sequence[int]) -> Tensor:
    *several, dim = shape
    # An ordinary tensor, not one of inference mode: callers may do with it what they like.
    with torch.inference_mode(False):
        # Each feature is a block of its own, so that it can be compared without a copy.
        result = torch.full((*several, num_images, dim), torch.nan)
        return result.transpose(0, 1) if several else result


def _share(result: Tensor, own_rows: Sequence[Indices], num_images: int) -> Tensor:
    """Fill in the rows that other processes embedded."""
    rows = np.concatenate(own_rows) if own_rows else np.empty(0, np.int64)
    states = gather_objects((tuple(result.shape[1:]), len(rows)))
    shape = max((state[0] for state in states), key=math.prod)
    size = math.prod(shape)
    if size == 0:
        raise ReIDError(f"none of {num_images} images was embedded: there is no batch")
    if len(states) == 1:
        return result
    if result.shape[1:] != shape:
        result = _unfilled(num_images, shape)
    step = max(1, _PIECE_BYTES // (4 * size))
    for start in range(0, max(state[1] for state in states), step):
        piece = rows[start : start + step]
        for other_rows, values in gather_objects((piece, result.numpy()[piece])):
            result[torch.from_numpy(other_rows)] = torch.from_numpy(values)
    return result


def _module_of(embed: Embed) -> nn.Module | None:
    """Return the module behind ``embed``, if there is one."""
    module = embed if isinstance(embed, nn.Module) else getattr(embed, "__self__", None)
    return module if isinstance(module, nn.Module) else None


@contextmanager
def _evaluation_mode(embed: Embed) -> Iterator[None]:
    """Hold the module behind ``embed`` in evaluation mode; its parts go back as they were."""
    module = _module_of(embed)
    training = []
    if module is not None:
        training = [part for part in module.modules() if part.training]
        module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
