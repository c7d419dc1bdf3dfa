"""The layouts of SYSU-MM01, RegDB and LLCM: people by day, and by infrared light or their warmth.

Everybody wears one outfit, so that what tells people apart is in both kinds of images: clothes by
their cut and bags, not by their colours. A person has about as many images as in the other layouts.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reid_core.data.readers.regdb import REGDB
from reid_core.data.synthetic.scene import Place, Site, Spectrum
from reid_core.data.synthetic.shots import Roll, Shot, between
from reid_core.data.synthetic.spec import SyntheticSpec

__all__ = [
    "LLCM_SITES",
    "REGDB_SITES",
    "SYSU_SITES",
    "list_llcm",
    "list_regdb",
    "list_sysu",
    "plan_llcm",
    "plan_regdb",
    "plan_sysu",
]

# Cameras 2 and 3 hang in one room.
SYSU_SITES = (
    Site("corridor", 0),
    Site("shop", 1),
    Site("shop", 1),
    Site("street", 3),
    Site("park", 4),
    Site("parking", 5),
)
REGDB_SITES = (Site("street", 0), Site("street", 0))
_LLCM_PLACES: tuple[Place, ...] = (
    *("street", "park", "corridor", "station", "brick"),
    *("glass", "parking", "shop", "street"),
)
LLCM_SITES = tuple(Site(place, number, dimness=0.45) for number, place in enumerate(_LLCM_PLACES))

_SYSU_INDOOR, _SYSU_OUTDOOR = (0, 1), (2, 3, 4, 5)  # the outdoor people are seen by camera 3, too
_SYSU_INFRARED = (2, 5)
# 56 of the 96 test people of SYSU-MM01 have indoor images by day.
_SYSU_SEEN_INDOORS = 56 / 96
_NUM_ORDERS = 10  # trials in the table of SYSU-MM01's authors
_PEOPLE_PER_TRIAL = 6
_LLCM_WITHOUT_INFRARED = 2  # camera 3
_LLCM_KINDS: dict[str, Spectrum] = {"vis": "visible", "nir": "infrared"}


def plan_sysu(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """SYSU-MM01: cam<1..6>/<pid>/<number>.jpg; cameras 3 and 6 are infrared.

    Not everybody is seen indoors by day: some queries of the indoor search have no match, as in the
    original.
    """
    roll = Roll(spec, rng, train_sharing=spec.test_sharing)
    train, val, test = _divide(spec, rng)
    num_cameras = len(SYSU_SITES)
    for split, pids, per_person in (
        ("train", train, _train_images(spec)),
        ("train", val, _train_images(spec)),
        ("test", test, _test_images(spec)),
    ):
        num_indoors = round(_SYSU_SEEN_INDOORS * len(pids))
        indoors = set(rng.permutation(pids)[:num_indoors].tolist())
        few = max(1, round(per_person / num_cameras) - 1)
        for pid in sorted(pids):
            cameras = (*_SYSU_INDOOR, *_SYSU_OUTDOOR) if pid in indoors else _SYSU_OUTDOOR
            for camera in cameras:
                spectrum: Spectrum = "infrared" if camera in _SYSU_INFRARED else "visible"
                for number in range(between(rng, (few, few + 2))):
                    path = f"cam{camera + 1}/{pid:04d}/{number + 1:04d}.jpg"
                    roll.add(path, split, pid, 0, camera, spectrum=spectrum)
    return roll.shots


def list_sysu(
    spec: SyntheticSpec, shots: Sequence[Shot], rng: np.random.Generator
) -> Mapping[str, bytes]:
    """Return SYSU-MM01's lists of people, and the orders in which its authors draw galleries."""
    people = {
        "test": sorted({shot.pid for shot in shots if shot.split == "test"}),
        "train": sorted({shot.pid for shot in shots if shot.split == "train"}),
    }
    # Which of the training people are for validation makes no difference: readers merge them.
    train, val = people["train"][: spec.train_pids], people["train"][spec.train_pids :]
    lists = {"train_id": train, "val_id": val, "test_id": people["test"]}
    files = {f"exp/{name}.txt": _comma_list(pids) for name, pids in lists.items()}
    return {**files, "exp/rand_perm_cam.mat": _permutation_table(shots, rng)}


