"""How much memory a network's passes take, found without taking it.

The network is run on PyTorch's meta device, where tensors have shapes and no contents, while every
allocation and release is added up.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reid_core.models.embedding import all_features, companion_sizes, is_cross_modal

__all__ = ["embedding_footprint", "state_bytes", "training_footprint"]

# Blocks of odd sizes that were freed stay with the allocator: so much more was measured at most.
_EMBEDDING_SLACK = 1.125
_TRAINING_SLACK = 1.25

_CONVOLUTIONS = (
    torch.ops.aten.convolution.default,
    torch.ops.aten.convolution_backward.default,
)


def embedding_footprint(network: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Return what embedding a batch takes beyond the network and the images.

    Args:
        network: Module with ``embed``, on any device; it is not changed. Of one with several
            features all are made.
        shape: (B, 3, H, W) of the images. Companions have the sizes that the network names.

    Returns:
        Bytes at the worst moment (of an image or its mirror image, which is made then), and the
        dimension D of one feature, of all its parts together.
    """
    run, tally = _on_meta(_Embedding(network)), _Tally()
    pictures = [torch.empty(*shape, device="meta")]
    for size in companion_sizes(network).values():
        pictures.append(torch.empty(shape[0], 3, *size, device="meta"))
    with _mode(network, training=False), torch.no_grad(), tally:
        features = run(*pictures)
    return int(_EMBEDDING_SLACK * tally.peak), int(features.shape[-1])


def training_footprint(
    network: nn.Module,
    shape: Sequence[int],
    companions: Mapping[str, tuple[int, int]] | None = None,
) -> int:
    """Return what a forward and a backward pass take beyond the network and the images.

    Args:
        network: Module whose ``forward`` takes the images, of all modalities together, and returns
            tensors, on any device; it is not changed.
        shape: (B, 3, H, W) of the images.
        companions: Height and width of the pictures beside each image, by kind; ``forward`` gets
            those that it has a parameter for, by name.

    Returns:
        Bytes at the worst moment: saved activations, gradients (those of the parameters included)
        and the convolutions' own memory. Losses are not in it.
    """
    run, tally = _on_meta(network), _Tally()
    images = torch.empty(*shape, device="meta")
    taken = inspect.signature(network.forward).parameters
    beside = {
        kind: torch.empty(shape[0], 3, *size, device="meta")
        for kind, size in (companions or {}).items()
        if kind in taken
    }
    with _mode(network, training=True), torch.enable_grad(), tally:
        outputs = tree_leaves(run(images, **beside))
        losses = [value.sum() for value in outputs if isinstance(value, Tensor)]
        torch.stack([loss for loss in losses if loss.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
    return int(_TRAINING_SLACK * tally.peak)


def state_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, such as a network's parameters."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Embedding(nn.Module):
    """``embed`` as a forward pass, of pictures that nobody else holds, mirrored."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, *companions: Tensor) -> Tensor:
        others = [companion.flip(3) for companion in companions]
        if is_cross_modal(self.network):
            others.insert(0, torch.zeros(len(images), dtype=torch.bool, device=images.device))
        return all_features(self.network)(images.flip(3), *others)


def _on_meta(module: nn.Module) -> Callable[..., Any]:
    """Return a module's forward as if its parameters and buffers were on the meta device."""
    states: dict[str, Tensor] = {
        name: nn.Parameter(torch.empty_like(value, device="meta"), value.requires_grad)
        for name, value in module.named_parameters()
    }
    for name, buffer in module.named_buffers():
        states[name] = torch.empty_like(buffer, device="meta")
    return lambda *inputs, **named: torch.func.functional_call(module, states, inputs, named)


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Hold a module in training or evaluation mode; its parts go back as they were."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode


class _Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make and drop.

    Attributes:
        peak: Bytes at the worst moment.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        # oneDNN computes in another memory layout, for which it copies what it reads and writes.
        copied = tree_leaves((args, result)) if func in _CONVOLUTIONS else ()
        scratch = state_bytes(value for value in copied if isinstance(value, Tensor))
        self.peak = max(self.peak, self._now + scratch)
        return result

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self._now += storage.nbytes()
        weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, num_bytes: int) -> None:
        self._now -= num_bytes
