"""What an experiment about AMVUR came to: a claim, its rule, the verdict and the numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Row = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A claim, the rule by which it is accepted, whether it is, and the numbers by name.

    All rows have the same columns; NaN where a number has no meaning.
    """

    claim: str
    rule: str
    accepted: bool
    rows: dict[str, Row]

    @property
    def verdict(self) -> str:
        return "accepted" if self.accepted else "not accepted"

    @property
    def table(self) -> list[list[str]]:
        """Heading and rows, as they are shown."""
        columns = list(next(iter(self.rows.values())))
        body = [[name, *(_told(row[c]) for c in columns)] for name, row in self.rows.items()]
        return [["", *columns], *body]


def show(outcomes: Sequence[Outcome]) -> None:
    """Tables on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for outcome in outcomes:
        heading, *body = outcome.table
        table = Table(*heading, title=f"{outcome.claim}: {outcome.verdict} ({outcome.rule})")
        for row in body:
            table.add_row(*row)
        console.print(table)


def markdown(outcomes: Sequence[Outcome], note: str) -> str:
    """A page of tables; `note`: what they were made with."""
    lines = ["# AMVUR: what is claimed, and what was found", "", note, ""]
    for outcome in outcomes:
        (_, *columns), *body = outcome.table
        lines += [f"## {outcome.claim}", "", f"Rule: {outcome.rule}. **{outcome.verdict}**", ""]
        lines += [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(row)} |" for row in body]
        lines.append("")
    return "\n".join(lines)


def write_whole(path: Path, content: str) -> None:
    """Write a file at once: whoever reads beside it sees the old one or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(content)
    os.replace(scratch, path)


def standard_error(values: Array) -> Array:
    """Of the mean over the first axis; NaN of a single one."""
    if len(values) < 2:
        return np.full(np.shape(values)[1:], np.nan)
    return np.asarray(np.std(values, axis=0, ddof=1) / np.sqrt(len(values)))


def _told(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
