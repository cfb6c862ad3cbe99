"""Offsets in words, as a picture and as parameters."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from hand_mesh_ros.evaluation.time_report import draw_cost, offset_table, parameter_text
from hand_mesh_ros.perception.time_offsets import CameraOffset, TimeOffsets

NAN = float("nan")
FOUND = TimeOffsets(
    reference="left",
    cameras=(
        CameraOffset("left", 0.0, 0.0, "reference", 0.0, 90),
        CameraOffset("right", -0.0215, 0.0012, "ok", 0.03, 88),
        CameraOffset("top", NAN, NAN, "too little motion (80 % of it is noise)", 0.8, 12),
    ),
    residual=0.9,
    residual_before=1.4,
    speed=0.21,
    grid=np.linspace(-0.1, 0.1, 5),
    cost=np.array([[NAN] * 5, [40.0, 10, 0, 10, 40], [NAN] * 5]),
)


def test_the_parameters_are_those_of_the_node() -> None:
    text = parameter_text(FOUND, "a cell")
    cameras = yaml.safe_load(text)["/**"]["ros__parameters"]["camera"]
    assert cameras == {"left": {"time_offset": 0.0}, "right": {"time_offset": -0.0215}}
    assert "# top: too little motion" in text


def test_the_table_says_what_there_is_and_what_there_is_not() -> None:
    console = Console(width=160, record=True, file=StringIO())
    console.print(offset_table(FOUND))
    lines = console.export_text().splitlines()
    (right,) = (line for line in lines if "right" in line)
    (top,) = (line for line in lines if "top" in line)
    assert "-21.5" in right and "1.2" in right and "ok" in right
    assert "nan" not in top and "too little motion" in top


def test_the_picture_has_a_curve_for_what_is_known(tmp_path: Path) -> None:
    import cv2

    draw_cost(FOUND, tmp_path / "cost.png")
    picture = cv2.imread(str(tmp_path / "cost.png"))
    assert picture is not None
    # Matplotlib's first colour, blue.
    blue = (np.abs(picture.astype(int) - [180, 119, 31]).max(-1) < 40).sum()
    assert blue > 200
