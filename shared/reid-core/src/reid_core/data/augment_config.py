"""Settings of the training augmentation. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass

from reid_core.errors import ConfigError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "AugmentConfig", "Channels"]

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images are varied. Defaults: the official ones of CAL and AIM.

    The official ones of CSSC: ``crop_prob=0, pad=10, erase_fill=(0, 0, 0)``.

    Raises:
        ConfigError: A value is out of range.
    """

    crop_prob: float = 0.5
    """Probability that an image is enlarged and a random part of the input size cut out."""
    crop_scale: float = 1.125
    """Factor of that enlargement, at least 1."""
    flip_prob: float = 0.5
    """Probability of a left-right flip."""
    pad: int = 0
    """Black pixels put around the image, of which a random part of the input size is cut out."""
    erase_prob: float = 0.5
    """Probability that one rectangle is filled with a constant."""
    erase_area: tuple[float, float] = (0.02, 0.4)
    """Smallest and largest share of the image that the rectangle covers."""
    erase_min_ratio: float = 0.3
    """Smallest height / width of the rectangle; the largest is its inverse."""
    erase_fill: Channels = (0.4914, 0.4822, 0.4465)
    """Fill of the rectangle per channel, in normalised units (after mean and std)."""
    mean: Channels = IMAGENET_MEAN
    """Mean per channel of values in [0, 1]."""
    std: Channels = IMAGENET_STD
    """Standard deviation per channel of values in [0, 1]."""

    def __post_init__(self) -> None:
        for name in ("crop_prob", "flip_prob", "erase_prob"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value} is not a probability; use 0 to 1.")
        if not self.crop_scale >= 1:
            raise ConfigError(f"crop_scale={self.crop_scale} would shrink; use at least 1.")
        if self.pad < 0:
            raise ConfigError(f"pad={self.pad} must not be negative; 0 pads nothing.")
        low, high = self.erase_area
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"erase_area={self.erase_area} is not a range of shares; "
                "use 0 < smallest <= largest <= 1."
            )
        if not 0 < self.erase_min_ratio <= 1:
            raise ConfigError(f"erase_min_ratio={self.erase_min_ratio} must be above 0, at most 1.")
        if min(self.std) <= 0:
            raise ConfigError(f"std={self.std} must be positive in every channel.")
