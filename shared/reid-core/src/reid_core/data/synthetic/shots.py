"""The list of images that a layout consists of, before any is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_core.data.synthetic.scene import Spectrum
from reid_core.data.synthetic.spec import SyntheticSpec

__all__ = ["Roll", "Shot", "between", "draw_cameras"]


@dataclass(frozen=True, slots=True)
class Shot:
    """One image to be made.

    Attributes:
        path: File below the data set's own folder, with forward slashes.
        split: Split that the reader puts it into; ``all`` where that changes from trial to trial;
            another name where no split of the reader has it.
        pid: Identity as in the file name.
        person: Who it is; differs from ``pid`` where a data set numbers two people alike.
        outfit: Index among the outfits of the person, from 0.
        is_shared: Whether the outfit comes from the shop.
        camera: Camera, from 0.
        take: Number of the image among those of the person.
        spectrum: What the camera sees by.
        is_misframed: Whether the detector's box misses most of the person.
    """

    path: str
    split: str
    pid: int
    person: int
    outfit: int
    is_shared: bool
    camera: int
    take: int
    spectrum: Spectrum = "visible"
    is_misframed: bool = False


class Roll:
    """Collects shots; numbers the takes of each person and decides who shops where."""

    def __init__(
        self,
        spec: SyntheticSpec,
        rng: np.random.Generator,
        *,
        train_sharing: float | None = None,
    ) -> None:
        """Begin an empty list.

        Args:
            spec: How many, and how often outfits are shared.
            rng: Source of randomness.
            train_sharing: Chance that a training person's outfit comes from the shop; None is that
                of ``spec``.
        """
        self.shots: list[Shot] = []
        self._train_sharing = spec.train_sharing if train_sharing is None else train_sharing
        self._test_sharing = spec.test_sharing
        self._rng = rng
        self._takes: dict[int, int] = {}
        self._shared: dict[tuple[int, int], bool] = {}

    def add(
        self,
        path: str,
        split: str,
        pid: int,
        outfit: int,
        camera: int,
        *,
        person: int | None = None,
        spectrum: Spectrum = "visible",
        is_misframed: bool = False,
    ) -> None:
        """Add an image; the arguments are the attributes of `Shot`."""
        person = pid if person is None else person
        take = self._takes.setdefault(person, 0)
        self._takes[person] += 1
        if (person, outfit) not in self._shared:
            chance = self._train_sharing if split == "train" else self._test_sharing
            self._shared[person, outfit] = bool(self._rng.uniform() < chance)
        is_shared = self._shared[person, outfit]
        shot = Shot(
            path, split, pid, person, outfit, is_shared, camera, take, spectrum, is_misframed
        )
        self.shots.append(shot)


def between(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    """Draw a whole number between two bounds, both included."""
    return int(rng.integers(bounds[0], bounds[1] + 1))


def draw_cameras(spec: SyntheticSpec, rng: np.random.Generator, count: int) -> list[int]:
    """Draw cameras in random order; none comes again before every other one came."""
    order = rng.permutation(spec.cameras)
    return [int(order[i % spec.cameras]) for i in range(count)]
