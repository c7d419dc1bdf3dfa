"""The table by which the authors of SYSU-MM01 draw galleries. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from reid_core.errors import ProtocolError
from reid_core.evaluation.rules import Indices

__all__ = ["Permutations"]

_VARIABLE = "rand_perm_cam"


@dataclass(frozen=True, eq=False)
class Permutations:
    """``exp/rand_perm_cam.mat`` of SYSU-MM01: ten random orders of the images of every folder.

    The variable ``rand_perm_cam`` is a cell per camera, in it a cell per identity, in it a matrix
    with one row per trial: a permutation of the image numbers 1..n. A gallery of trial t takes the
    first entries of row t. Number i is the i-th of the folder's sorted files.

    Attributes:
        source: The file, for messages.
        cells: (camera from 0, identity) to (trials, n) int64 numbers from 1.
    """

    source: Path
    cells: Mapping[tuple[int, int], Indices]

    @classmethod
    def read(cls, path: str | Path) -> Permutations:
        """Read the file.

        Raises:
            ProtocolError: It is not there, no MATLAB file, or holds something else.
        """
        # Imported here because it takes as long as all the rest of a command's start.
        from scipy.io import loadmat

        path = Path(path).expanduser()
        hint = f"the file exp/rand_perm_cam.mat of SYSU-MM01 is wanted, not {path}"
        try:
            with path.open("rb") as file:
                content = loadmat(cast(Any, file), variable_names=[_VARIABLE])
        except OSError as error:
            raise ProtocolError(f"cannot read {path}: {error.strerror or error}") from error
        # Whatever damaged bytes lead to: a decompressor's error, a type that does not exist, ...
        except Exception as error:
            raise ProtocolError(f"{hint}: it is no MATLAB file ({error})") from error
        if _VARIABLE not in content:
            raise ProtocolError(f"{hint}: it holds no variable {_VARIABLE!r}")
        cells: dict[tuple[int, int], Indices] = {}
        for camid, people in enumerate(_cells_of(content[_VARIABLE], hint)):
            for index, entry in enumerate(_cells_of(people, hint)):
                if np.size(entry):
                    cells[camid, index + 1] = _checked(
                        entry, f"camera {camid + 1}", index + 1, hint
                    )
        return cls(path, cells)

    def choose(self, *, camid: int, pid: int, num_files: int, trial: int, shots: int) -> Indices:
        """Return the files of one folder that a trial's gallery takes.

        Args:
            camid: Camera, from 0.
            pid: Identity, the number of the folder.
            num_files: Images in the folder.
            trial: Number of the trial, from 0.
            shots: Images to take; all where there are fewer.

        Returns:
            Positions in the sorted list of the folder's files, from 0.

        Raises:
            ProtocolError: The table has no such folder or trial, or another number of images.
        """
        folder = f"cam{camid + 1}/{pid:04d}"
        if (camid, pid) not in self.cells:
            raise ProtocolError(
                f"{self.source} does not list {folder}, of which there are {num_files} images; "
                "these are not the images of SYSU-MM01 that the table was made for"
            )
        orders = self.cells[camid, pid]
        if orders.shape[1] != num_files:
            raise ProtocolError(
                f"{self.source} lists {orders.shape[1]} images of {folder}, but there are "
                f"{num_files}; extract the data set again"
            )
        if trial >= len(orders):
            raise ProtocolError(
                f"{self.source} holds {len(orders)} trials of {folder}; trial {trial + 1} is wanted"
            )
        return orders[trial, :shots] - 1


def _cells_of(value: Any, hint: str) -> list[Any]:
    cells = np.asarray(value)
    if cells.dtype != object:
        raise ProtocolError(
            f"{hint}: {_VARIABLE} must be a cell per camera, in it a cell per identity, not "
            f"{cells.dtype} of shape {cells.shape}"
        )
    return list(cells.ravel())


def _checked(entry: npt.NDArray[Any], camera: str, pid: int, hint: str) -> Indices:
    matrix = np.atleast_2d(entry)
    numbers = np.arange(1, matrix.shape[-1] + 1)
    if matrix.ndim != 2 or not (np.sort(matrix, axis=1) == numbers).all():
        raise ProtocolError(
            f"{hint}: the entry of {camera}, identity {pid} is no list of permutations of "
            f"1..{matrix.shape[-1]}"
        )
    return matrix.astype(np.int64)
