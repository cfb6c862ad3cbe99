"""`hand-mesh calibrate-cell`: options that make no sense are refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hand_mesh_ros.cli_calibrate import calibrate_cell


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(calibrate_cell)
    return made


@pytest.mark.parametrize(
    "options, message",
    [
        (["--baseline", "front,left"], "name two cameras and metres"),
        (["--baseline", "front,left,far"], "name two cameras and metres"),
        (["--trusted", "front"], "name two cameras"),
        (["--refine", "focal,lens"], "choose of centre, distortion, focal"),
        (["--shape", "nobody.json"], "no hand shape at nobody.json"),
        ([], "no such file or folder"),
    ],
)
def test_bad_options(
    app: typer.Typer, tmp_path: Path, options: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere"), *options])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
