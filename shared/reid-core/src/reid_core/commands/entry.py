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

__all__ = ["Method"]

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

    def train(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run ``<method>-train``; ``argv`` defaults to the process's arguments."""
        args = _arguments(argv)

        def main() -> None:
            from reid_core.data.naming import name_dataset

            request = parse_train(
                f"{self.name}-train",
                self.combine_flags(args),
                config_type=self.config_type,
                presets=self.presets,
                datasets=self.datasets,
                find_dataset=partial(name_dataset, layout=self.datasets[0]),
                aliases=self.train_flags,
                description=f"Train {self.title}, evaluate it and leave weights, logs and "
                "report.html.",
            )
            train = resolve_name(self.recipe)
            self._log()
            train(
                request.config,
                preset=request.preset,
                command=shlex.join([f"{self.name}-train", *args]),
                resume=request.is_resumed,
            )

        run_command(f"{self.name}-train", main)

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
            from reid_core.commands.evaluate import evaluate_weights

            self._log()
            evaluate_weights(load, arguments, info, command=shlex.join([prog, *args]))

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
        from reid_core.engine.logging import configure_logging

        configure_logging(f"reid_{self.name}")


def _arguments(argv: Sequence[str] | None) -> list[str]:
    return sys.argv[1:] if argv is None else list(argv)
