"""Checkpoints of DeskPro's official code, read and written.

A checkpoint is what Lightning 1.6 saves: a dict with ``state_dict``, ``epoch`` from 0, states of
optimisers and loops, and ``hyper_parameters`` with nodes of yacs, which are not executed. The keys
of its state dict are ours after ``model.``; every branch of an LMBN is there twice, a second time
as ``branches.<number>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reid_core.engine.official import (
    copy_to_cpu,
    read_whole,
    require_official,
    save_torch_file,
)
from reid_core.errors import CheckpointError
from reid_core.models.loading import load_state
from reid_deskpro.lmbn import without_classifiers
from reid_deskpro.model import DeskPro, Mode
from reid_deskpro.official_names import (
    BRANCHES,
    NETWORKS,
    TEACHER,
    StateDict,
    first_keys,
    networks_of,
    num_pids_of,
    own_names,
    read_foreign_file,
    width_of,
)
from reid_deskpro.osnet import OSBlock, OSNetVariant

__all__ = [
    "OfficialCheckpoint",
    "official_state_dict",
    "parse_official",
    "read_official",
    "save_official",
]

_FACE, _BODY = NETWORKS[1:]

_LIGHTNING_VERSION = "1.6.2"  # that the official code asks for


@dataclass(frozen=True, kw_only=True)
class OfficialCheckpoint:
    """An official checkpoint with our parameter names.

    Attributes:
        source: Where it came from, for messages.
        state: State dict of the networks in it, each branch once.
        epoch: Epoch from 0 that was just finished, or None.
    """

    source: str
    state: StateDict
    epoch: int | None

    @property
    def networks(self) -> tuple[str, ...]:
        """Which of ``face_net`` (the teacher), ``lr_face_net`` and ``nocloth_net`` are there."""
        return networks_of(self.state)

    @property
    def mode(self) -> Mode:
        """The streams that are there.

        Raises:
            CheckpointError: There is none, but at most a teacher.
        """
        has_face, has_body = _FACE in self.networks, _BODY in self.networks
        if not (has_face or has_body):
            raise CheckpointError(
                f"{self._where} holds no stream of DeskPro, neither {_FACE} nor {_BODY}"
                + (
                    ", only a teacher: train with it (deskpro-train --teacher FILE)"
                    if self.networks
                    else f"; its first keys are {first_keys(self.state)}"
                )
            )
        if has_face and has_body:
            return "all"
        return "face" if has_face else "body"

    @property
    def num_pids(self) -> int | None:
        """Identities of the classifiers, or None where there are none."""
        return num_pids_of(self.state)

    def inference_network(
        self,
        *,
        mode: Mode | None = None,
        osnet_variant: OSNetVariant = "deskpro",
        face_size: tuple[int, int] = (224, 224),
    ) -> DeskPro:
        """Return the test-time network in evaluation mode.

        Classifiers and teacher are left in the file.

        Args:
            mode: Streams to take; default: those that are there.
            osnet_variant: That it was trained with; no weight tells it.
            face_size: Height and width of the face crops, in pixels; no weight tells it.

        Raises:
            CheckpointError: When a stream is missing or does not fit.
        """
        network = DeskPro(
            None,
            mode=mode or self.mode,
            width=width_of(self.state, self._where),
            osnet_variant=osnet_variant,
            face_size=face_size,
        )
        self._load(network, without_classifiers(self.state))
        return network.eval()

    def network(
        self,
        *,
        osnet_variant: OSNetVariant = "deskpro",
        face_size: tuple[int, int] = (224, 224),
    ) -> DeskPro:
        """Return the network with its classifiers, and its teacher if there is one, to train on.

        Args:
            osnet_variant: As in ``inference_network``.
            face_size: As in ``inference_network``.

        Raises:
            CheckpointError: When there are no classifiers, or something does not fit.
        """
        if self.num_pids is None:
            raise CheckpointError(
                f"{self._where} lacks the classifiers: it can be evaluated, but not trained on"
            )
        network = DeskPro(
            self.num_pids,
            mode=self.mode,
            teacher=TEACHER in self.networks,
            width=width_of(self.state, self._where),
            osnet_variant=osnet_variant,
            face_size=face_size,
        )
        self.load_into(network)
        return network.eval()

    def load_into(self, network: DeskPro) -> None:
        """Load the weights into a network of the same sizes; what it lacks stays in the file.

        Args:
            network: With classifiers; changed in place.

        Raises:
            CheckpointError: When something is missing or does not fit, e.g. for another number of
                identities.
        """
        self._load(network, self.state)

    @property
    def _where(self) -> str:
        return f"state_dict of {self.source}"

    def _load(self, network: DeskPro, state: Mapping[str, Tensor]) -> None:
        lacked = {name for name in NETWORKS if getattr(network, name) is None}
        chosen = {key: value for key, value in state.items() if key.split(".")[0] not in lacked}
        hint = "Streams, width and number of identities must be those it was trained with."
        load_state(network, chosen, source=self._where, hint=hint)


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of DeskPro's official code, without running code in it.

    Args:
        path: ``.ckpt`` or like file.

    Raises:
        CheckpointError: When the file is missing, damaged, refused as unsafe, or has another
            layout.
    """
    return parse_official(read_foreign_file(path), source=str(path))