def plan_regdb(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """RegDB: {Visible,Thermal}/<pid>/<name>_<v|t>_<frame>_<pid>.bmp.

    Everybody is a training person in some trials and a test person in others, so that the images
    belong to no split.
    """
    roll = Roll(spec, rng, train_sharing=spec.test_sharing)
    count = max(1, round(_train_images(spec) / 2))
    for pid in range(1, spec.train_pids + spec.test_pids + 1):
        for frame in range(1, count + 1):
            path = f"Visible/{pid}/walk_v_{frame:05d}_{pid}.bmp"
            roll.add(path, "all", pid, 0, 0)
        for frame in range(1, count + 1):
            path = f"Thermal/{pid}/walk_t_{frame:05d}_{pid}.bmp"
            roll.add(path, "all", pid, 0, 1, spectrum="thermal")
    return roll.shots


def list_regdb(
    spec: SyntheticSpec, shots: Sequence[Shot], rng: np.random.Generator
) -> Mapping[str, bytes]:
    """Return RegDB's lists: each trial divides the people anew; few people get fewer than ten."""
    files = {}
    people = sorted({shot.pid for shot in shots})
    for trial in range(1, min(REGDB.num_trials, max(2, len(people) // _PEOPLE_PER_TRIAL)) + 1):
        order = rng.permutation(people).tolist()
        parts = {"train": order[: spec.train_pids], "test": order[spec.train_pids :]}
        for split, pids in parts.items():
            for spectrum in ("visible", "thermal"):
                chosen = [shot for shot in shots if shot.spectrum == spectrum and shot.pid in pids]
                files[f"idx/{split}_{spectrum}_{trial}.txt"] = _labelled_list(chosen)
    return files


def plan_llcm(spec: SyntheticSpec, rng: np.random.Generator) -> list[Shot]:
    """LLCM: {vis,nir}/<pid>/*.jpg for training, test_{vis,nir}/cam<1..9>/<pid>/*.jpg.

    Each of nine cameras in low light takes images of both kinds, camera 3 by day only. A person
    passes three or four of them.
    """
    roll = Roll(spec, rng, train_sharing=spec.test_sharing)
    train, _, test = _divide(spec, rng)
    for split, pids, per_person in (
        ("train", train, _train_images(spec)),
        ("test", test, _test_images(spec)),
    ):
        per_camera = max(1, round(per_person / 7))  # two kinds, three or four cameras
        for pid in sorted(pids):
            cameras = sorted(rng.permutation(len(LLCM_SITES))[: between(rng, (3, 4))].tolist())
            for kind, spectrum in _LLCM_KINDS.items():
                for camera in cameras:
                    if kind == "nir" and camera == _LLCM_WITHOUT_INFRARED:
                        continue
                    folder = kind if split == "train" else f"test_{kind}/cam{camera + 1}"
                    for frame in range(1, per_camera + 1):
                        name = f"{pid:04d}_c{camera + 1:02d}_s{pid:06d}_f{frame:06d}_{kind}.jpg"
                        path = f"{folder}/{pid:04d}/{name}"
                        roll.add(path, split, pid, 0, camera, spectrum=spectrum)
    return roll.shots


def list_llcm(
    spec: SyntheticSpec, shots: Sequence[Shot], rng: np.random.Generator
) -> Mapping[str, bytes]:
    """Return LLCM's lists of training and test images and of the test people."""
    files = {"idx/test_id.txt": _comma_list({s.pid for s in shots if s.split == "test"})}
    for split in ("train", "test"):
        for kind, spectrum in _LLCM_KINDS.items():
            chosen = [shot for shot in shots if (shot.split, shot.spectrum) == (split, spectrum)]
            files[f"idx/{split}_{kind}.txt"] = _labelled_list(chosen)
    return files


def _divide(
    spec: SyntheticSpec, rng: np.random.Generator
) -> tuple[list[int], list[int], list[int]]:
    """Number the people from 1 and draw who is for training, for validation and for the test."""
    last_val = spec.train_pids + spec.val_pids
    pids = (rng.permutation(last_val + spec.test_pids) + 1).tolist()
    return pids[: spec.train_pids], pids[spec.train_pids : last_val], pids[last_val:]


def _train_images(spec: SyntheticSpec) -> float:
    return sum(spec.outfits) / 2 * spec.train_images


def _test_images(spec: SyntheticSpec) -> float:
    return sum(spec.test_outfits) / 2 * (spec.query_images + spec.gallery_images)


def _comma_list(pids: Iterable[int]) -> bytes:
    return (",".join(str(pid) for pid in sorted(pids)) + "\n").encode("ascii")


def _labelled_list(shots: Sequence[Shot]) -> bytes:
    """Return lines of a path and a label; labels count the people of the list from 0."""
    labels = {pid: label for label, pid in enumerate(sorted({shot.pid for shot in shots}))}
    return "".join(f"{shot.path} {labels[shot.pid]}\n" for shot in shots).encode("ascii")


def _permutation_table(shots: Sequence[Shot], rng: np.random.Generator) -> bytes:
    """Return ``rand_perm_cam.mat``: a cell per camera, in it a cell per person of ten orders."""
    # Imported here because it takes as long as all the rest of a command's start.
    from scipy.io import savemat

    counts: dict[tuple[int, int], int] = {}
    for shot in shots:
        counts[shot.camera, shot.pid] = counts.get((shot.camera, shot.pid), 0) + 1
    cameras = np.empty((len(SYSU_SITES), 1), dtype=object)
    for camera in range(len(SYSU_SITES)):
        people = np.empty((max(shot.pid for shot in shots), 1), dtype=object)
        for pid in range(1, len(people) + 1):
            count = counts.get((camera, pid), 0)
            orders = np.empty((_NUM_ORDERS if count else 0, count), np.uint16)
            for trial in range(len(orders)):
                orders[trial] = rng.permutation(count) + 1
            people[pid - 1, 0] = orders
        cameras[camera, 0] = people
    buffer = io.BytesIO()
    savemat(buffer, {"rand_perm_cam": cameras})  # type: ignore[arg-type]  # takes streams, too
    # Its first 116 bytes are a text with the time; the same seed is to give the same bytes.
    content = buffer.getvalue()
    return b"MATLAB 5.0 MAT-file".ljust(116) + content[116:]
