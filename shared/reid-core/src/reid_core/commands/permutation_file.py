"""Where the galleries of ``sysu/..._official`` come from: a file of the data set's authors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from reid_core.data.sample import ReIDDataset
from reid_core.errors import ProtocolError
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.permutations import Permutations

__all__ = ["open_permutations"]

logger = logging.getLogger(__name__)

_PLACE = Path("exp") / "rand_perm_cam.mat"


def open_permutations(
    protocols: Sequence[Protocol], dataset: ReIDDataset, path: Path | None = None
) -> Permutations | None:
    """Read the authors' table of gallery permutations where some protocol draws by it.

    Args:
        protocols: What will be evaluated.
        dataset: The data set; its own folder usually holds the file.
        path: A file that is to be used instead.

    Returns:
        The table; None where no protocol needs it.

    Raises:
        ProtocolError: It is needed and not there, or cannot be read.
    """
    wanting = [protocol.name for protocol in protocols if protocol.needs_permutations]
    if not wanting:
        if path is not None:
            logger.warning(
                "--permutation has no effect: it is for the protocols sysu/..._official, which are "
                "evaluated when they are named with --protocol"
            )
        return None
    found = path or dataset.root / _PLACE
    if path is None and not found.exists():
        raise ProtocolError(
            f"{wanting[0]} draws its gallery by a table of the data set's authors, and {found} is "
            "not there; get it from the authors' archive, or name it with --permutation FILE"
        )
    return Permutations.read(found)
