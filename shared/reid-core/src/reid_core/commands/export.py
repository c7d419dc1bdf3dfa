"""Export to ONNX and torch.export, checked against PyTorch before it is reported as done."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.commands.arguments import ExportArguments
from reid_core.commands.budget import open_plan
from reid_core.commands.console import say
from reid_core.commands.network import LoadedNetwork
from reid_core.data.companions import COMPANION_KINDS, COMPANION_NAMES
from reid_core.engine.distributed import World
from reid_core.errors import ConfigError, ReIDError
from reid_core.files import atomic_file, make_parent, write_json
from reid_core.models.embedding import (
    ChosenFeature,
    companion_sizes,
    is_cross_modal,
    num_parts,
    part_groups,
)
from reid_core.models.footprint import embedding_footprint, state_bytes

__all__ = ["ExportError", "export_network", "run_export"]

logger = logging.getLogger(__name__)

Inputs = dict[str, Tensor]
"""Names of the file's inputs to their values, in order."""

_TOLERANCE = 1e-4
_CHECKED_BATCHES = (1, 2, 5)  # not those of the example, so that a frozen batch size is found

# Copies of the parameters in graphs, buffers and runtimes at the worst moment, and libraries that
# are loaded for it, as measured with ResNets of 20 and 94 MB.
_COPIES = {"onnx": 9, "pt2": 3}
_LIBRARY_BYTES = {"onnx": 100 * 2**20, "pt2": 0}


class ExportError(ReIDError):
    """The exported file does not compute what the network computes."""


def run_export(loaded: LoadedNetwork, arguments: ExportArguments) -> None:
    """Do what ``<method>-export`` was asked for, and say what was written.

    Raises:
        ReIDError: As ``export_network``, or it would need more memory than it may have.
    """
    loaded = loaded.choose(feature=arguments.feature, flip=arguments.flip)
    source = loaded.source
    folder = source if source.is_dir() else source.parent
    path = arguments.out or folder / f"model.{arguments.format}"
    _require_memory(loaded, arguments)
    make_parent(path)
    difference = export_network(loaded, path, arguments.format)
    flags = " and infrared (batch)" if is_cross_modal(loaded.network) else ""
    sizes = {"images": (loaded.height, loaded.width), **companion_sizes(loaded.network)}
    pictures = ", ".join(f"{name} (batch, 3, {h}, {w})" for name, (h, w) in sizes.items())
    parts = num_parts(loaded.network)
    what = "unit features" if parts == 1 else f"features of {parts} unit parts"
    say(
        f"wrote {path} and {path.name}.json: {pictures} in [0, 1]{flags} to {what}; largest "
        f"difference to PyTorch {difference:.1e}"
    )


def export_network(loaded: LoadedNetwork, path: Path, kind: str) -> float:
    """Write the test-time network as one file, check it, and put a card beside it.

    The file takes ``images`` (B, 3, H, W) float32, RGB in [0, 1], B free, and returns (B, D)
    float32 features of length 1: normalisation and mirror image are inside. That of a cross-modal
    network also takes ``infrared`` (B,) bool, true for infrared images. That of a network with
    companions takes each under the name of its kind, (B, 3, h, w) float32, RGB in [0, 1], all zero
    for an image that has none; ``pt2`` files by keyword. Features in parts are one part after the
    other, each of length 1, or 0 where the network has it so.

    Args:
        loaded: The network, with the feature and the use of mirror images that are wanted.
        path: File to write; appears only when the check has passed.
        kind: ``onnx`` (needs the extra ``export``) or ``pt2``.

    Returns:
        Largest absolute difference to PyTorch seen in the check.

    Raises:
        ConfigError: When the kind is unknown or its libraries are not installed.
        ExportError: When the exported file differs by more than 1e-4.
        OutputError: When the file cannot be written.
    """
    writers: dict[str, Callable[[nn.Module, Inputs, Path], Callable[[Inputs], Tensor]]] = {
        "onnx": _write_onnx,
        "pt2": _write_pt2,
    }
    if kind not in writers:
        raise ConfigError(f"format {kind!r} is unknown; choose from {', '.join(writers)}")
    model = loaded.inference_model()
    example = _draw_inputs(loaded, 3, torch.Generator().manual_seed(0))[0]
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"model.{kind}"
        run = writers[kind](model, example, draft)
        difference = _largest_difference(loaded, model, run)
        if not difference <= _TOLERANCE:
            raise ExportError(
                f"the {kind} file differs from PyTorch by {difference:.1e} (allowed: "
                f"{_TOLERANCE:.0e}); nothing was written. Please report this with the versions of "
                "torch and onnx"
            )
        content = draft.read_bytes()
    with atomic_file(path, needed=len(content)) as file:
        file.write(content)
    write_json(path.with_name(f"{path.name}.json"), _card(loaded, kind, difference))
    return difference


