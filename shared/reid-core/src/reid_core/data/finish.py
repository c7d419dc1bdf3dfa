"""The steps of the image transforms that a device does on uint8 batches: normalise, erase."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_core.data.augment import AugmentParams
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig, Channels

__all__ = ["DeviceFinish", "Normalizer", "send"]


class Normalizer:
    """Scale to [0, 1], subtract the mean, divide by the standard deviation (the test transform).

    Args:
        device: Device of the batches.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
    """

    def __init__(
        self, device: torch.device, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
    ) -> None:
        # Tensors on the device, not Python numbers: CUDA divides by a number through its inverse,
        # which differs from the CPU's division in the last bit.
        self._white = torch.tensor(255.0, device=device)
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise.

        Args:
            images: (B, 3, H, W) uint8 on the device.

        Returns:
            (B, 3, H, W) float32; equal to ``normalize_pixels`` bit for bit.
        """
        return images.to(torch.float32).div_(self._white).sub_(self._mean).div_(self._std)


class DeviceFinish:
    """What ``BatchAugment.apply_uint8`` leaves to do: normalise, then erase.

    Args:
        config: The augmentation's configuration.
        device: Device of the batches.
    """

    def __init__(self, config: AugmentConfig, device: torch.device) -> None:
        self._normalize = Normalizer(device, config.mean, config.std)
        self._fill = torch.tensor(config.erase_fill, device=device)[:, None, None]

    def __call__(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Finish a batch.

        Args:
            images: (B, 3, H, W) uint8 on the device, cropped, flipped and padded.
            params: What was drawn for it.

        Returns:
            (B, 3, H, W) float32; equal to ``BatchAugment.apply_float`` bit for bit.
        """
        batch = self._normalize(images)
        boxes = send(torch.from_numpy(params.erase_boxes), images.device)[
            :, :, None, None
        ]  # (B, 4, 1, 1)
        top, left, height, width = boxes.unbind(1)  # (B, 1, 1) each
        rows = torch.arange(batch.shape[2], device=batch.device)[:, None]
        columns = torch.arange(batch.shape[3], device=batch.device)
        erased = (
            (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        )
        return torch.where(erased[:, None], self._fill, batch)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; on CUDA from pinned memory, without waiting for the work queued there."""
    if device.type != "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
