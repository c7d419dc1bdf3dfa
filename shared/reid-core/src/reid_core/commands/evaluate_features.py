"""``reid-eval``: features made anywhere, under named protocols."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_core.commands.console import say
from reid_core.commands.feature_evaluator import Chosen, evaluate_chosen
from reid_core.commands.feature_results import publish_features
from reid_core.commands.ranking_budget import open_plan
from reid_core.commands.results import describe_device
from reid_core.commands.results_folder import results_folder
from reid_core.engine.device import choose_device
from reid_core.engine.distributed import World, main_first, process_group, read_world
from reid_core.engine.logging import configure_logging
from reid_core.errors import ConfigError, ProtocolError
from reid_core.evaluation.cli import FeatureArguments
from reid_core.evaluation.protocols.applicability import applicable
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.lookup import get_protocol, protocols_for
from reid_core.evaluation.protocols.permutations import Permutations
from reid_core.evaluation.tables.feature_files import read_feature_files
from reid_core.evaluation.tables.feature_matrix import write_unit_copy
from reid_core.evaluation.tables.feature_readers import stored_bytes
from reid_core.evaluation.tables.feature_splits import FeatureFiles
from reid_core.evaluation.tables.feature_table import FeatureTable

__all__ = ["evaluate_features"]

logger = logging.getLogger(__name__)

_WORK = "evaluation"


def evaluate_features(arguments: FeatureArguments, *, command: str) -> None:
    """Do what ``reid-eval`` was asked for: evaluate, write the results, print the table.

    Under ``torchrun`` every process maps or reads the files and ranks a part of each gallery; the
    first one writes.

    Args:
        arguments: The arguments of the command.
        command: Command line, for the report.

    Raises:
        ReIDError: Files, labels or protocols cannot be used, or results cannot be written.
    """
    begin = time.monotonic()
    configure_logging()
    world = read_world()
    device = choose_device(
        arguments.device, local_rank=world.local_rank, world_size=world.world_size
    )
    paths = [Path(name) for name in arguments.features]
    permutations = None
    if arguments.permutation is not None:
        permutations = Permutations.read(arguments.permutation)
    with process_group(world, device):
        plan = open_plan(_WORK, arguments.memory_limit, device, world)
        for path in paths:
            plan.add(f"{path}, read as a whole", stored_bytes(path), remedy="a .npy file instead")
        plan.require(_WORK)
        tables = read_feature_files(paths, arguments.labels)
        if arguments.normalize_into is not None:
            tables = _unit_copies(tables, arguments.normalize_into, world)
        if arguments.images is not None:
            tables = [replace(table, root=arguments.images) for table in tables]
        files = FeatureFiles(tables, camid_base=arguments.camid_base)
        for note in files.notes:
            logger.info("%s", note)
        chosen = _choose(files, arguments)
        # A folder that is taken is found now, not after the work.
        name = f"reid-eval-{paths[0].stem}"
        with results_folder(arguments.out, name, world) as folder:
            evaluated, notes = evaluate_chosen(
                chosen, arguments, permutations=permutations, device=device, world=world
            )
            if folder is None:
                return
            shape = " x ".join(map(str, files.tables[0].features.shape[1:]))
            notes = [*files.notes, *notes]
            facts = {
                "features": ", ".join(dict.fromkeys(table.source.name for table in files.tables)),
                "images": f"{files.num_images:,}, {shape} numbers each",
                "metric": arguments.metric,
                "device": describe_device(device),
                "duration": f"{time.monotonic() - begin:.0f} s",
                **{f"note {number}": note for number, note in enumerate(notes, 1)},
            }
            publish_features(
                folder, files, evaluated, arguments, notes=notes, facts=facts, command=command
            )


def _choose(files: FeatureFiles, arguments: FeatureArguments) -> list[Chosen]:
    """Choose what to evaluate.

    A protocol that is asked for by its own name has to be possible. Of those of a data set, and
    where nothing is asked for, the possible ones are taken; the others are named with the reason.

    Raises:
        ProtocolError: A name is unknown, a protocol asked for cannot be used, or none can be.
    """
    chosen: dict[str, Chosen] = {}
    problems: dict[str, str] = {}
    for name in arguments.protocols or ("custom",):
        is_dataset = "/" not in name
        protocols = protocols_for(name) if is_dataset else (get_protocol(name),)
        for protocol in protocols:
            if is_dataset and not protocol.default:
                continue
            try:
                chosen[protocol.name] = _open(files, protocol, arguments)
            except ProtocolError as error:
                if not is_dataset:
                    raise
                problems[protocol.name] = str(error)
    if not chosen:
        raise ProtocolError(_join(problems))
    if problems:
        logger.warning("%s", _join(problems))
    if arguments.permutation is not None and not any(
        item.protocol.needs_permutations for item in chosen.values()
    ):
        logger.warning("--permutation has no effect: it is for the protocols sysu/..._official")
    return list(chosen.values())


def _join(problems: Mapping[str, str]) -> str:
    """Return a line per reason why protocols cannot be used; the first stands for the others."""
    names: dict[str, list[str]] = {}
    for name, problem in problems.items():
        names.setdefault(problem.replace(name, ""), []).append(name)
    return "\n".join(
        problems[first] + (f" The same holds for {', '.join(others)}." if others else "")
        for first, *others in names.values()
    )


def _open(files: FeatureFiles, protocol: Protocol, arguments: FeatureArguments) -> Chosen:
    """Take the splits of a protocol from the files, and say what is to be known of them.

    Raises:
        ProtocolError: They do not allow it.
    """
    if arguments.trials is not None:
        if protocol.trials == 1:
            raise ProtocolError(f"{protocol.name} has no trials; leave --trials out")
        protocol = replace(protocol, trials=arguments.trials)
    if protocol.needs_permutations and arguments.permutation is None:
        raise ProtocolError(
            f"{protocol.name} draws its gallery by a table of the data set's authors; name it with "
            "--permutation exp/rand_perm_cam.mat"
        )
    files.check_cameras(protocol)
    splits = files.splits_of(protocol)
    goes_by_files = (
        protocol.query_draw != "all"
        or protocol.gallery_draw != "all"
        or protocol.cameras == "positions"
    )
    labels = {name: rows.labels(with_paths=goes_by_files) for name, rows in splits.items()}
    found = applicable(protocol, labels, present=files.names_present())
    if found.problem:
        raise ProtocolError(found.problem)
    if goes_by_files and any(not own.paths for own in labels.values()):
        logger.warning(
            "%s goes by the sorted paths of the images; there are none, so it goes by the rows",
            protocol.name,
        )
    for note in found.notes:
        logger.info("%s", note)
    if found.warning:
        logger.warning("%s", found.warning)
    return Chosen(protocol=protocol, splits=splits, labels=labels)


def _unit_copies(tables: Sequence[FeatureTable], folder: Path, world: World) -> list[FeatureTable]:
    """Replace the mapped files by copies with rows of length 1, which the first process writes.

    Raises:
        ConfigError: No file is mapped.
        OutputError: A copy exists, or cannot be written.
    """
    if not any(table.is_mapped for table in tables):
        raise ConfigError(
            "--normalize-into is for .npy files, which are mapped; others are scaled in memory"
        )
    copies = []
    for table in tables:
        if table.is_mapped:
            path = folder / table.source.name
            with main_first(world):
                if world.is_main:
                    write_unit_copy(table, path)
                    say(f"wrote {path}")
                table = replace(table, source=path, features=np.load(path, mmap_mode="r"))
        copies.append(table)
    return copies