def _require_memory(loaded: LoadedNetwork, arguments: ExportArguments) -> None:
    """Refuse an export that needs more memory than it may have."""
    kind, network = arguments.format, loaded.network
    plan = open_plan("export", arguments.memory_limit, torch.device("cpu"), World())
    weights = state_bytes([*network.parameters(), *network.buffers()])
    plan.add(f"{_COPIES[kind]} copies of the parameters", _COPIES[kind] * weights)
    plan.add("libraries of the format", _LIBRARY_BYTES[kind])
    shape = (max(_CHECKED_BATCHES), 3, loaded.height, loaded.width)
    plan.add("the network's work on a few images", embedding_footprint(network, shape)[0])
    plan.require("export")


def _draw_inputs(loaded: LoadedNetwork, count: int, generator: torch.Generator) -> list[Inputs]:
    """Return random images; where there is more to give, twice with other ones of them chosen.

    A chosen image is infrared, of a cross-modal network, and has no companions.
    """
    images = torch.rand((count, 3, loaded.height, loaded.width), generator=generator)
    sizes = companion_sizes(loaded.network)
    pictures = {
        kind: torch.rand((count, 3, *size), generator=generator) for kind, size in sizes.items()
    }
    if not pictures and not is_cross_modal(loaded.network):
        return [{"images": images}]
    odd = torch.arange(count) % 2 == 1
    return [
        {
            "images": images,
            **({"infrared": chosen} if is_cross_modal(loaded.network) else {}),
            **{kind: ~chosen[:, None, None, None] * own for kind, own in pictures.items()},
        }
        for chosen in (odd, ~odd)
    ]


def _largest_difference(
    loaded: LoadedNetwork, model: nn.Module, run: Callable[[Inputs], Tensor]
) -> float:
    generator = torch.Generator().manual_seed(1)
    largest = 0.0
    for batch_size in _CHECKED_BATCHES:
        for inputs in _draw_inputs(loaded, batch_size, generator):
            with torch.inference_mode():
                expected = model(**inputs)
            found = run(inputs)
            if found.shape != expected.shape:
                return float("inf")
            # NaN counts as the largest difference; it would lose every comparison.
            difference = (found - expected).abs().nan_to_num(nan=torch.inf)
            largest = max(largest, float(difference.max()))
    return largest


def _write_onnx(model: nn.Module, example: Inputs, path: Path) -> Callable[[Inputs], Tensor]:
    missing = [
        name
        for name in ("onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ConfigError(
            f"ONNX export needs {', '.join(missing)}; install the extra with "
            'pip install "reid-core[export]", or use --format pt2'
        )
    import onnxruntime

    torch.onnx.export(
        model,
        (),
        path,
        kwargs=example,
        input_names=list(example),
        output_names=["features"],
        dynamic_shapes=_dynamic_batch(example),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Tensor:
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


def _write_pt2(model: nn.Module, example: Inputs, path: Path) -> Callable[[Inputs], Tensor]:
    def split(inputs: Inputs) -> tuple[tuple[Tensor, ...], Inputs]:
        kinds: Sequence[str] = COMPANION_KINDS
        named = {name: value for name, value in inputs.items() if name in kinds}
        return tuple(value for name, value in inputs.items() if name not in named), named

    with torch.no_grad():
        program = torch.export.export(
            model, *split(example), dynamic_shapes=_dynamic_batch(example)
        )
    torch.export.save(program, path)
    module: Any = torch.export.load(path).module()

    def run(inputs: Inputs) -> Tensor:
        positional, named = split(inputs)
        with torch.no_grad():
            features: Tensor = module(*positional, **named)
        return features

    return run


def _dynamic_batch(example: Inputs) -> dict[str, dict[int, Any]]:
    """Name the batch size once; the network itself says that it is that of all inputs."""
    first, *others = example
    names: dict[str, dict[int, Any]] = {first: {0: torch.export.Dim("batch", min=1)}}
    return names | {name: {0: torch.export.Dim.DYNAMIC} for name in others}


def _card(loaded: LoadedNetwork, kind: str, difference: float) -> dict[str, Any]:
    network, parts = loaded.network, part_groups(loaded.network)
    companions = [
        {
            "name": kind,
            "shape": ["batch", 3, *size],
            "dtype": "float32",
            "values": f"{COMPANION_NAMES[kind]}, RGB in [0, 1], resized like the images; all zero "
            "for an image that has none",
        }
        for kind, size in companion_sizes(network).items()
    ]
    infrared = {
        "name": "infrared",
        "shape": ["batch"],
        "dtype": "bool",
        "values": "true for infrared images",
    }
    return {
        "method": loaded.method,
        "format": kind,
        "source": loaded.source.name,
        "input": {
            "name": "images",
            "shape": ["batch", 3, loaded.height, loaded.width],
            "dtype": "float32",
            "values": f"RGB in [0, 1], resized with Pillow's {loaded.interpolation} filter",
        },
        **({"modality_input": infrared} if is_cross_modal(network) else {}),
        **({"companion_inputs": companions} if companions else {}),
        "output": {
            "name": "features",
            "dtype": "float32",
            **({"parts": dict(parts), "length_of_parts": 1} if parts else {"length": 1}),
        },
        # Two features of one network are of the same shape; nothing else tells the files apart.
        **({"feature": network.feature} if isinstance(network, ChosenFeature) else {}),
        "flip": loaded.flip,
        "largest_difference_to_pytorch": difference,
        "weights": json.loads(json.dumps(dict(loaded.card), default=str)),
    }
