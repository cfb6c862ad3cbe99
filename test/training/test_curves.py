"""A run's history: means over epochs, and what its picture shows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.training.curves import _panels, draw_curves, read_history, write_history
from hand_mesh_ros.training.run import run


def test_a_run_leaves_a_line_an_epoch_and_a_picture(
    tiny: Callable[..., Any], tmp_path: Path
) -> None:
    report = run(tiny(), tmp_path / "run", quiet=True)
    history = read_history(tmp_path / "run")
    assert history["epoch"] == [1, 2, 3]
    assert history["step"] == [2, 4, 6]
    # the last epoch's validation is the run's, whose weights are the average's too
    for name, value in report["metrics"].items():
        assert history[name][-1] == pytest.approx(value, rel=1e-3)
    parts = [history[f"train_{name}"] for name in ("joints", "uv", "betas", "prior", "rotations")]
    assert np.sum(parts, axis=0) == pytest.approx(history["train_loss"], rel=1e-4)
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000


def test_what_a_line_does_not_have_is_unknown(tmp_path: Path) -> None:
    write_history([{"epoch": 1, "a": 0.5}, {"epoch": 2, "b": 1e-9}], tmp_path)
    history = read_history(tmp_path)
    assert history["epoch"] == [1, 2]
    np.testing.assert_equal(history["a"], [0.5, np.nan])
    np.testing.assert_equal(history["b"], [np.nan, 1e-9])


def test_training_and_validation_share_a_panel() -> None:
    columns = dict.fromkeys(
        ("epoch", "step", "train_loss", "val_loss", "val_pa_mpjpe", "train_uv", "val_iou"), [1.0]
    )
    panels = _panels(columns)
    assert list(panels) == ["loss", "pa_mpjpe", "iou", "parts of the training loss"]
    assert panels["loss"] == {"training": "train_loss", "validation": "val_loss"}
    assert panels["parts of the training loss"] == {"uv": "train_uv"}


@pytest.mark.parametrize("columns", [{"epoch": []}, {"epoch": [1.0], "val_loss": [-1.0]}])
def test_any_history_can_be_drawn(columns: dict[str, list[float]], tmp_path: Path) -> None:
    draw_curves(columns, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
