"""The layouts of Market-1501, DukeMTMC-reID and MSMT17: the same clothes before unlike cameras.

Everybody keeps one outfit, and each camera has a style of its own: cast, light, contrast, sharpness
and background. So images of a person by one camera look alike, and to find the person before
another camera is what there is to learn. A person has about as many images as in the other
layouts, several before each camera that they pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from reid_core.data.synthetic.scene import Place, Site, Style
from reid_core.data.synthetic.shots import Roll, Shot, between
from reid_core.data.synthetic.spec import SyntheticSpec

__all__ = [
    "DUKEMTMC_SITES",
    "MARKET1501_SITES",
    "MSMT17_SITES",
    "list_msmt17",
    "plan_dukemtmc",
    "plan_market1501",
    "plan_msmt17",
]

# So strong that an untrained network finds people before the same camera, and hardly before another
# one; not so strong that nothing could be learnt from what it finds.
_SUN = Style(gain=(1.06, 1.01, 0.93), contrast=1.07, saturation=1.05)
_SHADE = Style(gain=(0.76, 0.85, 0.99), contrast=0.95, saturation=0.87)
_SODIUM = Style(gain=(1.02, 0.84, 0.60), saturation=0.81, noise=1.4)
_TUBES = Style(gain=(0.84, 0.97, 0.79), contrast=1.02, saturation=0.92)
_FOG = Style(gain=(1.10, 1.10, 1.11), contrast=0.71, saturation=0.71, blur=0.002)
_OLD_LENS = Style(
    gain=(0.99, 0.84, 0.95), contrast=0.92, saturation=0.89, blur=0.006, noise=1.4, resolution=0.7
)
_DUSK = Style(gain=(0.62, 0.60, 0.68), contrast=1.05, saturation=0.71, noise=1.7)
_GLARE = Style(gain=(1.18, 1.16, 1.13), contrast=1.12, saturation=0.95)

# Neighbours in the list differ in the most; the first are those of small data sets.
_LOOKS: tuple[tuple[Place, Style], ...] = (
    ("street", _SUN),
    ("corridor", _SHADE),
    ("station", _SODIUM),
    ("park", _TUBES),
    ("glass", _FOG),
    ("brick", _OLD_LENS),
    ("parking", _DUSK),
    ("shop", _GLARE),
)


def _sites(count: int) -> tuple[Site, ...]:
    """Return cameras; beyond the eighth, places and styles meet in other pairs."""
    number = len(_LOOKS)
    return tuple(
        Site(_LOOKS[i % number][0], i, style=_LOOKS[(i + i // number) % number][1])
        for i in range(count)
    )


MARKET1501_SITES = _sites(6)
DUKEMTMC_SITES = _sites(8)
MSMT17_SITES = _sites(15)

# IICS trains on batches of eight images of each camera.
_FEWEST_PER_CAMERA = 8
_MOST_CAMERAS_PASSED = 6
_PEOPLE_PER_STRANGER = 3  # test people for each distractor
_STRANGER_IMAGES = 2
_LAST_FRAME = 100_000
_DAY_PARTS = ("morning", "noon", "afternoon")


class _Sighting(NamedTuple):
    """Images of a person by one camera."""

    pid: int
    camera: int
    num_images: int


def plan_market1501(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """Market-1501: <pid>_c<camera>s<sequence>_<frame>_<box>.jpg in three folders.

    The gallery also has distractors (identity 0: people whom no query shows) and junk (identity
    -1: boxes that miss most of a person), which readers drop.
    """
    roll = Roll(spec, rng, train_sharing=spec.test_sharing)
    train, test = _divide(spec, rng)
    frames = _frames(rng)

    def add(folder: str, split: str, pid: int, camera: int, person: int | None = None) -> None:
        prefix = f"{pid:04d}" if pid >= 0 else str(pid)
        path = f"{folder}/{prefix}_c{camera + 1}s1_{next(frames):06d}_01.jpg"
        roll.add(path, split, pid, 0, camera, person=person, is_misframed=split == "junk")

    num_cameras = min(spec.cameras, len(MARKET1501_SITES))
    for pid, camera, num_images in _train_sightings(spec, rng, train, num_cameras):
        for _ in range(num_images):
            add("bounding_box_train", "train", pid, camera)
    for pid, camera, num_images in _test_sightings(spec, rng, test, num_cameras):
        add("query", "query", pid, camera)
        for _ in range(num_images - 1):
            add("bounding_box_test", "gallery", pid, camera)
        # Junk is a fifth of the original's folder, and a tenth of this one.
        if rng.uniform() < 0.3:
            add("bounding_box_test", "junk", -1, camera, person=pid)
    for person, camera in _strangers(spec, rng, num_cameras):
        add("bounding_box_test", "gallery", 0, camera, person=person)
    return roll.shots


def plan_dukemtmc(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """DukeMTMC-reID: <pid>_c<camera>_f<frame>.jpg in three folders.

    Distractors have identities of their own and are in the gallery alone.
    """
    roll = Roll(spec, rng, train_sharing=spec.test_sharing)
    train, test = _divide(spec, rng)
    frames = _frames(rng)

    def add(folder: str, split: str, pid: int, camera: int) -> None:
        path = f"{folder}/{pid:04d}_c{camera + 1}_f{next(frames):07d}.jpg"
        roll.add(path, split, pid, 0, camera)

    num_cameras = min(spec.cameras, len(DUKEMTMC_SITES))
    for pid, camera, num_images in _train_sightings(spec, rng, train, num_cameras):
        for _ in range(num_images):
            add("bounding_box_train", "train", pid, camera)
    for pid, camera, num_images in _test_sightings(spec, rng, test, num_cameras):
        add("query", "query", pid, camera)
        for _ in range(num_images - 1):
            add("bounding_box_test", "gallery", pid, camera)
    for person, camera in _strangers(spec, rng, num_cameras):
        add("bounding_box_test", "gallery", person, camera)
    return roll.shots


def plan_msmt17(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """MSMT17 (version 2): mask_{train,test}_v2/<pid>/<pid>_<image>_<camera>_<time>_<frame>_0.jpg.

    Training and test number their people separately, so that a number means two people. One more
    image of each training person is in a list of its own (``list_val.txt``).
    """
    roll = Roll(spec, rng, train_sharing=spec.test_sharing)
    frames = _frames(rng)
    images: dict[tuple[str, int], int] = {}

    def add(split: str, pid: int, camera: int) -> None:
        part = "train" if split in ("train", "val") else "test"
        image = images.setdefault((part, pid), 0)
        images[part, pid] += 1
        time = f"0303{_DAY_PARTS[camera % len(_DAY_PARTS)]}"
        name = f"{pid:04d}_{image:03d}_{camera + 1:02d}_{time}_{next(frames):05d}_0.jpg"
        person = pid if part == "train" else spec.train_pids + pid
        roll.add(f"mask_{part}_v2/{pid:04d}/{name}", split, pid, 0, camera, person=person)

    num_cameras = min(spec.cameras, len(MSMT17_SITES))
    train, test = range(spec.train_pids), range(spec.test_pids)
    listed: set[int] = set()
    for pid, camera, num_images in _train_sightings(spec, rng, train, num_cameras):
        for _ in range(num_images):
            add("train", pid, camera)
        if pid not in listed:
            add("val", pid, camera)
            listed.add(pid)
    for pid, camera, num_images in _test_sightings(spec, rng, test, num_cameras):
        add("query", pid, camera)
        for _ in range(num_images - 1):
            add("gallery", pid, camera)
    return roll.shots


def list_msmt17(
    spec: SyntheticSpec, shots: Sequence[Shot], rng: np.random.Generator
) -> Mapping[str, bytes]:
    """Return MSMT17's lists: ``<path below mask_train_v2 or mask_test_v2> <person>``."""
    return {
        f"list_{split}.txt": "".join(
            f"{shot.path.partition('/')[2]} {shot.pid}\n" for shot in shots if shot.split == split
        ).encode("ascii")
        for split in ("train", "val", "query", "gallery")
    }


