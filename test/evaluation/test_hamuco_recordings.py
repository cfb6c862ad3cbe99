"""Leave-one-view-out of HaMuCo on the part of a recording that was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hand_mesh_ros.evaluation import bench_hamuco, hamuco_recordings
from hand_mesh_ros.types import HandSet

SETS = 10


class _Recording:
    def __len__(self) -> int:
        return SETS

    def __iter__(self) -> Iterator[int]:
        return iter(range(SETS))


def test_only_the_part_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def process(number: int) -> HandSet:
        seen.append(number)
        return HandSet(number, 0.0, (), ())

    pipeline: Any = SimpleNamespace(process=process)
    monkeypatch.setattr(hamuco_recordings, "open_recording", lambda path: _Recording())
    monkeypatch.setattr(hamuco_recordings, "build_pipeline", lambda **_: (pipeline, {}))
    monkeypatch.setattr(hamuco_recordings, "create_backend", lambda *_: None)
    told: list[tuple[int, int]] = []

    def measured(**part: float) -> dict[str, float]:
        seen.clear()
        told.clear()
        return hamuco_recordings.left_out(Path("film"), lambda a, b, _: told.append((a, b)), **part)

    figures = measured()
    assert seen == list(range(SETS)) and told[-1] == (SETS, SETS)
    names = {f"loo_px_{name}" for name in ("landmarks", "hamuco", "triangulation")}
    assert set(figures) == {*names, "loo_hands"} and figures["loo_hands"] == 0
    assert all(np.isnan(figures[name]) for name in names)
    measured(begin=0.5)
    assert seen == [5, 6, 7, 8, 9] and told[-1] == (SETS, SETS)
    measured(begin=0.2, end=0.5)
    assert seen == [2, 3, 4] and told[-1] == (5, 5)
    with pytest.raises(ValueError, match="0 <= begin < end <= 1"):
        measured(begin=1.0)


@pytest.mark.parametrize(("more", "begin"), [((), 0.0), (("--held-out", "0.3"), 0.7)])
def test_the_command_holds_out_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], begin: float
) -> None:
    from hand_mesh_ros.cli import app

    asked: list[tuple[Path, float]] = []

    def left_out(path: Path, progress: object, weights: object, **part: float) -> dict[str, float]:
        asked.append((path, part["begin"]))
        return {"loo_px_hamuco": 9.5}

    monkeypatch.setattr(bench_hamuco, "measure", lambda *_: ({}, {}))
    monkeypatch.setattr(hamuco_recordings, "left_out", left_out)
    arguments = ["bench", "hamuco", "--recordings", "films", "--out", str(tmp_path), *more]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert asked == [(Path("films/four-cameras"), pytest.approx(begin))]
    assert "loo_px_hamuco" in (tmp_path / "hamuco.json").read_text()
