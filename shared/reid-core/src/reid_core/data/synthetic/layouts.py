"""Which images a data set consists of and what its authors call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reid_core.data.naming import SYNTHETIC_LAYOUTS, LayoutName
from reid_core.data.readers.celeb import CELEB, MAX_PID
from reid_core.data.readers.celeb_light import CELEB_LIGHT
from reid_core.data.readers.dukemtmc import DUKEMTMC
from reid_core.data.readers.last import LAST
from reid_core.data.readers.llcm import LLCM
from reid_core.data.readers.ltcc import LTCC
from reid_core.data.readers.market1501 import MARKET1501
from reid_core.data.readers.msmt17 import MSMT17
from reid_core.data.readers.prcc import PRCC
from reid_core.data.readers.regdb import REGDB
from reid_core.data.readers.sysu import SYSU
from reid_core.data.synthetic.cross_camera import (
    DUKEMTMC_SITES,
    MARKET1501_SITES,
    MSMT17_SITES,
    list_msmt17,
    plan_dukemtmc,
    plan_market1501,
    plan_msmt17,
)
from reid_core.data.synthetic.cross_modality import (
    LLCM_SITES,
    REGDB_SITES,
    SYSU_SITES,
    list_llcm,
    list_regdb,
    list_sysu,
    plan_llcm,
    plan_regdb,
    plan_sysu,
)
from reid_core.data.synthetic.scene import Site
from reid_core.data.synthetic.shots import Roll, Shot, between, draw_cameras
from reid_core.data.synthetic.spec import SyntheticSpec
from reid_core.errors import ConfigError

__all__ = ["LAYOUTS", "Layout", "LayoutName", "get_layout"]

LAYOUTS = SYNTHETIC_LAYOUTS
"""The layouts that can be written, by the names of their readers."""

_Lists = Callable[[SyntheticSpec, Sequence[Shot], np.random.Generator], Mapping[str, bytes]]


def _no_lists(
    spec: SyntheticSpec, shots: Sequence[Shot], rng: np.random.Generator
) -> Mapping[str, bytes]:
    # All labels stand in the names of the images.
    return {}


@dataclass(frozen=True)
class Layout:
    """The on-disk form of one published data set.

    Attributes:
        name: Name of its reader.
        folder: The data set's own folder.
        plan: Lists the images; depends on its arguments only.
        fixed_aspect: Width over height of all images, which are all of one size; None where they
            are boxes of a detector.
        sites: Where each camera hangs; empty where nothing is said of it.
        lists: Returns the contents of the files that its authors ship beside the images, by their
            paths below the folder.
    """

    name: LayoutName
    folder: str
    plan: Callable[[SyntheticSpec, np.random.Generator], list[Shot]]
    fixed_aspect: float | None = None
    sites: tuple[Site, ...] = ()
    lists: _Lists = _no_lists


def get_layout(name: str) -> Layout:
    """Return a layout.

    Raises:
        ConfigError: There is none of that name.
    """
    match name:
        case "ltcc":
            return Layout("ltcc", LTCC.folder, _plan_ltcc)
        case "prcc":
            return Layout("prcc", PRCC.folder, _plan_prcc)
        case "last":
            return Layout("last", LAST.folder, _plan_last)
        case "celeb":
            return Layout("celeb", CELEB.folder, _plan_celeb, fixed_aspect=0.5)
        case "celeb_light":
            return Layout("celeb_light", CELEB_LIGHT.folder, _plan_celeb, fixed_aspect=0.5)
        case "sysu":
            return Layout("sysu", SYSU.folder, plan_sysu, sites=SYSU_SITES, lists=list_sysu)
        case "regdb":
            return Layout(
                "regdb",
                REGDB.folder,
                plan_regdb,
                fixed_aspect=0.5,
                sites=REGDB_SITES,
                lists=list_regdb,
            )
        case "llcm":
            return Layout("llcm", LLCM.folder, plan_llcm, sites=LLCM_SITES, lists=list_llcm)
        case "market1501":
            return Layout(
                "market1501",
                MARKET1501.folder,
                plan_market1501,
                fixed_aspect=0.5,
                sites=MARKET1501_SITES,
            )
        case "dukemtmc":
            return Layout("dukemtmc", DUKEMTMC.folder, plan_dukemtmc, sites=DUKEMTMC_SITES)
        case "msmt17":
            return Layout(
                "msmt17", MSMT17.folder, plan_msmt17, sites=MSMT17_SITES, lists=list_msmt17
            )
    raise ConfigError(f"no synthetic layout is called {name!r}; choose {', '.join(LAYOUTS)}")


def _plan_ltcc(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """LTCC: <split>/<pid>_<outfit>_c<camera>_<frame>.png; outfits and cameras count from 1."""
    roll = Roll(spec, rng)
    pids = [int(pid) for pid in rng.permutation(spec.train_pids + spec.test_pids)]
    most_outfits = max(spec.outfits[1], spec.test_outfits[1])
    most_images = max(spec.train_images, spec.query_images + spec.gallery_images)
    # Frame numbers say nothing about the person, as in the original.
    frames = iter(rng.permutation(2 * len(pids) * most_outfits * most_images).tolist())

    def add(folder: str, split: str, pid: int, outfit: int, camera: int) -> None:
        name = f"{pid:03d}_{outfit + 1}_c{camera + 1}_{next(frames):06d}.png"
        roll.add(f"{folder}/{name}", split, pid, outfit, camera)

    for pid in sorted(pids[: spec.train_pids]):
        for outfit in range(between(rng, spec.outfits)):
            for camera in draw_cameras(spec, rng, spec.train_images):
                add("train", "train", pid, outfit, camera)
    test_pids = pids[spec.train_pids :]
    never_change = set(test_pids[: round(spec.single_outfit * spec.test_pids)])
    for pid in sorted(test_pids):
        for outfit in range(1 if pid in never_change else between(rng, spec.test_outfits)):
            cameras = draw_cameras(spec, rng, spec.query_images + spec.gallery_images)
            for rank, camera in enumerate(cameras):
                is_query = rank < spec.query_images
                folder, split = ("query", "query") if is_query else ("test", "gallery")
                add(folder, split, pid, outfit, camera)
    return roll.shots


def _plan_prcc(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """PRCC: rgb/{train,val}/<pid>/<A|B|C>_*.jpg and rgb/test/<A|B|C>/<pid>/*.jpg.

    Everybody wears the first outfit before cameras A and B and the second before camera C.
    Validation shows the training people; the test set's A is the gallery, B and C are queries.
    A person has about as many images as in the other layouts, evenly over the cameras.
    """
    roll = Roll(spec, rng)
    train_images = max(1, round(sum(spec.outfits) / 2 * spec.train_images / 3))
    per_outfit = spec.query_images + spec.gallery_images
    test_images = max(1, round(sum(spec.test_outfits) / 2 * per_outfit / 3))
    pids = [int(pid) + 1 for pid in rng.permutation(spec.train_pids + spec.test_pids)]
    cameras = list(zip("ABC", (0, 0, 1), range(3), strict=True))
    for pid in sorted(pids[: spec.train_pids]):
        for split, count in (("train", train_images), ("val", 1)):
            for letter, outfit, camera in cameras:
                for _ in range(count):
                    name = f"{letter}_cropped_rgb{len(roll.shots):03d}.jpg"
                    roll.add(f"rgb/{split}/{pid:03d}/{name}", split, pid, outfit, camera)
    splits = ("gallery", "query_same", "query_diff")
    for pid in sorted(pids[spec.train_pids :]):
        for letter, outfit, camera in cameras:
            for _ in range(test_images):
                path = f"rgb/test/{letter}/{pid:03d}/cropped_rgb{len(roll.shots):03d}.jpg"
                roll.add(path, splits[camera], pid, outfit, camera)
    return roll.shots


def _plan_last(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """LaST: train/<pid>/<pid>_mv<film>_<frame>_<outfit>.jpg and {val,test}/{query,gallery}.

    Outfits are named in training only. A query shows an outfit that the gallery lacks, so that
    this layout's one protocol, which knows no clothes, is a change of clothes.
    """
    roll = Roll(spec, rng)
    last_val = spec.train_pids + spec.val_pids
    pids = [int(pid) for pid in rng.permutation(last_val + spec.test_pids)]

    def name(pid: int, camera: int) -> str:
        return f"{pid:06d}_mv{camera + 1:03d}_{len(roll.shots):05d}"

    for pid in sorted(pids[: spec.train_pids]):
        for outfit in range(between(rng, spec.outfits)):
            for camera in draw_cameras(spec, rng, spec.train_images):
                path = f"train/{pid:06d}/{name(pid, camera)}_{outfit:02d}.jpg"
                roll.add(path, "train", pid, outfit, camera)
    parts = (("val", "val_", pids[spec.train_pids : last_val]), ("test", "", pids[last_val:]))
    for folder, prefix, members in parts:
        for pid in sorted(members):
            num_outfits = between(rng, spec.test_outfits)
            for camera in draw_cameras(spec, rng, spec.query_images):
                path = f"{folder}/query/{name(pid, camera)}.jpg"
                roll.add(path, f"{prefix}query", pid, 0, camera)
            for outfit in range(min(1, num_outfits - 1), num_outfits):
                for camera in draw_cameras(spec, rng, spec.gallery_images):
                    path = f"{folder}/gallery/{pid:06d}/{name(pid, camera)}.jpg"
                    roll.add(path, f"{prefix}gallery", pid, outfit, camera)
    return roll.shots


def _plan_celeb(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """Celeb-reID, also light: {train,query,gallery}/<pid>_<image>_<number>.jpg, images from 1.

    Training and test number their people separately, so that a number means two people. Clothes
    change from image to image. A query shows an outfit that the gallery lacks, so that this
    layout's one protocol, which knows no clothes, is a change of clothes.
    """
    largest = max(spec.train_pids, spec.test_pids)
    if largest > MAX_PID:
        raise ConfigError(
            f"{largest} people in one split do not fit into Celeb-reID's names, which count to "
            f"{MAX_PID}; use fewer train_pids and test_pids"
        )
    roll = Roll(spec, rng)

    def add(split: str, pid: int, first: int, outfits: range, count: int) -> None:
        person = pid if split == "train" else MAX_PID + pid
        cameras = [draw_cameras(spec, rng, -(-count // len(outfits))) for _ in outfits]
        for index in range(count):
            turn, which = divmod(index, len(outfits))
            path = f"{split}/{pid}_{first + index}_0.jpg"
            roll.add(path, split, pid, outfits[which], cameras[which][turn], person=person)

    for pid in sorted((rng.permutation(largest)[: spec.train_pids] + 1).tolist()):
        num_outfits = between(rng, spec.outfits)
        add("train", pid, 1, range(num_outfits), num_outfits * spec.train_images)
    for pid in sorted((rng.permutation(largest)[: spec.test_pids] + 1).tolist()):
        num_outfits = between(rng, spec.test_outfits)
        num_hidden = -(-num_outfits // 3)  # a third of them, for queries
        shown = range(min(num_hidden, num_outfits - 1), num_outfits)
        num_queries = num_outfits * spec.query_images
        add("query", pid, 1, range(num_hidden), num_queries)
        add("gallery", pid, num_queries + 1, shown, len(shown) * spec.gallery_images)
    return roll.shots