def parse_official(content: object, *, source: str) -> OfficialCheckpoint:
    """Bring the contents of an official checkpoint to our parameter names.

    Args:
        content: What ``read_torch_file`` returned.
        source: Where it came from, for messages.

    Raises:
        CheckpointError: When the layout is another one.
    """
    values = require_official(content, method="DeskPro", source=source, key="state_dict")
    state = own_names(values["state_dict"])
    if not networks_of(state):
        raise CheckpointError(
            f"state_dict of {source} belongs to no DeskPro network: none of its keys starts with "
            f"{', '.join(NETWORKS)}; the first ones are {first_keys(values['state_dict'])}"
        )
    return OfficialCheckpoint(source=source, state=state, epoch=read_whole(values.get("epoch")))


def official_state_dict(network: DeskPro) -> StateDict:
    """Return the state dict with the official keys, in the official order.

    Args:
        network: Its tensors are referred to, not copied; those of a branch twice.

    Returns:
        6,650 entries with teacher and classifiers.

    Raises:
        CheckpointError: When the official code has no such network.
    """
    _require_representable(network)
    return _with_second_names(network.state_dict())


def save_official(path: Path, network: DeskPro, *, epoch: int, global_step: int) -> None:
    """Write a network as a checkpoint of the official code; an earlier file stays on failure.

    States of the optimiser and of Lightning's loops are left out; the official code reads none.

    Args:
        path: The file, e.g. ``epoch=139-all_mAP=0.2270.ckpt``.
        network: With classifiers; its values are copied to the CPU.
        epoch: Epoch from 0 that was just finished.
        global_step: Optimiser steps so far.

    Raises:
        CheckpointError: As ``official_state_dict``.
        OutputError: When the file cannot be written.
    """
    _require_representable(network)
    content = {
        "epoch": epoch,
        "global_step": global_step,
        "pytorch-lightning_version": _LIGHTNING_VERSION,
        # Both names of a tensor refer to one copy, which the file, too, holds once.
        "state_dict": _with_second_names(copy_to_cpu(network.state_dict())),
    }
    save_torch_file(path, content)


def _with_second_names(own: Mapping[str, Tensor]) -> StateDict:
    """Return the official keys in the official order: of each network, first the second names."""
    state: StateDict = {}
    for name in networks_of(own):
        of_network = {key: value for key, value in own.items() if key.startswith(f"{name}.")}
        for number, branch in enumerate(BRANCHES):
            start = f"{name}.{branch}."
            state |= {
                f"model.{name}.branches.{number}.{key.removeprefix(start)}": value
                for key, value in of_network.items()
                if key.startswith(start)
            }
        state |= {f"model.{key}": value for key, value in of_network.items()}
    return state


def _require_representable(network: DeskPro) -> None:
    """Check that the official code has such a network."""
    own = network.state_dict()
    blocks = [part for part in network.modules() if isinstance(part, OSBlock)]
    problems = {
        "OSNet has its full width": width_of(own, "the network") != 1,
        "its blocks are of the variant deskpro": any(
            block.variant != "deskpro" for block in blocks
        ),
        "there are classifiers": num_pids_of(own) is None,
    }
    found = [rule for rule, broken in problems.items() if broken]
    if found:
        raise CheckpointError(
            f"the official code has no such network: there, {' and '.join(found)}. Use the "
            "model.safetensors, or export it as onnx or pt2"
        )
