"""DeskPro: a body stream, a face stream and, in training, the teacher of the face stream.

Legend: B batch, C channels of a stream's last map (512 at width 1), h w height and width of a map,
N identities. Parameter names are those of the official release.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor, nn

from reid_core.errors import ConfigError
from reid_core.models.loading import load_state
from reid_deskpro.lmbn import HEADS, LMBN, LMBNOutput, without_classifiers
from reid_deskpro.osnet import OSNetVariant

__all__ = ["DeskPro", "DeskProOutput", "Mode", "TeacherMode"]

Mode = Literal["all", "body", "face"]
TeacherMode = Literal["train", "eval"]

_TEACHER = "face_net"


class DeskProOutput(NamedTuple):
    """What one forward pass of DeskPro computes.

    Attributes:
        face: Of the face stream; None in mode ``body``.
        body: Of the body stream, with its attention; None in mode ``face``.
        teacher_logits: Seven of (B, N) float32, without a gradient, in the order of ``HEADS``; None
            unless the teacher was run.
    """

    face: LMBNOutput | None
    body: LMBNOutput | None
    teacher_logits: tuple[Tensor, ...] | None


class DeskPro(nn.Module):
    """Identity-sensitive knowledge propagation (Wu et al., ICIP 2022).

    Two light multi-branch networks that share nothing: ``nocloth_net`` sees the body, through a
    spatial attention that is taught by masks of what is not clothing; ``lr_face_net`` sees the face
    as the camera shows it and is taught by ``face_net``, which sees the restored face. Masks,
    restored faces and the teacher are needed in training only.

    The teacher is frozen, but by default runs in training mode (official): it normalises by the
    statistics of the batch, drops rows, and its running statistics, which are saved, drift.

    Attributes:
        mode: Which streams there are.
        companions: What ``embed`` takes beside the images -> (height, width) in pixels.
        part_groups: Parts of an embedding by stream, in their order.
        embedding_dim: 7 C per stream, 7,168 in mode ``all`` at width 1.
        face_net: The teacher; None where there is none.
        lr_face_net: The face stream; None in mode ``body``.
        nocloth_net: The body stream; None in mode ``face``.

    Args:
        num_pids: N, identities in training; None builds the test-time network, without classifiers
            and without a teacher (13.1 million parameters at width 1; 19.7 for training with 12
            identities).
        mode: ``all``, or one stream alone: ``body`` or ``face``.
        teacher: False leaves the teacher out of a network for training.
        teacher_mode: ``train`` is official; ``eval`` uses running statistics and drops nothing.
        width: Factor of the channels of OSNet; 1 is DeskPro's.
        osnet_variant: ``deskpro`` is what the official weights need, see ``OSBlock``.
        face_size: Height and width in pixels of the face crops that it is used with.
        weights: Start weights of all three OSNets: ``none``, ``imagenet`` or a file of torchreid.

    Raises:
        ConfigError: When a value is outside its range.
        CheckpointError: When the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        num_pids: int | None,
        *,
        mode: Mode = "all",
        teacher: bool = True,
        teacher_mode: TeacherMode = "train",
        width: float = 1.0,
        osnet_variant: OSNetVariant = "deskpro",
        face_size: tuple[int, int] = (224, 224),
        weights: str | Path = "none",
    ) -> None:
        super().__init__()
        _require_choice("mode", mode, get_args(Mode))
        _require_choice("teacher_mode", teacher_mode, get_args(TeacherMode))
        self.mode = mode
        self.teacher_mode = teacher_mode
        self.width = width

        def lmbn(*, attention: bool = False) -> LMBN:
            return LMBN(
                num_pids,
                width=width,
                variant=osnet_variant,
                weights=weights,
                attention=attention,
            )

        has_face, has_body = mode != "body", mode != "face"
        has_teacher = has_face and teacher and num_pids is not None
        self.face_net = lmbn().requires_grad_(False) if has_teacher else None
        self.lr_face_net = lmbn() if has_face else None
        self.nocloth_net = lmbn(attention=True) if has_body else None
        self.companions: Mapping[str, tuple[int, int]] = {"lr_face": face_size} if has_face else {}
        self.part_groups: Mapping[str, int] = {
            name: len(HEADS) for name, there in (("face", has_face), ("body", has_body)) if there
        }
        streams = [net for net in (self.lr_face_net, self.nocloth_net) if net is not None]
        self.embedding_dim = sum(net.embedding_dim for net in streams)

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation mode; the teacher may stay in the latter."""
        super().train(mode)
        if self.face_net is not None and self.teacher_mode == "eval":
            self.face_net.eval()
        return self

    def forward(
        self, images: Tensor, lr_face: Tensor | None = None, hr_face: Tensor | None = None
    ) -> DeskProOutput:
        """Run the streams once, and the teacher if there are restored faces.

        Args:
            images: (B, 3, H, W) float, normalised; not looked at in mode ``face``.
            lr_face: (B, 3, h, w) float, normalised face crops; not looked at in mode ``body``.
            hr_face: (B, 3, h, w) float, normalised restored faces of the same images.

        Raises:
            ConfigError: Face crops are missing, or there are restored faces but no teacher.
        """
        face = None if self.lr_face_net is None else self.lr_face_net(_require_faces(lr_face))
        body = None if self.nocloth_net is None else self.nocloth_net(images)
        return DeskProOutput(face, body, None if hr_face is None else self._teach(hr_face))

    def embed(self, images: Tensor, lr_face: Tensor | None = None) -> Tensor:
        """Return embeddings (B, embedding_dim) float32: part by part, not normalised.

        The parts are the seven heads of the face stream, then those of the body stream, each of C
        numbers after the neck. The face parts of an image without a face are zero.

        Args:
            images: (B, 3, H, W) float, normalised; not looked at in mode ``face``.
            lr_face: (B, 3, h, w) float, normalised face crops; all zeros where an image has none.
                Not looked at in mode ``body``.

        Raises:
            ConfigError: Face crops are missing.
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        parts = []
        if self.lr_face_net is not None:
            faces = _require_faces(lr_face)
            parts.append(_zero_where_missing(self.lr_face_net.embed(faces), faces))
        if self.nocloth_net is not None:
            parts.append(self.nocloth_net.embed(images))
        return torch.cat(parts, dim=1)

    def part_network(self, name: str) -> DeskPro:
        """Return the network of one stream alone, for test time; it shares the stream's modules.

        Args:
            name: ``face`` or ``body``.

        Raises:
            ConfigError: There is no such stream.
        """
        _require_choice("stream", name, tuple(self.part_groups))
        # On the meta device: only what surrounds the stream is new.
        with torch.device("meta"):
            mode: Mode = "face" if name == "face" else "body"
            alone = DeskPro(None, mode=mode, width=self.width)
        alone.companions = self.companions if mode == "face" else {}
        alone.lr_face_net = self.lr_face_net if mode == "face" else None
        alone.nocloth_net = self.nocloth_net if mode == "body" else None
        alone.training = self.training
        return alone

    def inference_state(self) -> dict[str, Tensor]:
        """Return the state dict of the test-time network: no classifiers and no teacher."""
        return {
            key: value
            for key, value in without_classifiers(self.state_dict()).items()
            if not key.startswith(f"{_TEACHER}.")
        }

    def teacher_state(self) -> dict[str, Tensor]:
        """Return the state dict of the teacher alone, with the keys of an ``LMBN``.

        Raises:
            ConfigError: There is no teacher.
        """
        return self._require_teacher().state_dict()

    def load_teacher(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load a trained teacher; every tensor must be there and fit.

        Args:
            state: State dict of an ``LMBN``.
            source: What it is, for messages.

        Raises:
            CheckpointError: When it does not fit, e.g. for another number of identities.
            ConfigError: There is no teacher.
        """
        hint = (
            "A teacher must be trained on the same identities, with the same width and OSNet "
            "variant (deskpro-teacher)."
        )
        load_state(self._require_teacher(), state, source=source, hint=hint)

    def _teach(self, hr_face: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            output: LMBNOutput = self._require_teacher()(hr_face)
        assert output.logits is not None, "a teacher has classifiers"
        return output.logits

    def _require_teacher(self) -> LMBN:
        if self.face_net is None:
            raise ConfigError(
                f"this network has no teacher (mode {self.mode!r}); build it for training with "
                "DeskPro(num_pids, mode='all' or 'face', teacher=True)"
            )
        return self.face_net


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")


def _require_faces(lr_face: Tensor | None) -> Tensor:
    if lr_face is None:
        raise ConfigError(
            "the face stream needs face crops: give lr_face, all zeros for an image without a "
            "face, or build the network with mode='body'"
        )
    return lr_face


def _zero_where_missing(embedding: Tensor, faces: Tensor) -> Tensor:
    """Return the embeddings (B, 7 C), zero for faces (B, 3, h, w) that are all zeros."""
    is_there = (faces != 0).flatten(1).any(dim=1, keepdim=True)  # (B, 1)
    return torch.where(is_there, embedding, torch.zeros_like(embedding))
