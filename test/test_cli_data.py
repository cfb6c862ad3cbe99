"""`hand-mesh data`: what it writes and what it says of wrong names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hand_mesh_ros.cli_data import data_app
from hand_mesh_ros.evaluation import renders_v1


def test_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("warp", reason="warp-lang is missing")
    few = renders_v1.entries("validation")[:2]
    monkeypatch.setattr(renders_v1, "entries", lambda split, parts=(): few)
    arguments = ["renders-v1", "--out", str(tmp_path), "--split", "validation"]
    result = CliRunner().invoke(data_app, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "validation.npz").is_file()
    for entry in few:
        for suffix in (".png", ".mask.png", ".depth.png"):
            assert (tmp_path / f"{entry.name}{suffix}").is_file()


def test_a_wrong_split_is_named(tmp_path: Path) -> None:
    arguments = ["renders-v1", "--out", str(tmp_path), "--split", "dev"]
    result = CliRunner().invoke(data_app, arguments)
    assert result.exit_code == 1
    assert "train, validation, test" in result.output and "'dev'" in result.output
