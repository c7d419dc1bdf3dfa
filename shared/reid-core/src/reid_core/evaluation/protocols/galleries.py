"""Which images a protocol lets search which: filters, draws, cameras that do not see each other.

Draws go by the order of files: by path, and by list where there are no paths. Imports no torch.

Legend: N images of a list.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reid_core.data.sample import Modality, Sample
from reid_core.errors import ProtocolError
from reid_core.evaluation.protocols.definition import SINGLE_SHOT_SEED, Draw, Protocol
from reid_core.evaluation.protocols.permutations import Permutations
from reid_core.evaluation.rules import Indices, Labels

__all__ = [
    "Search",
    "labels_under",
    "per_camera_draw",
    "plan_searches",
    "require_draws",
    "single_shot_draws",
    "take_rows",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """Some queries and the gallery images that each of them searches.

    Attributes:
        queries: int64 rows of the query's split, ascending; never empty.
        gallery: int64 rows of the gallery's split, ascending; may be empty.
    """

    queries: Indices
    gallery: Indices


def plan_searches(
    protocol: Protocol,
    query: Labels,
    gallery: Labels,
    trial: int = 0,
    permutations: Permutations | None = None,
) -> tuple[Search, ...]:
    """Return who searches whom in one trial.

    Args:
        protocol: The protocol.
        query: Labels of the query's split, as ``labels_under`` returns them.
        gallery: Labels of the gallery's split, as ``labels_under`` returns them.
        trial: Number of the trial, from 0.
        permutations: The authors' table, for protocols that need it.

    Returns:
        Groups of queries, each query in one of them; none where the filters leave no query.

    Raises:
        ProtocolError: The table is not given, or does not belong to these images.
    """
    queries = _eligible(query, protocol.query_modality, protocol.query_cameras)
    entries = _eligible(gallery, protocol.gallery_modality, protocol.gallery_cameras)
    queries = _draw(protocol, protocol.query_draw, query, queries, trial, permutations)
    entries = _draw(protocol, protocol.gallery_draw, gallery, entries, trial, permutations)
    searches = []
    unseen = np.ones(len(queries), dtype=bool)
    for camera in dict.fromkeys(camera for camera, _ in protocol.hidden):
        own = query.camids[queries] == camera
        hidden = [other for first, other in protocol.hidden if first == camera]
        visible = ~np.isin(gallery.camids[entries], hidden)
        searches.append(Search(queries=queries[own], gallery=entries[visible]))
        unseen &= ~own
    searches.append(Search(queries=queries[unseen], gallery=entries))
    return tuple(search for search in searches if len(search.queries))


def require_draws(
    protocols: Iterable[Protocol],
    splits: Mapping[str, Sequence[Sample]],
    permutations: Permutations | None,
) -> None:
    """Refuse a table that some trial of a protocol cannot draw by, before anything is embedded.

    Args:
        protocols: The protocols; those that draw without a table are passed over.
        splits: Split name to samples.
        permutations: The authors' table.

    Raises:
        ProtocolError: It is not given, or does not belong to these images.
    """
    for protocol in protocols:
        for trial in protocol.trials_in(splits) if protocol.needs_permutations else ():
            query, gallery = (
                labels_under(protocol, Labels.of(splits[name]))
                for name in protocol.splits_of_trial(trial)
            )
            plan_searches(protocol, query, gallery, trial, permutations)


def labels_under(protocol: Protocol, labels: Labels) -> Labels:
    """Return labels with the cameras that the protocol goes by."""
    if protocol.cameras == "labels":
        return labels
    return replace(labels, camids=_file_positions(labels))


def take_rows(labels: Labels, rows: Indices) -> Labels:
    """Return the labels of ascending rows; the same object where these are all rows."""
    return labels if len(rows) == len(labels) else labels.take(rows)


def single_shot_draws(pids: Sequence[int], trials: int) -> list[Indices]:
    """Draw galleries of one image per identity, as the official reader of PRCC does.

    Args:
        pids: Identities of the gallery images, in the order of their list.
        trials: Number of draws.

    Returns:
        ``trials`` arrays of gallery rows, identities in order of first appearance.
    """
    rows_of: dict[int, list[int]] = {}
    for row, pid in enumerate(pids):
        rows_of.setdefault(pid, []).append(row)
    # A generator of its own draws what random.seed and random.choice would.
    rng = random.Random(SINGLE_SHOT_SEED)
    return [
        np.array([rng.choice(rows) for rows in rows_of.values()], dtype=np.int64)
        for _ in range(trials)
    ]


def per_camera_draw(labels: Labels, trial: int, shots: int = 1) -> Indices:
    """Draw images of every identity and camera, as official evaluations of SYSU-MM01 and LLCM do.

    random.Random(trial) chooses from the files of each identity, ascending, and of each of its
    cameras, ascending: one with ``choice`` (Ye et al., AGW, TPAMI 2021), several with ``sample``.

    Args:
        labels: Labels of N images.
        trial: Number of the trial, from 0: the seed.
        shots: Images per identity and camera; all where there are fewer.

    Returns:
        int64 rows, in the order in which they are drawn.
    """
    rng = random.Random(trial)
    drawn: list[int] = []
    for rows in _by_identity_and_camera(labels):
        files = rows.tolist()
        drawn += [rng.choice(files)] if shots == 1 else rng.sample(files, min(shots, len(files)))
    return np.array(drawn, dtype=np.int64)


def _eligible(labels: Labels, modality: Modality | None, cameras: Sequence[int] | None) -> Indices:
    kept = labels.pids >= 0
    if modality is not None:
        kept &= labels.modalities == modality
    if cameras is not None:
        kept &= np.isin(labels.camids, cameras)
    return np.flatnonzero(kept)


def _draw(
    protocol: Protocol,
    draw: Draw,
    labels: Labels,
    rows: Indices,
    trial: int,
    permutations: Permutations | None,
) -> Indices:
    """Return the rows that are drawn in this trial, ascending."""
    if draw == "all":
        return rows
    if draw == "single_shot":
        rows = rows[np.argsort(_file_positions(labels)[rows])]
        return np.sort(rows[single_shot_draws(labels.pids[rows].tolist(), trial + 1)[trial]])
    kept = labels.take(rows)
    if draw == "per_camera":
        return np.sort(rows[per_camera_draw(kept, trial, protocol.shots)])
    if permutations is None:
        raise ProtocolError(
            f"{protocol.name} draws its gallery by the table of the data set's authors: give "
            "the file exp/rand_perm_cam.mat of SYSU-MM01"
        )
    drawn = [
        files[
            permutations.choose(
                camid=int(kept.camids[files[0]]),
                pid=int(kept.pids[files[0]]),
                num_files=len(files),
                trial=trial,
                shots=protocol.shots,
            )
        ]
        for files in _by_identity_and_camera(kept)
    ]
    return np.sort(rows[np.concatenate(drawn)]) if drawn else rows


def _by_identity_and_camera(labels: Labels) -> list[Indices]:
    """Return the rows of each identity and camera, both ascending, rows in the order of files."""
    order = np.lexsort((_file_positions(labels), labels.camids, labels.pids))
    if not len(order):
        return []
    keys = np.stack([labels.pids[order], labels.camids[order]])
    borders = np.flatnonzero((np.diff(keys) != 0).any(axis=0)) + 1
    return np.split(order, borders)


def _file_positions(labels: Labels) -> Indices:
    """Return (N,) int64, each image's position among the sorted paths."""
    count = len(labels)
    if not labels.paths:
        return np.arange(count)
    names = [path.as_posix() for path in labels.paths]
    positions = np.empty(count, dtype=np.int64)
    positions[sorted(range(count), key=names.__getitem__)] = np.arange(count)
    return positions
