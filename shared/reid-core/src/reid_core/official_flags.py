"""What methods do with flags of the official scripts that are no fields here. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable

from reid_core.errors import ConfigError

__all__ = ["one_gpu", "refuse", "without_effect"]

logger = logging.getLogger(__name__)

Translation = Callable[[str], list[str]]


def one_gpu(flag: str, command: str) -> Translation:
    """Return the translation of a flag with device numbers; several are torchrun's business.

    Args:
        flag: The official flag, e.g. ``--gpu``.
        command: Our command, for the message.
    """

    def translate(value: str) -> list[str]:
        if "," in value:
            count = len(value.split(","))
            raise ConfigError(
                f"{flag} {value}: for several GPUs use CUDA_VISIBLE_DEVICES={value} torchrun "
                f"--no-python --nproc-per-node {count} {command} ... without {flag}"
            )
        return ["--run.device", f"cuda:{value}"]

    return translate


def refuse(message: str) -> list[str]:
    """Refuse a flag whose translation calls this.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(message)


def without_effect(flag: str, reason: str) -> Translation:
    """Return the translation of a flag that is accepted, warned about, and changes nothing.

    Args:
        flag: The official flag.
        reason: Why, for people.
    """

    def translate(value: str) -> list[str]:
        logger.warning("%s has no effect: %s", f"{flag} {value}".strip(), reason)
        return []

    return translate
