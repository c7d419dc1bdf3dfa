"""Errors that a user can act on.

Every error of the library that comes from input (a path, a file, a flag, a data set) derives from
``ReIDError``. The commands print its text as one message and exit with status 2; any other
exception is a defect and keeps its traceback. A message says what is wrong, the value seen, what is
accepted and what to do.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "DatasetNotFoundError",
    "FeatureFileError",
    "ImageFileError",
    "MemoryLimitError",
    "NonFiniteLossError",
    "OutputError",
    "ProtocolError",
    "ReIDError",
    "VersionMismatchError",
]


class ReIDError(Exception):
    """Base of all errors whose message is meant for the user."""


class ConfigError(ReIDError, ValueError):
    """A setting is unknown, out of range, or does not go with another one."""


class DatasetNotFoundError(ReIDError):
    """The data set's folder is not where it was looked for."""


class DatasetError(ReIDError):
    """The data set is there, but its layout or contents cannot be used."""


class FeatureFileError(ReIDError):
    """A file of features, or the table of their labels, is missing or cannot be used."""


class ImageFileError(ReIDError):
    """An image file cannot be read or decoded."""


class CheckpointError(ReIDError):
    """A weights or checkpoint file is missing, unsafe, damaged or made for something else."""


class ProtocolError(ReIDError):
    """An evaluation protocol is unknown or does not go with the labels at hand."""


class MemoryLimitError(ReIDError):
    """The work would need more memory than it may have; found before it starts."""


class NonFiniteLossError(ReIDError):
    """A loss term became NaN or infinite during training."""


class OutputError(ReIDError):
    """A result could not be written (disk full, no permission, path taken)."""


class VersionMismatchError(ReIDError):
    """The installed reid-core is not one that the method accepts."""
