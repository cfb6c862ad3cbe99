"""`hand-mesh bench cell --backend`: what it refuses, and how its figures are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hand_mesh_ros.cli_workshop import bench_app
from hand_mesh_ros.ros.bench_throughput import beside_the_first


def test_figures_of_backends_beside_the_first() -> None:
    found = beside_the_first(
        {
            "landmarks": {"sets_per_s": 20.0, "latency_ms": 60.0},
            "sima-mvr": {"sets_per_s": 5.0, "latency_ms": 200.0},
        }
    )
    assert found == {
        "landmarks_cell_sets_per_s": 20.0,
        "landmarks_cell_latency_ms": 60.0,
        "sima_mvr_cell_sets_per_s": 5.0,
        "sima_mvr_cell_latency_ms": 200.0,
        "sima_mvr_cell_sets_of_landmarks": 0.25,
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--backend", "hamuko"], "there is no backend 'hamuko'"),
        (["sync", "--backend", "hamuco"], "of the part throughput"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    run = CliRunner().invoke(bench_app, ["cell", *arguments, "--out", str(tmp_path)])
    assert run.exit_code == 1
    assert reason in " ".join(run.output.split())
    assert not list(tmp_path.iterdir())
