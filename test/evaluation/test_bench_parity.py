"""`hand-mesh bench parity`: what it compares, and that it notices a difference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hand_mesh_ros.cli import app
from hand_mesh_ros.evaluation.parity_outputs import Compared, hamer_outputs


def test_parity_is_written_and_noticed_when_lost(shared_data: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["bench", "parity", "--out", str(tmp_path / "out"), "--fixtures"]
    done = runner.invoke(app, [*arguments, str(shared_data / "parity")])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert set(figures) == {"hamer_max_rel", "wilor_max_rel"}
    assert all(0 < value < 1e-5 for value in figures.values())
    for name in ("backbone_feat", "pp.crops", "loss_total", "inrange.refine_feat", "grad.mano_"):
        assert name in done.output

    for source in (shared_data / "parity").iterdir():
        (tmp_path / source.name).symlink_to(source)
    path = tmp_path / "hamer_tiny_io.npz"
    arrays = dict(np.load(path))
    path.unlink()
    arrays["pp.cam_t_full"][1, 2] += 0.01
    np.savez(path, **arrays)
    done = runner.invoke(app, [*arguments, str(tmp_path)])
    assert done.exit_code == 1 and "hamer differs by more than 0.0001" in done.output


def test_an_output_without_one_of_ours_is_told(shared_data: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(shared_data / "parity" / "hamer_tiny_io.npz"))
    np.savez(tmp_path / "hamer_tiny_io.npz", **arrays, pred_texture=np.zeros(3))
    (tmp_path / "hamer_tiny.pt").symlink_to(shared_data / "parity" / "hamer_tiny.pt")
    with pytest.raises(ValueError, match="without one of ours: pred_texture"):
        hamer_outputs(tmp_path)


def test_absent_fixtures_are_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "parity", "--fixtures", str(tmp_path)])
    assert done.exit_code == 1 and "hamer_tiny_io.npz" in done.output


def test_differences_are_of_the_largest_number() -> None:
    row = Compared("a", np.array([1.0, 4.5], np.float32), np.array([1.0, 5.0]))
    assert row.max_abs == 0.5 and row.max_rel == 0.1
    assert Compared("a", np.array([1.0, np.nan]), np.array([1.0, 5.0])).max_rel == float("inf")
