"""Human parsing by an ONNX model that the user names; needs the extra ``masks``.

No model comes with this package. The settings of `ParserConfig` are those of the model's own test
script. H, W: height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_core.errors import ConfigError
from reid_deskpro.prepare.config import ParserConfig
from reid_deskpro.prepare.label_maps import Labels
from reid_deskpro.prepare.label_sets import LABEL_SETS, LabelSetName

__all__ = ["OnnxParser", "open_parser"]

_CPU = "CPUExecutionProvider"
_REMOTE = "AzureExecutionProvider"  # in every build; sends images to a service, if one is set up


@dataclass(frozen=True)
class OnnxParser:
    """A human-parsing model and how it wants its images.

    Attributes:
        path: The .onnx file.
        sha1: Digest of its contents.
        label_set: Which labels it tells apart.
        settings: Size, colours and output.
        threads: Threads of each process that runs it; no result depends on them.
    """

    path: str
    sha1: str
    label_set: LabelSetName
    settings: ParserConfig
    threads: int

    @property
    def runs_on_device(self) -> bool:
        """Whether something other than the CPU runs it, which several processes had to share."""
        session = _open_session(self.path, self.settings.device, self.threads)
        return bool(session.get_providers() != [_CPU])

    def parse(self, image: Image.Image) -> Labels:
        """Return the label of every pixel, in the resolution of the model's output.

        Args:
            image: RGB.

        Returns:
            (h, w) uint8.

        Raises:
            ConfigError: When the model's output is not what the label set has.
        """
        session = _open_session(self.path, self.settings.device, self.threads)
        height, width = _input_size(session, self.settings)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, np.float32) / 255.0  # (H, W, 3)
        if self.settings.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        mean = np.asarray(self.settings.mean, np.float32)
        std = np.asarray(self.settings.std, np.float32)
        batch = ((pixels - mean) / std).transpose(2, 0, 1)[None]  # (1, 3, H, W)
        names = [self.settings.output] if self.settings.output else None
        try:
            output = session.run(names, {session.get_inputs()[0].name: np.ascontiguousarray(batch)})
        # onnxruntime's exceptions have no common type that it documents.
        except Exception as error:
            raise ConfigError(f"the model {self.path} cannot be run: {error}") from error
        return self._to_labels(np.asarray(output[0]))

    def _to_labels(self, output: npt.NDArray[Any]) -> Labels:
        """Turn logits (1, C, h, w), or label numbers (1, h, w) or (1, 1, h, w), into labels."""
        num_labels = len(LABEL_SETS[self.label_set].names)
        is_one_map = output.ndim >= 2 and set(output.shape[:-2]) <= {1}
        if is_one_map and output.dtype.kind in "iu" and output.size and output.max() < num_labels:
            return output.reshape(output.shape[-2:]).astype(np.uint8)
        if output.ndim == 4 and output.shape[:2] == (1, num_labels):
            labels: Labels = output[0].argmax(axis=0).astype(np.uint8)
            return labels
        raise ConfigError(
            f"the model {self.path} gives {output.dtype} of shape {output.shape}; expected are "
            f"logits (1, {num_labels}, h, w) for {LABEL_SETS[self.label_set].title}, or label "
            "numbers (1, h, w); choose another --labels or --parser.output"
        )


def open_parser(
    path: Path, sha1: str, label_set: LabelSetName, settings: ParserConfig, threads: int
) -> OnnxParser:
    """Open a model once, so that mistakes show before the work begins, and describe it.

    Raises:
        ConfigError: When onnxruntime is not installed, the file is no model, it does not take one
            RGB image, or its input size is neither fixed nor given.
    """
    parser = OnnxParser(str(path), sha1, label_set, settings, threads)
    session = _open_session(parser.path, settings.device, threads)
    _input_size(session, settings)
    outputs = [output.name for output in session.get_outputs()]
    if settings.output and settings.output not in outputs:
        raise ConfigError(
            f"parser.output={settings.output!r}: {path} has no such output, but "
            f"{', '.join(outputs)}"
        )
    return parser


@lru_cache(maxsize=1)
def _open_session(path: str, device: str, threads: int) -> Any:
    """Open the model, once in each process."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "label maps from a model need onnxruntime: pip install 'reid-deskpro[masks]' (or "
            "onnxruntime-gpu), or give a folder of label maps"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    available = [name for name in onnxruntime.get_available_providers() if name != _REMOTE]
    providers = available if device == "auto" else [_CPU]
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    # onnxruntime's exceptions have no common type that it documents.
    except Exception as error:
        raise ConfigError(f"cannot open the model {path}: {error}") from error


def _input_size(session: Any, settings: ParserConfig) -> tuple[int, int]:
    """Return height and width of the model's input."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    # Dimensions that are not fixed are None or have a name.
    takes_rgb = len(shape) == 4 and (shape[1] == 3 or not isinstance(shape[1], int))
    if len(inputs) != 1 or not takes_rgb:
        shown = ", ".join(f"{item.name} {item.shape}" for item in inputs)
        raise ConfigError(
            f"the model takes {shown}; a human-parsing model takes one image (1, 3, height, width)"
        )
    size = []
    for name, fixed, wanted in zip(
        ("height", "width"), shape[2:], (settings.height, settings.width), strict=True
    ):
        if isinstance(fixed, int) and wanted not in (0, fixed):
            raise ConfigError(f"parser.{name}={wanted}, but the model takes {fixed} only")
        if not isinstance(fixed, int) and not wanted:
            raise ConfigError(
                f"the model takes images of any {name}; say which with --parser.{name}"
            )
        size.append(fixed if isinstance(fixed, int) else wanted)
    return size[0], size[1]
