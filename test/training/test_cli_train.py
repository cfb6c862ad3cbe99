"""The command, as it is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from hand_mesh_ros import cli_train

Tiny = Callable[..., Any]


def _typed(*words: str) -> Result:
    app = typer.Typer()
    app.command("train")(cli_train.train)
    app.command("shards")(cli_train.shards)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_recipes_are_listed() -> None:
    result = _typed("train", "--list")
    assert result.exit_code == 0
    assert "landmark-trunk-mano" in result.stdout


def test_a_smoke_run_and_its_resumption(tiny: Tiny, tmp_path: Path) -> None:
    tiny()  # writes the recipe
    words = ["train", str(tmp_path / "tiny.yaml"), "--smoke", "--out", str(tmp_path / "run")]
    words += ["--set", "trainer.log=csv"]
    result = _typed(*words)
    assert result.exit_code == 0, result.output
    assert "2 epochs in" in result.stdout and "val_pa_mpjpe" in result.stdout
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    result = _typed(*words)
    assert result.exit_code == 1 and "go on with it by --resume" in result.output
    assert _typed(*words, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no recipe 'nothing'"),
        (["frozen-trunk-mano", "--set", "optimiser.rate=slow"], "optimiser.rate must be float"),
        (["frozen-trunk-mano", "--set", "data.train.source=sun"], "unknown source 'sun'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(words: list[str], message: str) -> None:
    result = _typed("train", *words, "--smoke")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_shards_are_written(tiny: Tiny, tmp_path: Path) -> None:
    tiny()
    out = tmp_path / "shards"
    result = _typed(
        "shards", str(tmp_path / "tiny.yaml"), "--out", str(out), "--count", "3", "--per-shard", "2"
    )
    assert result.exit_code == 0, result.output
    assert len(list(out.glob("*.tar"))) == 2
