"""The options of a method's four commands, for comparison with a promised list."""

from __future__ import annotations

import dataclasses

from reid_core.commands.arguments import EmbedArguments, EvaluateArguments, ExportArguments

__all__ = ["list_options"]


def list_options(method: str, config_type: type) -> list[str]:
    """Return a line per command and per option, in the order of the help texts.

    Args:
        method: Name of the method, e.g. ``aim``.
        config_type: Its configuration dataclass.
    """
    lines = [f"{method}-train", *_options(config_type)]
    kinds = {"eval": EvaluateArguments, "embed": EmbedArguments, "export": ExportArguments}
    for name, kind in kinds.items():
        lines += [f"{method}-{name}", *_options(kind)]
    return lines


def _options(kind: type, prefix: str = "") -> list[str]:
    found = []
    for item in dataclasses.fields(kind):
        name = f"{prefix}{item.name.replace('_', '-')}"
        make = item.default_factory
        default = None if make is dataclasses.MISSING else make()
        if dataclasses.is_dataclass(default):
            found += _options(type(default), f"{name}.")
        else:
            found.append(f"  --{name}")
    return found
