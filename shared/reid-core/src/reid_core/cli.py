"""The command line that all methods share: presets, short flags, overrides and errors.

A method's ``cli.py`` names its configuration, its presets and the official flags it still accepts;
parsing, help and error handling are here. Imports no torch, so that ``--help`` is instant.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from reid_core.config import load_config
from reid_core.data.naming import is_synthetic
from reid_core.errors import ConfigError, ReIDError

__all__ = [
    "FlagTable",
    "TrainRequest",
    "fail",
    "parse",
    "parse_train",
    "rewrite_flags",
    "run_command",
]

C = TypeVar("C")

FlagTable = Mapping[str, "str | Callable[[str], Sequence[str]]"]
"""Flag to the flag that replaces it, or to a function from its value to new arguments. A key that
ends in ``!`` takes no value (its function gets an empty text)."""

SHORT_FLAGS: FlagTable = {
    "--data": "--data.root",
    "--out": "--run.out",
    "--seed": "--run.seed",
    "--device": "--run.device",
    "--memory-limit": "--run.memory-limit",
}


def run_command(prog: str, main: Callable[[], None]) -> NoReturn:
    """Run ``main`` and leave the process with an exit status.

    A ``ReIDError`` becomes one message on standard error and status 2; Ctrl-C becomes status 130; a
    full disk or a missing permission that nobody translated becomes a message too.
    """
    # Read when PyTorch is imported, which happens in main. Threads that wait for each other spin by
    # default; on cores that are shared with anything else that makes training 2-20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be printable in the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
    except ReIDError as error:
        fail(prog, str(error))
    except KeyboardInterrupt:
        advice = "; continue with --resume and the run folder" if prog.endswith("-train") else ""
        sys.stderr.write(f"\n{prog}: interrupted{advice}\n")
        _leave(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        fail(prog, f"{error.filename or 'a file'}: {error.strerror}")
    sys.stdout.flush()
    _leave(0)


def fail(prog: str, message: str) -> NoReturn:
    """Print one error message and leave with status 2."""
    sys.stdout.flush()
    sys.stderr.write(f"{prog}: error: {message}\n")
    sys.stderr.flush()
    _leave(2)


def _leave(status: int) -> NoReturn:
    raise SystemExit(status)


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Generic[C]):
    """What a training command was asked for.

    Attributes:
        config: The configuration, overrides applied.
        preset: Name of the preset it started from; ``config`` or ``resume`` where it came from a
            file.
        is_resumed: Whether the run in ``config.run.out`` is to be continued.
    """

    config: C
    preset: str
    is_resumed: bool


def parse_train(
    prog: str,
    argv: Sequence[str],
    *,
    config_type: type[C],
    presets: Mapping[str, Callable[[str], C]],
    datasets: Sequence[str],
    find_dataset: Callable[[str], str],
    aliases: FlagTable,
    description: str,
) -> TrainRequest[C]:
    """Parse the arguments of ``<method>-train``.

    Args:
        prog: Name of the command.
        argv: Arguments without the command's name.
        config_type: The method's configuration dataclass.
        presets: Preset name to a function from data set name to configuration; ``paper`` and
            ``demo`` at least.
        datasets: Accepted values of ``--dataset``.
        find_dataset: From the value of ``--data`` to the data set's name, asked when
            ``--dataset`` is not given.
        aliases: Flags of the official scripts that are still understood.
        description: First lines of the help text.

    Returns:
        The request. ``--help``, unknown flags and bad values leave the process as argparse does.
    """
    args = rewrite_flags(argv, {**SHORT_FLAGS, **aliases})
    chosen = {name: _take(args, f"--{name}") for name in ("dataset", "preset", "config", "resume")}
    wants_help = any(arg in ("-h", "--help") for arg in args)
    root = _peek(args, "--data.root")
    if chosen["preset"] and (chosen["config"] or _is_run(chosen["resume"])):
        other = "--config" if chosen["config"] else "--resume"
        raise ConfigError(f"{other} and --preset exclude each other; give one of them")
    source = chosen["config"] or (chosen["resume"] if _is_run(chosen["resume"]) else None)
    if chosen["resume"] is not None and not Path(chosen["resume"]).exists():
        raise ConfigError(
            f"--resume {chosen['resume']}: there is no such run folder (or checkpoint file)"
        )
    dataset = chosen["dataset"]
    if dataset is not None and dataset not in datasets:
        raise ConfigError(f"--dataset {dataset!r} is unknown; choose from {', '.join(datasets)}")
    if source is not None and not wants_help:
        preset = "resume" if chosen["config"] is None else "config"
        default = load_config(config_type, Path(source))
    else:
        preset = chosen["preset"] or ("demo" if is_synthetic(root or "") else "paper")
        if preset not in presets:
            raise ConfigError(f"--preset {preset!r} is unknown; choose from {', '.join(presets)}")
        if dataset is None:
            dataset = _dataset_of(preset, datasets)
        if not dataset:
            dataset = datasets[0] if wants_help or root is None else find_dataset(root)
        default = presets[preset](dataset)
    if dataset and source is not None:
        args += ["--data.dataset", dataset]
    is_resumed = _is_run(chosen["resume"])
    if chosen["resume"] is not None:
        args += ["--run.out" if is_resumed else "--start-from", chosen["resume"]]
    config = parse(prog, args, config_type, default, _train_help(description, presets, datasets))
    return TrainRequest(config=config, preset=preset, is_resumed=is_resumed)


def parse(prog: str, args: Sequence[str], kind: type[C], default: C | None, description: str) -> C:
    """Parse ``args`` into the dataclass ``kind``; field docstrings are the help text."""
    import tyro

    return tyro.cli(
        kind,
        prog=prog,
        args=list(args),
        default=default if default is not None else tyro.MISSING_NONPROP,
        description=description,
    )


def rewrite_flags(argv: Sequence[str], table: FlagTable) -> list[str]:
    """Replace short and official flags by the ones of the configuration.

    ``--flag value`` and ``--flag=value`` are understood.

    Raises:
        ConfigError: When a flag of the table lacks its value.
    """
    args: list[str] = []
    rest = list(argv)
    while rest:
        arg = rest.pop(0)
        flag, equals, value = arg.partition("=")
        if f"{flag}!" in table:
            change = table[f"{flag}!"]
            args += [change] if isinstance(change, str) else change("")
            continue
        if flag not in table:
            args.append(arg)
            continue
        if not equals:
            if not rest:
                raise ConfigError(f"{flag} needs a value")
            value = rest.pop(0)
        change = table[flag]
        args += [change, value] if isinstance(change, str) else change(value)
    return args


def _take(args: list[str], flag: str) -> str | None:
    """Remove ``flag`` and its value from ``args``; the last one given counts."""
    found = None
    position = 0
    while position < len(args):
        name, equals, value = args[position].partition("=")
        if name != flag:
            position += 1
            continue
        if equals:
            found = value
            del args[position]
        elif position + 1 < len(args):
            found = args[position + 1]
            del args[position : position + 2]
        else:
            raise ConfigError(f"{flag} needs a value")
    return found


def _peek(args: Sequence[str], flag: str) -> str | None:
    return _take(list(args), flag)


def _dataset_of(preset: str, datasets: Sequence[str]) -> str:
    """Return the data set that a preset is named after, ``ltcc`` or ``ltcc-...``; "" for none."""
    own = preset.replace("-", "_")  # as ``celeb-light``, which no option of ``celeb`` is
    if own in datasets:
        return own
    return next((name for name in datasets if preset.startswith(f"{name}-")), "")


def _is_run(resume: str | None) -> bool:
    """Tell whether ``--resume`` names a run folder; otherwise it names an official checkpoint."""
    return resume is not None and not Path(resume).is_file()


def _train_help(description: str, presets: Mapping[str, Any], datasets: Sequence[str]) -> str:
    return "\n".join(
        [
            description,
            "",
            "Where to start (then any option below overrides a field):",
            "  --data ROOT      the data set's folder or its parent; `synthetic[:NAME]` makes one",
            f"  --dataset NAME   {', '.join(datasets)}; found from ROOT if left out",
            f"  --preset NAME    {', '.join(presets)}; default: paper (demo for synthetic data)",
            "  --config FILE    start from the config.json of an earlier run",
            "  --out DIR        run folder;  --seed N;  --device cpu|cuda|cuda:1|mps",
            "  --memory-limit SIZE   refuse at once what would need more memory, e.g. 8GB",
            "  --resume DIR     continue a run that was stopped, exactly where it was",
        ]
    )
