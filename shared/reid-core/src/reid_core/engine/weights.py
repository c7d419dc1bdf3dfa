"""Reading weights without running foreign code, and writing them as safetensors."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from reid_core.errors import CheckpointError
from reid_core.files import atomic_file, write_json

__all__ = ["WEIGHTS_NAME", "Weights", "read_torch_file", "read_weights", "save_weights"]

WEIGHTS_NAME = "model.safetensors"

_SCALAR_KINDS = "?bBhHiIlLqQefdFDSU"  # NumPy type codes: numbers and text; no Python objects


_LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20"  # torch's magic number, before 1.6


class Weights(NamedTuple):
    """What a weights file holds.

    Attributes:
        state_dict: Tensors on the CPU by name.
        card: What they are: method, version, preset, data set, results, ... Plain JSON values.
    """

    state_dict: dict[str, Tensor]
    card: dict[str, Any]


def read_torch_file(path: Path, *, stand_ins: Collection[str] = ()) -> Any:
    """Read a file written by ``torch.save``; nothing in it is ever executed.

    Accepted are tensors, plain Python values and NumPy numbers (old checkpoints hold scores as
    NumPy scalars, under the module names of NumPy 1 or 2). Any other object is refused.

    Args:
        path: A ``.pt``, ``.pth``, ``.pth.tar``, ``.bin`` or like file.
        stand_ins: Packages, e.g. ``yacs``, whose objects are not refused but replaced: a plain dict
            of what was put into the object stands in its place. The packages are not imported.

    Returns:
        The stored object, tensors on the CPU.

    Raises:
        CheckpointError: When the file is missing, empty, damaged, no torch file, or holds objects
            other than the accepted ones.
    """
    start = _first_bytes(path)
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is a safetensors file, not one of torch.save")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint: the download ended at a page that wanted a "
            "confirmation or a login. Download the file with a browser"
        )
    try:
        accepted = [*_numpy_globals(), *_stand_in_globals(path, stand_ins)]
        with torch.serialization.safe_globals(accepted):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, start, error) from error
    except Exception as error:
        # torch reports damage as RuntimeError, EOFError, KeyError, zipfile and decoding errors.
        raise _damage(path, f"{type(error).__name__}: {error}") from error


def save_weights(path: Path, state_dict: Mapping[str, Tensor], card: Mapping[str, Any]) -> Path:
    """Write tensors as safetensors, with their card inside and as a JSON file beside.

    Args:
        path: The file, ``.../model.safetensors``; the card gets its name with ``.json``.
        state_dict: Tensors by name, on any device.
        card: Plain JSON values; ``method`` and ``version`` at least. The file beside also records
            ``file`` and ``sha256`` of the tensors' file.

    Returns:
        ``path``.

    Raises:
        OutputError: When the files cannot be written; earlier ones stay.
    """
    # clone: safetensors refuses tensors that share memory (tied weights, views).
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state_dict.items()
    }
    metadata = {"format": "pt", "card": json.dumps(card, allow_nan=False)}
    data = safetensors.torch.save(tensors, metadata)
    with atomic_file(path, needed=len(data)) as file:
        file.write(data)
    digest = hashlib.sha256(data).hexdigest()
    write_json(path.with_suffix(".json"), {**card, "file": path.name, "sha256": digest})
    return path


def read_weights(path: Path, *, method: str | None = None) -> Weights:
    """Read weights written by ``save_weights``.

    Args:
        path: The ``.safetensors`` file, or a run folder with ``model.safetensors``.
        method: Method that the weights must belong to; default: any.

    Raises:
        CheckpointError: When the file is missing, damaged, without a card, or another method's.
    """
    if path.is_dir():
        path = _weights_in_folder(path)
    _first_bytes(path)
    data = path.read_bytes()
    try:
        state_dict = safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} ({len(data)} bytes) is damaged or no safetensors file; copy or export it "
            f"again. Reader: {error}"
        ) from error
    card = _card(path, data)
    if method is not None and card.get("method") != method:
        raise CheckpointError(
            f"{path} holds weights of {card.get('method')!r}, not of {method!r}; use the commands "
            f"of that method (e.g. {card.get('method')}-eval)"
        )
    return Weights(state_dict, card)


def _card(path: Path, data: bytes) -> dict[str, Any]:
    """Find the card inside the file, or beside it, and check that both files belong together."""
    beside = path.with_suffix(".json")
    card = _parse_card(path, _metadata(data).get("card"))
    try:
        outside = _parse_card(beside, beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        outside = None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read the card {beside}: {error}") from error
    digest = None if outside is None else outside.get("sha256")
    if digest is not None and digest != hashlib.sha256(data).hexdigest():
        raise CheckpointError(
            f"{path} is not the file that its card {beside.name} describes (sha256 differs): it is "
            "damaged, or only one of the two was replaced. Copy both again; without the .json file "
            "the card inside the weights is used"
        )
    card = card if card is not None else outside
    if card is None:
        raise CheckpointError(
            f"{path} has no card that says what the weights are, neither inside nor as "
            f"{beside.name} beside it; use weights written by a reid-* command"
        )
    return card


def _metadata(data: bytes) -> dict[str, str]:
    """Return the text entries of a safetensors file that was read without error."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(header.get("__metadata__") or {})


