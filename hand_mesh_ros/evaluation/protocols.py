"""The tables of papers: which figures, in which order and form, for which benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hand_mesh_ros.evaluation.published import PublishedRow

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Column:
    """A figure of `scores`, its heading and the form papers print it in."""

    figure: str
    heading: str
    form: str = "{:.1f}"
    lower_is_better: bool = True

    def text(self, value: float | None) -> str:
        return "-" if value is None or math.isnan(value) else self.form.format(value)


def _share(figure: str, heading: str) -> Column:
    return Column(figure, heading, "{:.3f}", lower_is_better=False)


def _percent(figure: str, heading: str) -> Column:
    return Column(figure, heading, "{:.1%}", lower_is_better=False)


_PA_J = Column("pa_mpjpe_mm", "PA-MPJPE mm")
_PA_V = Column("pa_mpvpe_mm", "PA-MPVPE mm")
_F = (_share("f5", "F@5"), _share("f15", "F@15"))
_PCK = tuple(
    _percent(f"pck_{which}_{t}", f"{which} @.{t}")
    for which in ("all", "visible", "occluded")
    for t in ("05", "10", "15")
)

TABLES: Final[Mapping[str, tuple[Column, ...]]] = {
    "freihand": (_PA_J, _PA_V, *_F),
    "ho3d": (_share("auc_j", "AUC_J"), _PA_J, _share("auc_v", "AUC_V"), _PA_V, *_F,
             Column("st_mpjpe_mm", "ST-MPJPE mm")),
    "dexycb": (Column("mpjpe_mm", "MPJPE mm", "{:.2f}"),
               Column("pa_mpjpe_mm", "PA-MPJPE mm", "{:.2f}"),
               Column("mpvpe_mm", "MPVPE mm", "{:.2f}"),
               Column("pa_mpvpe_mm", "PA-MPVPE mm", "{:.2f}")),
    "hint": _PCK,
    "hanco": (Column("n_mpjpe_mm", "N-MPJPE mm"), Column("pa_mpjpe_proper_mm", "PA proper mm"),
              Column("mpjpe_mm", "MPJPE mm"), Column("mpvpe_mm", "MPVPE mm"),
              Column("error_px", "2D px")),
    "full": (Column("camera_mpjpe_mm", "camera mm"), Column("mpjpe_mm", "MPJPE mm"), _PA_J,
             Column("pa_mpjpe_proper_mm", "PA proper mm"), Column("mpvpe_mm", "MPVPE mm"), _PA_V,
             _share("auc_j", "AUC_J"), *_F, _percent("pck_all_05", "PCK@.05"),
             Column("nees", "NEES/3", "{:.2f}"), _percent("coverage_95", "95 % covers")),
}  # fmt: skip
"""By name of a benchmark's table."""


def paper_table(
    title: str,
    table: str,
    ours: Mapping[str, Mapping[str, float]],
    published: tuple[PublishedRow, ...] = (),
) -> Table:
    """A table in the papers' shape: published rows, then ours by name; the best is bold.

    A column that no row has a figure for is left out. A published row whose figures are not from
    the paper itself is marked: `†` quoted by another, `?` not verified.
    """
    from rich.table import Table

    known = [row.figures for row in published] + list(ours.values())
    columns = [c for c in TABLES[table] if any(c.figure in row for row in known)]
    drawn = Table("method", *(c.heading for c in columns), title=title)
    for column in drawn.columns[1:]:
        column.justify = "right"
    best = {c.figure: _best(c, known) for c in columns}

    def cells(figures: Mapping[str, float]) -> list[str]:
        texts = [c.text(figures.get(c.figure)) for c in columns]
        top = [figures.get(c.figure) == best[c.figure] and len(known) > 1 for c in columns]
        return [f"[bold]{t}[/]" if b and t != "-" else t for t, b in zip(texts, top, strict=True)]

    for row in published:
        mark = {"secondary": " †", "unverified": " ?"}.get(row.sure, "")
        drawn.add_row(row.method + mark, *cells(row.figures), style="dim")
    if published:
        drawn.add_section()
    for name, figures in ours.items():
        drawn.add_row(name, *cells(figures))
    if any(row.sure in ("secondary", "unverified") for row in published):
        drawn.caption = "† quoted by another paper, ? not verified; citations are in the JSON"
    return drawn


def visibility_table(bins: Mapping[str, Mapping[str, float]]) -> Table:
    """Mean errors by how much of the hand is visible, of `scores.by_visibility`."""
    from rich.table import Table

    names = {"mpjpe_mm": "MPJPE mm", "pa_mpjpe_mm": "PA-MPJPE mm", "pa_mpvpe_mm": "PA-MPVPE mm",
             "nees": "NEES/3", "error_px": "2D px"}  # fmt: skip
    shown = [n for n in names if any(n in row for row in bins.values())]
    drawn = Table("visible", "samples", *(names[n] for n in shown), title="by visibility")
    for name, row in bins.items():
        values = (Column(n, n).text(row.get(n)) for n in shown)
        drawn.add_row(name, str(int(row["samples"])), *values)
    return drawn


def _best(column: Column, rows: list[Mapping[str, float]]) -> float | None:
    values = [row[column.figure] for row in rows if column.figure in row]
    values = [v for v in values if not math.isnan(v)]
    if not values:
        return None
    return min(values) if column.lower_is_better else max(values)
