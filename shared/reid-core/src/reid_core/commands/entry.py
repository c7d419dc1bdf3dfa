"""The bodies of ``<method>-train``, ``-eval``, ``-embed`` and ``-export``. Imports no torch.

A method's ``cli.py`` names its settings and where its recipe and its loaders are; the order of
parsing, logging and work is here.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pkgutil import resolve_name
from typing import Generic, NoReturn, TypeVar

from reid_core.cli import FlagTable, parse, parse_train, rewrite_flags, run_command
from reid_core.commands.arguments import EmbedArguments, EvaluateArguments, ExportArguments

__all__ = ["Method", "run_training"]

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class Method(Generic[C]):
    """The four commands of a method.

    Attributes:
        name: As in the commands, e.g. ``aim``.
        title: As in papers, e.g. ``AIM``.
        config_type: Its configuration dataclass.
        presets: Preset name to a function from data set name to configuration.
        datasets: Accepted values of ``--dataset``; the first one is the default, also of
            ``--data synthetic``.
        train_flags: Flags of the official scripts that training still understands.
        evaluate_flags: Those that evaluation does.
        combine_flags: Replaces official flags that mean something together only; called before the
            others are looked up.
        recipe: Where ``recipe.train`` is, as ``package.module:name``; imported when it is needed,
            as are the others.
        loader: Where ``load_network`` is.
        info: Where the ``MethodInfo`` is, or a function from a weights file's card to it.
        official_export: Where the writer of the official layout is.
        complete: Where a function is that completes the arguments of an evaluation with the
            companions that belong to the data and were not named, if the method needs that.
    """

    name: str
    title: str
    config_type: type[C]
    presets: Mapping[str, Callable[[str], C]]
    datasets: Sequence[str]
    train_flags: FlagTable
    evaluate_flags: FlagTable = field(default_factory=dict)
    combine_flags: Callable[[Sequence[str]], Sequence[str]] = tuple
    recipe: str
    loader: str
    info: str
    official_export: str
    complete: str = ""

    def train(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run ``<method>-train``; ``argv`` defaults to the process's arguments."""
        run_training(
            f"{self.name}-train",
            argv,
            config_type=self.config_type,
            presets=self.presets,
            datasets=self.datasets,
            flags=self.train_flags,
            combine_flags=self.combine_flags,
            recipe=self.recipe,
            description=f"Train {self.title}, evaluate it and leave weights, logs and report.html.",
        )

    def evaluate(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run ``<method>-eval``."""
        prog, args = f"{self.name}-eval", _arguments(argv)
        description = (
            f"Evaluate {self.title} weights: one row per protocol, results.json, report.html."
        )

        def main() -> None:
            known = rewrite_flags(self.combine_flags(args), self.evaluate_flags)
            arguments = parse(prog, known, EvaluateArguments, None, description)
            if arguments.data == "synthetic" and not arguments.dataset:
                arguments = replace(arguments, dataset=self.datasets[0])
            load, info = resolve_name(self.loader), resolve_name(self.info)
            self._log()
            complete = resolve_name(self.complete) if self.complete else None
            from reid_core.commands.evaluate import evaluate_weights

            command = shlex.join([prog, *args])
            evaluate_weights(load, arguments, info, command=command, complete=complete)

        run_command(prog, main)

    def embed(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run ``<method>-embed``."""
        prog, args = f"{self.name}-embed", _arguments(argv)
        description = f"Turn images into {self.title} features (N, D), float32, length 1."

        def main() -> None:
            arguments = parse(prog, args, EmbedArguments, None, description)
            load = resolve_name(self.loader)
            from reid_core.commands.embed import run_embed

            self._log()
            run_embed(load(arguments.weights), arguments)

        run_command(prog, main)

    def export(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run ``<method>-export``."""
        prog, args = f"{self.name}-export", _arguments(argv)
        description = f"Write {self.title}'s test-time network as ONNX or torch.export, checked."

        def main() -> None:
            known = rewrite_flags(args, {"--no-flip!": lambda _: ["--flip", "none"]})
            arguments = parse(prog, known, ExportArguments, None, description)
            load = resolve_name(self.loader)
            export_official = resolve_name(self.official_export)
            from reid_core.commands.console import say
            from reid_core.commands.export import run_export

            self._log()
            if arguments.format == "official":
                say(f"wrote {export_official(arguments)}")
            else:
                run_export(load(arguments.weights), arguments)

        run_command(prog, main)

    def _log(self) -> None:
        _configure_logging(self.loader)


def run_training(
    prog: str,
    argv: Sequence[str] | None,
    *,
    config_type: type[C],
    presets: Mapping[str, Callable[[str], C]],
    datasets: Sequence[str],
    flags: FlagTable,
    recipe: str,
    description: str,
    combine_flags: Callable[[Sequence[str]], Sequence[str]] = tuple,
) -> NoReturn:
    """Run a command that trains; for methods that have another one beside ``<method>-train``.

    Args:
        prog: Name of the command.
        argv: Its arguments; default: the process's.
        config_type: As in ``Method``, as are ``presets``, ``datasets`` and ``combine_flags``.
        presets: Preset name to a function from data set name to configuration.
        datasets: Accepted values of ``--dataset``.
        flags: Flags of the official scripts that are still understood.
        recipe: Where the function that trains is, as ``package.module:name``.
        description: First lines of the help text.
        combine_flags: Replaces official flags that mean something together only.
    """
    args = _arguments(argv)

    def main() -> None:
        from reid_core.data.naming import name_dataset

        request = parse_train(
            prog,
            combine_flags(args),
            config_type=config_type,
            presets=presets,
            datasets=datasets,
            find_dataset=partial(name_dataset, layout=datasets[0]),
            aliases=flags,
            description=description,
        )
        train = resolve_name(recipe)
        _configure_logging(recipe)
        train(
            request.config,
            preset=request.preset,
            command=shlex.join([prog, *args]),
            resume=request.is_resumed,
        )

    run_command(prog, main)


def _configure_logging(place: str) -> None:
    """Show what the package of ``package.module:name`` logs."""
    from reid_core.engine.logging import configure_logging

    configure_logging(place.partition(".")[0])


def _arguments(argv: Sequence[str] | None) -> list[str]:
    return sys.argv[1:] if argv is None else list(argv)