def _parse_card(path: Path, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        card = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"the card in {path} is no valid JSON: {error}") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"the card in {path} must be one JSON object")
    return card


def _weights_in_folder(folder: Path) -> Path:
    path = folder / WEIGHTS_NAME
    if not path.exists():
        hint = "name a weights file or the folder of a finished run"
        if (folder / "last.pt").exists():
            hint = f"the training is not finished; continue it with --resume {folder}"
        raise CheckpointError(f"{folder} holds no {WEIGHTS_NAME}; {hint}")
    return path


def _first_bytes(path: Path) -> bytes:
    """Return the start of a file.

    Raises:
        CheckpointError: When there is no file, it is empty, or it cannot be read.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the weights file in it")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path} is empty (0 bytes); copy or download it again")
    return start


def _numpy_globals() -> list[Any]:
    """Return what a pickled NumPy number or array refers to, under both of its module names."""
    multiarray = np.array(0).__reduce__()[0].__module__  # numpy._core in 2, numpy.core in 1
    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.array(0).__reduce__()[0]
    pairs: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in _SCALAR_KINDS}]
    for module in {multiarray, "numpy.core.multiarray", "numpy._core.multiarray"}:
        pairs += [(scalar, f"{module}.scalar"), (reconstruct, f"{module}._reconstruct")]
    return pairs


class _StandIn:
    """Makes a dict in the place of any object of a package that is not imported."""

    def __new__(cls, *_: object) -> Any:
        # The one mapping whose attributes, too, torch's restricted reader lets a file set.
        return OrderedDict()


def _stand_in_globals(path: Path, packages: Collection[str]) -> list[Any]:
    """Return the stand-in under the name of each class of these packages that a file refers to."""
    if not packages:
        return []
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:
        # Not of torch's present format: torch.load says what it is, or reads the old one.
        return []
    return [(_StandIn, name) for name in names if name.partition(".")[0] in packages]


def _refusal(path: Path, start: bytes, error: pickle.UnpicklingError) -> CheckpointError:
    """Say which object was refused, or that the file is damaged."""
    # The reader's own advice, to load without its checks, is not repeated.
    reason = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    found = re.search(r"GLOBAL (\S+)|got <class '(\S+)'>|function <?([^>]+)>?", str(error))
    if found is not None:
        return CheckpointError(
            f"{path} is refused: it holds {found[1] or found[2] or found[3]}, which could run code "
            "when loaded; nothing of it was executed. Only tensors, plain values and NumPy numbers "
            "are accepted. If you trust its origin, load it elsewhere with "
            "torch.load(..., weights_only=False) and save its tensors again"
        )
    if start.startswith(b"\x80") and not start.startswith(_LEGACY_START):
        return CheckpointError(
            f"{path} is refused: it is a Python pickle, not a file of torch.save, and loading a "
            "pickle can run code; nothing of it was executed"
        )
    return _damage(path, reason)


def _damage(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is damaged or no PyTorch checkpoint; copy or "
        f"download it again. Reader: {(reason.splitlines() or ['no reason given'])[0][:200]}"
    )
