"""Evaluation protocols by name: who is searched where, what counts as a match. Imports no torch.

A protocol is named ``<data set>/<protocol>`` and is printed with every number made under it: two
numbers may be compared where their protocols are the same.
"""

from __future__ import annotations

import difflib
import logging
import textwrap
from collections.abc import Container, Iterable, Sequence

from reid_core.data.sample import ReIDDataset
from reid_core.errors import ProtocolError
from reid_core.evaluation.protocols.applicability import applicable
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.table import PROTOCOLS

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "choose_protocols",
    "describe",
    "get_protocol",
    "protocols_for",
    "splits_of",
]

logger = logging.getLogger(__name__)

# Names of readers that share the protocols of one's own images.
_CUSTOM = ("custom", "csv", "folder")


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
    # A short name is one of the data set's own: no other's is proposed for it.
    accepted = [other for other in PROTOCOLS if other.startswith(f"{full.partition('/')[0]}/")]
    if full == name or not accepted:
        accepted = list(PROTOCOLS)
    near = difflib.get_close_matches(full, accepted, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ProtocolError(f"no protocol is called {name!r}.{hint} Accepted: {', '.join(accepted)}")


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


def splits_of(
    protocols: Iterable[Protocol], at_hand: Container[str] | None = None
) -> tuple[str, ...]:
    """Return the splits that some protocols need, each once: what has to be embedded.

    Args:
        protocols: The protocols.
        at_hand: Names of the splits there are. Of protocols whose trials have lists of their own
            only these are returned.
    """
    return tuple(
        dict.fromkeys(
            name
            for protocol in protocols
            for name in protocol.splits
            if not protocol.trial_lists or at_hand is None or name in at_hand
        )
    )


def describe(protocol: Protocol, width: int = 88) -> str:
    """Return a protocol as a block of text: name, definition, what it needs, what to cite.

    Args:
        protocol: The protocol.
        width: Longest line, in characters.
    """
    parts = [protocol.definition, f"Needs: {protocol.needs}."]
    if protocol.citation:
        parts.append(f"Cite: {protocol.citation}.")
    name = protocol.name + ("" if protocol.default else "  (only when asked for)")
    return "\n".join(
        [
            name,
            *(
                textwrap.fill(part, width, initial_indent="  ", subsequent_indent="  ")
                for part in parts
            ),
        ]
    )


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
