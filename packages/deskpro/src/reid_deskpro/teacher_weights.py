"""Files of a trained teacher: ours, and those that the authors released.

A teacher is a dict whose ``state_dict`` has the keys ``face_net.*``. Ours also say which identities
it knows; the official code takes them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_core.engine.official import copy_to_cpu, require_official, save_torch_file
from reid_core.errors import CheckpointError
from reid_core.models.loading import load_state
from reid_deskpro.lmbn import LMBN, without_classifiers
from reid_deskpro.model import DeskPro
from reid_deskpro.official_names import (
    TEACHER,
    StateDict,
    first_keys,
    num_pids_of,
    own_names,
    read_foreign_file,
    width_of,
)
from reid_deskpro.osnet import OSNetVariant

__all__ = ["Teacher", "parse_teacher", "read_teacher", "save_teacher", "teacher_file"]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained teacher: an LMBN that knows the identities by their restored faces.

    Attributes:
        source: Where it came from, for messages.
        state: State dict of an ``LMBN`` with classifiers.
        num_pids: Identities it was trained on.
        identities: Their names in the order of the labels, or None, as in official files.
        facts: What else the file says of it, e.g. ``dataset``; plain values.
    """

    source: str
    state: StateDict
    num_pids: int
    identities: tuple[str, ...] | None
    facts: Mapping[str, Any]

    def require_identities(self, identities: Sequence[str]) -> None:
        """Check that it was trained on these identities, under the same labels.

        Args:
            identities: Names of the identities in the order of the labels.

        Raises:
            CheckpointError: When their number differs, or their names where the file has them.
        """
        if self.num_pids != len(identities):
            raise CheckpointError(
                f"{self.source} was trained on {self.num_pids} identities, this training set has "
                f"{len(identities)}: a teacher teaches only those it knows. Train one on this "
                "data (deskpro-teacher), or prepare the data as it was for the teacher"
            )
        if self.identities is None or self.identities == tuple(identities):
            return
        label, (known, own) = next(
            (label, pair)
            for label, pair in enumerate(zip(self.identities, identities, strict=True))
            if pair[0] != pair[1]
        )
        raise CheckpointError(
            f"{self.source} was trained on other identities than this training set: label {label} "
            f"is {known!r} there and {own!r} here. Train a teacher on this data (deskpro-teacher)"
        )

    def load_into(self, network: DeskPro) -> None:
        """Load it as the teacher of a network.

        Args:
            network: With a teacher; changed in place.

        Raises:
            CheckpointError: When it does not fit, e.g. for another width.
            ConfigError: The network has no teacher.
        """
        network.load_teacher(self.state, source=f"state_dict of {self.source}")

    def inference_network(self, *, osnet_variant: OSNetVariant = "deskpro") -> LMBN:
        """Return the teacher alone without its classifiers, in evaluation mode.

        Args:
            osnet_variant: That it was trained with; no weight tells it.

        Raises:
            CheckpointError: When it does not fit.
        """
        where = f"state_dict of {self.source}"
        network = LMBN(None, width=width_of(self.state, where), variant=osnet_variant)
        hint = "It was taken for a teacher of DeskPro."
        load_state(network, without_classifiers(self.state), source=where, hint=hint)
        return network.eval()


def read_teacher(path: Path) -> Teacher:
    """Read a teacher, ours or one released by the authors, without running code in it.

    Args:
        path: ``teacher.pth``, ``celeb_teacher.pth`` or like file.

    Raises:
        CheckpointError: When the file is missing, damaged, refused as unsafe, or holds no teacher.
    """
    return parse_teacher(read_foreign_file(path), source=str(path))


def parse_teacher(content: object, *, source: str) -> Teacher:
    """Take a teacher out of the contents of a file.

    Args:
        content: What ``read_torch_file`` returned.
        source: Where it came from, for messages.

    Raises:
        CheckpointError: When there is none. (The official code takes such a file without a word
            and teaches with random weights.)
    """
    values = require_official(content, method="DeskPro", source=source, key="state_dict")
    start = f"{TEACHER}."
    state = {
        key.removeprefix(start): value
        for key, value in own_names(values["state_dict"]).items()
        if key.startswith(start)
    }
    num_pids = num_pids_of(state)
    if num_pids is None:
        raise CheckpointError(
            f"state_dict of {source} holds no teacher: there are no classifiers under {TEACHER}; "
            f"its first keys are {first_keys(values['state_dict'])}. Give a file of "
            "deskpro-teacher or a <dataset>_teacher.pth of the authors"
        )
    identities = values.get("identities")
    names = tuple(map(str, identities)) if isinstance(identities, list | tuple) else None
    if names is not None and len(names) != num_pids:
        raise CheckpointError(
            f"{source} names {len(names)} identities but classifies {num_pids}; copy it again, or "
            "train a teacher (deskpro-teacher)"
        )
    return Teacher(
        source=source,
        state=state,
        num_pids=num_pids,
        identities=names,
        facts={
            name: value
            for name, value in values.items()
            if name not in ("state_dict", "identities")
        },
    )


def teacher_file(
    network: LMBN, *, identities: Iterable[str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a teacher in the layout that the official code accepts too.

    Args:
        network: With classifiers; its values are copied to the CPU.
        identities: Names of the identities in the order of the labels.
        facts: What else a reader should know: data set, version, settings; plain values.

    Returns:
        Contents for ``torch.save``.

    Raises:
        CheckpointError: When the network does not classify as many identities.
    """
    names = list(identities)
    state = {f"{TEACHER}.{key}": value for key, value in copy_to_cpu(network.state_dict()).items()}
    if num_pids_of(state) != len(names):
        raise CheckpointError(
            f"a teacher that classifies {num_pids_of(state)} identities cannot be saved with the "
            f"names of {len(names)}"
        )
    return {**facts, "num_pids": len(names), "identities": names, "state_dict": state}


def save_teacher(
    path: Path, network: LMBN, *, identities: Iterable[str], facts: Mapping[str, Any]
) -> None:
    """Write a teacher; an earlier file stays on failure.

    Args:
        path: The file, e.g. ``teacher.pth``.
        network: As in ``teacher_file``.
        identities: As in ``teacher_file``.
        facts: As in ``teacher_file``.

    Raises:
        CheckpointError: As ``teacher_file``.
        OutputError: When the file cannot be written.
    """
    save_torch_file(path, teacher_file(network, identities=identities, facts=facts))
