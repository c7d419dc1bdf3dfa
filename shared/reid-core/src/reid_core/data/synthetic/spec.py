"""How large a synthetic data set is, and how hard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from reid_core.errors import ConfigError

__all__ = ["SIZES", "Size", "SyntheticSpec", "resolve_size"]

Size = Literal["tiny", "demo", "full"]


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """Numbers of people, outfits, cameras and images, and how far clothes mislead.

    In the PRCC layout everybody has two outfits and there are three cameras; the other numbers of
    outfits and images only give how many images a person has there. So it is for SYSU-MM01, RegDB
    and LLCM, which have one outfit and six, two and nine cameras; there all outfits are shared as
    those of the test people. So it is for Market-1501, DukeMTMC-reID and MSMT17, too, with
    ``cameras`` of their six, eight and fifteen; none of these has fewer than eight training images.

    Attributes:
        train_pids: Training identities.
        val_pids: Validation identities (LaST; SYSU-MM01, where they are for training, too; PRCC
            validates on its training people).
        test_pids: Test identities; none of them is in training or validation.
        outfits: Fewest and most outfits of a training person.
        test_outfits: Fewest and most outfits of a test or validation person.
        single_outfit: Share of the test people who never change clothes (LTCC only).
        train_images: Training images per outfit.
        query_images: Query images per outfit (LaST: per person).
        gallery_images: Gallery images per outfit.
        cameras: Cameras, at most 12 (LaST, Celeb-reID: places; Market-1501, DukeMTMC-reID: no more
            than they have).
        height: Height of the images of an average camera, pixels.
        train_sharing: Chance that an outfit of a training person comes from the shop, where many
            people buy the same clothes. The higher, the less clothes tell people apart.
        test_sharing: The same for the others. The higher, the more look-alikes mislead a query.
        shop_outfits: Outfits in each of the two departments of the shop.
    """

    train_pids: int
    val_pids: int
    test_pids: int
    outfits: tuple[int, int]
    test_outfits: tuple[int, int]
    single_outfit: float = 0.1
    train_images: int
    query_images: int
    gallery_images: int
    cameras: int
    height: int
    train_sharing: float = 0.95
    test_sharing: float = 0.25
    shop_outfits: int = 6

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: A number is out of range; the message names it.
        """
        counts = ("train_pids", "val_pids", "test_pids", "train_images", "query_images")
        for name in (*counts, "gallery_images", "shop_outfits"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("outfits", "test_outfits"):
            fewest, most = getattr(self, name)
            self._require(1 <= fewest <= most, name, "(fewest, most) with 1 <= fewest <= most")
        for name in ("single_outfit", "train_sharing", "test_sharing"):
            self._require(0.0 <= getattr(self, name) <= 1.0, name, "in [0, 1]")
        self._require(2 <= self.cameras <= 12, "cameras", "in 2..12")
        self._require(32 <= self.height <= 1024, "height", "in 32..1024 pixels")

    def _require(self, is_valid: bool, name: str, accepted: str) -> None:
        if not is_valid:
            seen = getattr(self, name)
            raise ConfigError(f"SyntheticSpec.{name} is {seen}; it must be {accepted}")


SIZES: Mapping[Size, SyntheticSpec] = MappingProxyType(
    {
        "tiny": SyntheticSpec(
            train_pids=8,
            val_pids=2,
            test_pids=6,
            outfits=(2, 3),
            test_outfits=(2, 2),
            train_images=4,
            query_images=1,
            gallery_images=3,
            cameras=3,
            height=64,
        ),
        # Tuned so that a small network that sees 12,000 images (four minutes on two cores) finds
        # people in other clothes clearly, though far from always, and their colours do not.
        "demo": SyntheticSpec(
            train_pids=60,
            val_pids=6,
            test_pids=34,
            outfits=(4, 6),
            test_outfits=(2, 4),
            train_images=4,
            query_images=1,
            gallery_images=5,
            cameras=6,
            height=128,
        ),
        "full": SyntheticSpec(
            train_pids=110,
            val_pids=20,
            test_pids=75,
            outfits=(3, 6),
            test_outfits=(2, 5),
            train_images=10,
            query_images=2,
            gallery_images=8,
            cameras=12,
            height=256,
            shop_outfits=12,
        ),
    }
)
"""The named sizes: ``tiny`` for tests, ``demo`` for a first run, ``full`` for experiments."""


def resolve_size(size: Size | SyntheticSpec) -> SyntheticSpec:
    """Return the numbers behind a size.

    Raises:
        ConfigError: The name is unknown.
    """
    if isinstance(size, SyntheticSpec):
        return size
    if size not in SIZES:
        raise ConfigError(
            f"unknown synthetic size {size!r}; choose {', '.join(SIZES)} or give a SyntheticSpec"
        )
    return SIZES[size]
