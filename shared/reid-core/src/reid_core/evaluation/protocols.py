"""Evaluation protocols as data: who is searched where, what counts as a match. Imports no torch.

A protocol is named ``<data set>/<protocol>`` and is printed with every number made under it: two
numbers may be compared where their protocols are the same.
"""

from __future__ import annotations

import difflib
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from reid_core.data.readers import READERS
from reid_core.data.sample import ReIDDataset
from reid_core.errors import ProtocolError
from reid_core.evaluation.applicability import applicable
from reid_core.evaluation.rules import MATCH_RULES, Indices, Match

__all__ = [
    "PROTOCOLS",
    "GalleryDraw",
    "Protocol",
    "choose_protocols",
    "get_protocol",
    "protocols_for",
    "single_shot_draws",
    "splits_of",
]

logger = logging.getLogger(__name__)

GalleryDraw = Literal["all", "single_shot"]

SINGLE_SHOT_SEED = 3
"""Seed of the single-shot draws, as in the official reader of PRCC."""

_COMMON = (
    "Other images of the query's identity are junk: left out of its ranking. Images of other "
    "identities are never left out. Queries without a match are left out of all means. Images are "
    "ranked by the cosine of their features. AP has one step per match, without interpolation; an "
    "image of another identity with exactly the score of a match ranks before it."
)

# Names of readers that share the protocols of one's own images.
_CUSTOM = ("custom", "csv", "folder")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to evaluate on one data set.

    Attributes:
        name: ``<data set>/<protocol>``; the data set is ``custom`` for one's own images.
        match: Which gallery images of the query's identity are matches (``MATCH_RULES``).
        query: Split whose images are searched for.
        gallery: Split that is searched.
        gallery_draw: ``all`` gallery images (multi-shot), or ``single_shot``: one image per
            identity, drawn anew for each trial.
        trials: Number of draws; results are means over them.
        default: Whether it is reported unless others are asked for.
        remark: What one has to know of the splits to read the definition.
    """

    name: str
    match: Match
    query: str = "query"
    gallery: str = "gallery"
    gallery_draw: GalleryDraw = "all"
    trials: int = 1
    default: bool = True
    remark: str = ""

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.name.partition("/")[0]

    @property
    def citation(self) -> str:
        """Publication that the images and splits come from; empty for one's own."""
        reader = READERS.get(self.dataset)
        return "" if reader is None else reader.info.paper

    @property
    def splits(self) -> tuple[str, str]:
        """The two splits that it needs."""
        return (self.query, self.gallery)

    @property
    def definition(self) -> str:
        """The protocol in words; with the lists of images it can be checked by hand."""
        searched = f"all images of `{self.gallery}`"
        if self.gallery_draw == "single_shot":
            searched = (
                f"one image per identity of `{self.gallery}`, drawn {self.trials} times (Python's "
                f"random.seed({SINGLE_SHOT_SEED}), one random.choice per identity in order of "
                "first appearance); results are means over the draws"
            )
        sentences = (
            f"Every image of `{self.query}` searches {searched}.",
            self.remark,
            MATCH_RULES[self.match].text,
            _COMMON,
        )
        return " ".join(sentence for sentence in sentences if sentence)


def _prcc(name: str, query: str, *, gallery_draw: GalleryDraw = "all", trials: int = 1) -> Protocol:
    camera, outfit = ("B", "in the same") if query == "query_same" else ("C", "in another")
    return Protocol(
        name=f"prcc/{name}",
        match="standard",
        query=query,
        gallery_draw=gallery_draw,
        trials=trials,
        # Published results rank the whole gallery; single-shot ones do not compare with them.
        default=gallery_draw == "all",
        remark=f"`gallery` is camera A, `{query}` is camera {camera}: the same people {outfit} "
        "outfit.",
    )


def _standard(dataset: str, remark: str = "", *, val: bool = False) -> Protocol:
    return Protocol(
        name=f"{dataset}/val_standard" if val else f"{dataset}/standard",
        match="standard",
        query="val_query" if val else "query",
        gallery="val_gallery" if val else "gallery",
        default=not val,
        remark=remark,
    )


def _with_outfits(dataset: str, remark: str = "") -> list[Protocol]:
    return [
        Protocol(name=f"{dataset}/{match}", match=match, remark=remark) for match in MATCH_RULES
    ]


