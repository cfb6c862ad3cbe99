"""What papers publish, from `data/published.yaml`: rows by benchmark, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent / "data" / "published.yaml"


@dataclass(frozen=True)
class PublishedRow:
    """One method's figures, named and in units as in `scores`; ``sure`` says how well known."""

    method: str
    figures: Mapping[str, float]
    citation: str
    sure: str
    note: str = ""


def published_rows(benchmark: str) -> tuple[PublishedRow, ...]:
    """The rows of a benchmark, in the order of the file; none for one nobody published on."""
    content = _content()
    rows = []
    for row in content.get(benchmark, ()):
        figures = {k: float(v) for k, v in row.items() if isinstance(v, (int, float))}
        source, note = content["sources"][row["source"]], row.get("note", "")
        rows.append(PublishedRow(row["method"], figures, source, row["sure"], note))
    return tuple(rows)


def zero_predictor(benchmark: str) -> dict[str, float]:
    """What the official evaluation says of predictions that are all zero; empty if unknown."""
    return dict(_content()["zero_predictor"].get(benchmark, {}))


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load(_FILE.read_text())
    return content
