"""The demo as a user runs it: real processes, real DDS, and the figures it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hand_mesh_ros.networks.assets import fetch_landmark_networks

pytestmark = pytest.mark.slow


def run_demo(out: Path, *options: str) -> dict[str, Any]:
    fetch_landmark_networks()
    command = [sys.executable, "-m", "hand_mesh_ros.cli", "demo", "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    for name in ("hands.mcap", "sheet.png"):
        assert (out / name).stat().st_size > 10_000
    return report


def check_promises(report: dict[str, Any]) -> None:
    """What holds for every run: stamps, topics, the TF tree, and that nothing died."""
    assert report["processes_died"] == []
    assert report["stamps_not_captured"] == {}
    assert report["topics_without_messages"] == []
    assert report["tf"]["roots"] == ["world"]
    assert report["tf"]["loops"] == report["tf"]["two_parents"] == []
    assert report["latency_ms"]["median"] > 0 and report["rate_hz"] > 0


def test_synthetic_cell(tmp_path: Path) -> None:
    report = run_demo(tmp_path / "demo", "--seconds", "3")
    check_promises(report)
    assert report["frame_sets"] == report["frame_sets_played"] == 45
    assert report["frame_sets_with_hand"] >= 0.9 * 45
    assert report["true_hands_found"] >= 0.9 * report["true_hands"]
    assert report["joint_error_mm"]["median"] <= 10
    assert report["wrong_side"] == 0


def test_four_cameras(tmp_path: Path, shared_data: Path) -> None:
    report = run_demo(tmp_path / "four", "--recording", str(shared_data / "four-cameras"))
    check_promises(report)
    assert report["frame_sets"] == 111
    assert report["hands_found"] >= 185
    assert report["hands_both"] >= 88
    assert report["reprojection_px"]["median"] <= 9
    assert report["wrist_to_middle_mcp_mm"]["min"] >= 78
    assert report["wrist_to_middle_mcp_mm"]["max"] <= 108


def test_two_cameras(tmp_path: Path, shared_data: Path) -> None:
    report = run_demo(tmp_path / "two", "--recording", str(shared_data / "two-cameras"))
    check_promises(report)
    assert report["frame_sets_with_hand"] >= 340
