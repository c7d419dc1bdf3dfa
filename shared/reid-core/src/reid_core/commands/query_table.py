"""One line per query and trial, as a CSV table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.files import atomic_file

__all__ = ["query_table_name", "write_query_table"]


def query_table_name(result: ProtocolResult, variant: str = "") -> str:
    """Return the file name of a result's table, e.g. ``queries-ltcc-standard.csv``."""
    words = ["queries", *result.protocol.name.split("/"), *variant.split()]
    return f"{'-'.join(words)}.csv"


def write_query_table(
    path: Path,
    result: ProtocolResult,
    columns: Sequence[str],
    describe: Callable[[str, int], Sequence[object]],
) -> None:
    """Write one line per query and trial; what a query without a match lacks is left empty.

    Args:
        path: The file.
        result: The result.
        columns: Names of what describes a query, e.g. ``path`` and ``pid``.
        describe: From the query's split and its row there to the values of these columns.

    Raises:
        OutputError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    ranks = ("first_hit", "first_identity") if result.protocol.cmc == "identity" else ("first_hit",)
    table.writerow(("trial", *columns, "ap", "inp", *ranks, "num_positives", "num_junk"))
    for index, ranking in enumerate(result.trials):
        number = result.numbers[index]
        split = result.protocol.splits_of_trial(number)[0]
        for place, row in enumerate(result.query_rows(index).tolist()):
            values = (ranking.average_precision[place], ranking.inverse_negative_penalty[place])
            hits = [getattr(ranking, name)[place] for name in ranks]
            table.writerow(
                (
                    number + 1,
                    *describe(split, row),
                    *("" if math.isnan(value) else repr(float(value)) for value in values),
                    *("" if hit == 0 else hit for hit in hits),
                    ranking.num_positives[place],
                    ranking.num_junk[place],
                )
            )
    with atomic_file(path) as file:
        file.write(text.getvalue().encode("utf-8"))
