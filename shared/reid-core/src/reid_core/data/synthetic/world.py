"""The people, wardrobes and cameras of one synthetic data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from reid_core.data.synthetic.people import Person, draw_person
from reid_core.data.synthetic.pose import Pose, draw_pose
from reid_core.data.synthetic.render import RenderedImage, render
from reid_core.data.synthetic.scene import (
    Camera,
    Site,
    Spectrum,
    dimmed,
    draw_camera,
    draw_heading,
    styled,
)
from reid_core.data.synthetic.shots import Shot
from reid_core.data.synthetic.wardrobe import Outfit, draw_outfit

__all__ = ["Scene", "World", "WornOutfit"]

# Purpose of a random stream; part of its seed, so that no two purposes share numbers.
_PERSON, _SHELF, _OWN_OUTFIT, _SHOP_OUTFIT, _CAMERA, _IMAGE = range(6)
# Width of a detector's box over its height.
_BOX_ASPECT = (0.36, 0.43)
# Standard deviation of a failed detector's box, share of the box.
_MISFRAMED_JITTER = 0.28


class WornOutfit(NamedTuple):
    """An outfit on a person.

    Attributes:
        outfit: The clothes.
        appearance: Name of the look; people who wear the same clothes have the same one.
    """

    outfit: Outfit
    appearance: str


class Scene(NamedTuple):
    """Who stands before which camera, and how: the arguments of `render` for one image."""

    person: Person
    outfit: Outfit
    camera: Camera
    pose: Pose
    rng: np.random.Generator
    height: int
    width: int

    def render(self) -> RenderedImage:
        """Render the image; once, because it takes its random numbers from ``rng``."""
        return render(
            self.person,
            self.outfit,
            self.camera,
            self.pose,
            self.rng,
            height=self.height,
            width=self.width,
        )


class World:
    """Draws each person, outfit, camera and image from the seed and its own number alone.

    So an image does not depend on which others are made, in which order, or in which process.
    """

    def __init__(
        self, seed: int, domain: int, *, shop_outfits: int, sites: Sequence[Site] = ()
    ) -> None:
        """Describe a world.

        Args:
            seed: Seed of the data set, >= 0.
            domain: Separates worlds of the same seed: each layout has its own people.
            shop_outfits: Outfits in each department of the shop.
            sites: Where each camera hangs; empty where nothing is said of it.
        """
        self._entropy = (seed, domain)
        self._shop_outfits = shop_outfits
        self._sites = tuple(sites)

    def person(self, pid: int) -> Person:
        """Return a person."""
        return draw_person(self._rng(_PERSON, pid))

    def camera(self, number: int, spectrum: Spectrum = "visible") -> Camera:
        """Return a camera; where it sees by day and otherwise, both are of one view."""
        if not self._sites:
            return draw_camera(self._rng(_CAMERA, number), number, spectrum=spectrum)
        site = self._sites[number]
        camera = draw_camera(self._rng(_CAMERA, site.view), spectrum=spectrum)
        camera = replace(camera, place=site.place)
        if spectrum != "visible":
            return camera
        return styled(dimmed(camera, site.dimness), site.style)

    def outfit(self, pid: int, index: int, *, is_shared: bool) -> WornOutfit:
        """Return an outfit of a person; no two of a person's outfits look the same.

        Args:
            pid: Person.
            index: Number of the outfit, from 0.
            is_shared: Whether it comes from the shop. Who has bought everything there wears
                something of their own.
        """
        presentation = self.person(pid).presentation
        if is_shared and index < self._shop_outfits:
            department = int(presentation >= 0.5)
            item = int(self._rng(_SHELF, pid).permutation(self._shop_outfits)[index])
            rng = self._rng(_SHOP_OUTFIT, department, item)
            return WornOutfit(
                draw_outfit(rng, 0.25 + 0.5 * department), f"shop-{department}-{item}"
            )
        rng = self._rng(_OWN_OUTFIT, pid, index)
        return WornOutfit(draw_outfit(rng, presentation), f"own-{pid}-{index}")

    def photograph(
        self, shot: Shot, height: int, *, fixed_aspect: float | None = None
    ) -> RenderedImage:
        """Render an image; the arguments are those of ``stage``."""
        return self.stage(shot, height, fixed_aspect=fixed_aspect).render()

    def stage(self, shot: Shot, height: int, *, fixed_aspect: float | None = None) -> Scene:
        """Return what is to be seen in an image.

        Args:
            shot: Who, wearing what, before which camera.
            height: Pixels for an average camera; others see people larger or smaller.
            fixed_aspect: Width over height of all images, which then have this height too; None
                for boxes as a detector draws them.
        """
        camera = self.camera(shot.camera, shot.spectrum)
        if shot.is_misframed:
            camera = replace(camera, jitter=_MISFRAMED_JITTER, occlusion=1.0)
        rng = self._rng(_IMAGE, shot.person, shot.take)
        pose = draw_pose(rng, draw_heading(rng, camera))
        if fixed_aspect is None:
            rows = round(height * camera.resolution)
            columns = round(rows * float(rng.uniform(*_BOX_ASPECT)))
        else:
            rows, columns = height, round(height * fixed_aspect)
        outfit = self.outfit(shot.person, shot.outfit, is_shared=shot.is_shared).outfit
        return Scene(self.person(shot.person), outfit, camera, pose, rng, rows, columns)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((*self._entropy, *purpose)))