def _divide(spec: SyntheticSpec, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Number the people from 1 and draw who is for training and who for the test."""
    pids = (rng.permutation(spec.train_pids + spec.test_pids) + 1).tolist()
    return sorted(pids[: spec.train_pids]), sorted(pids[spec.train_pids :])


def _frames(rng: np.random.Generator) -> Iterator[int]:
    """Yield frame numbers, which say nothing about the person, as in the originals; none twice."""
    return iter(rng.permutation(_LAST_FRAME).tolist())


def _train_sightings(
    spec: SyntheticSpec, rng: np.random.Generator, pids: Sequence[int], num_cameras: int
) -> list[_Sighting]:
    per_person = sum(spec.outfits) / 2 * spec.train_images
    return _sightings(rng, pids, num_cameras, per_person, fewest_per_camera=_FEWEST_PER_CAMERA)


def _test_sightings(
    spec: SyntheticSpec, rng: np.random.Generator, pids: Sequence[int], num_cameras: int
) -> list[_Sighting]:
    """One image of each is for a query, so that there are two or more."""
    per_person = sum(spec.test_outfits) / 2 * (spec.query_images + spec.gallery_images)
    return _sightings(rng, pids, num_cameras, per_person, fewest_per_camera=0)


def _sightings(
    rng: np.random.Generator,
    pids: Sequence[int],
    num_cameras: int,
    per_person: float,
    *,
    fewest_per_camera: int,
) -> list[_Sighting]:
    """Draw which cameras each person passes, about as many people before each, and how often.

    Args:
        rng: Source of randomness.
        pids: The people.
        num_cameras: Cameras, at least 2; a person passes half of them or some more.
        per_person: Images of a person, about.
        fewest_per_camera: Images that each camera that sees anybody has of all people, at least.
    """
    fewest = min(max(2, num_cameras // 2), _MOST_CAMERAS_PASSED - 2)
    most = min(num_cameras, fewest + 2)
    seen = np.zeros(num_cameras, np.int64)
    passed = []
    for pid in pids:
        order = rng.permutation(num_cameras)
        chosen = order[np.argsort(seen[order], kind="stable")][: between(rng, (fewest, most))]
        seen[chosen] += 1
        passed += [(pid, camera) for camera in sorted(chosen.tolist())]
    usual = max(3, round(2 * per_person / (fewest + most)))
    least = max(usual - 1, -(-fewest_per_camera // int(seen[seen > 0].min())))
    return [
        _Sighting(pid, camera, between(rng, (least, max(least, usual + 1))))
        for pid, camera in passed
    ]


def _strangers(
    spec: SyntheticSpec, rng: np.random.Generator, num_cameras: int
) -> Iterator[tuple[int, int]]:
    """Yield the person and the camera of each distractor image: people who pass one camera."""
    first = spec.train_pids + spec.test_pids + 1
    for person in range(first, first + max(1, spec.test_pids // _PEOPLE_PER_STRANGER)):
        camera = int(rng.integers(num_cameras))
        for _ in range(_STRANGER_IMAGES):
            yield person, camera