_LAST_REMARK = (
    "There are no camera labels: every image counts as a camera of its own, so every gallery image "
    "of the query's identity is a match."
)
_DEEPCHANGE_REMARK = (
    "The tracklet stands for the camera: another tracklet of the same camera is a match."
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            *_with_outfits("ltcc", "The lists in the data set's `info` folder are not used."),
            _prcc("same_clothes", "query_same"),
            _prcc("cloth_changing", "query_diff"),
            _prcc("same_clothes_single_shot", "query_same", gallery_draw="single_shot", trials=10),
            _prcc(
                "cloth_changing_single_shot", "query_diff", gallery_draw="single_shot", trials=10
            ),
            _standard("last", _LAST_REMARK),
            _standard("last", _LAST_REMARK, val=True),
            *_with_outfits("vcclothes"),
            _standard("vcclothes_sc", "Both are cut to cameras 2 and 3: the same outfit."),
            _standard("vcclothes_cc", "Both are cut to cameras 3 and 4: another outfit."),
            _standard("deepchange", _DEEPCHANGE_REMARK),
            _standard("deepchange", _DEEPCHANGE_REMARK, val=True),
            *_with_outfits("custom"),
        )
    }
)
"""All protocols by name."""


def get_protocol(name: str, dataset: str | None = None) -> Protocol:
    """Look a protocol up.

    Args:
        name: ``<data set>/<protocol>``, or the second half alone where ``dataset`` is given.
        dataset: Data set that the short form belongs to; ``folder`` and ``csv`` mean ``custom``.

    Raises:
        ProtocolError: No such protocol; the message lists the names accepted.
    """
    full = name
    if dataset is not None and "/" not in name:
        full = f"{'custom' if dataset in _CUSTOM else dataset}/{name}"
    if full in PROTOCOLS:
        return PROTOCOLS[full]
    near = difflib.get_close_matches(full, PROTOCOLS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ProtocolError(f"no protocol is called {name!r}.{hint} Accepted: {', '.join(PROTOCOLS)}")


def protocols_for(dataset: str) -> tuple[Protocol, ...]:
    """Return the protocols of a data set, those reported by default first.

    Args:
        dataset: Name of a data set; ``folder`` and ``csv`` have the ``custom`` protocols.

    Raises:
        ProtocolError: There are none for this name.
    """
    wanted = "custom" if dataset in _CUSTOM else dataset
    found = [protocol for protocol in PROTOCOLS.values() if protocol.dataset == wanted]
    if not found:
        known = sorted({protocol.dataset for protocol in PROTOCOLS.values()} | set(_CUSTOM))
        near = difflib.get_close_matches(dataset, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ProtocolError(
            f"no protocols for the data set {dataset!r}.{hint} Data sets: {', '.join(known)}"
        )
    return tuple(sorted(found, key=lambda protocol: not protocol.default))


def splits_of(protocols: Iterable[Protocol]) -> tuple[str, ...]:
    """Return the splits that some protocols need, each once: what has to be embedded."""
    return tuple(dict.fromkeys(name for protocol in protocols for name in protocol.splits))


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


def choose_protocols(dataset: ReIDDataset, names: Sequence[str] = ()) -> tuple[Protocol, ...]:
    """Choose what to evaluate on a data set.

    Args:
        dataset: The data set as read.
        names: Protocols asked for, in full or without the data set's name. Where none are, the
            default ones of the data set that its labels allow; those left out are logged, as are
            those for which no query has a match.

    Returns:
        The protocols, each once.

    Raises:
        ProtocolError: A protocol asked for is unknown or cannot be used, or none can be.
    """
    if names:
        chosen = dict.fromkeys(get_protocol(name, dataset.name) for name in names)
        for protocol in chosen:
            found = applicable(protocol, dataset.splits)
            if found.problem:
                raise ProtocolError(found.problem)
            _warn(found.warning)
        return tuple(chosen)
    usable, problems = [], []
    for protocol in protocols_for(dataset.name):
        if not protocol.default:
            continue
        found = applicable(protocol, dataset.splits)
        if found.ok:
            usable.append(protocol)
            _warn(found.warning)
        else:
            problems.append(found.problem)
    if not usable:
        raise ProtocolError(
            f"{dataset.name} in {dataset.root} cannot be evaluated: {' '.join(problems)}"
        )
    for problem in problems:
        _warn(problem)
    return tuple(usable)


def _warn(text: str) -> None:
    if text:
        logger.warning("%s", text)
