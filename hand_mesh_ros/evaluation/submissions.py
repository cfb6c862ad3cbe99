"""Files that the benchmarks' own servers and evaluation code take."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.records import Predictions, Truths
from hand_mesh_ros.hand.conventions import convert_points, from_openpose

Array = NDArray[np.float64]
_MANO_VERTICES = 778


class SubmissionError(Exception):
    """Predictions that a benchmark's file cannot hold; says what is missing."""


def write_freihand(predictions: Predictions, truths: Truths, folder: Path) -> list[Path]:
    """`pred.json` and `pred.zip`: [joints, vertices], metres, optical axes, OpenPose order.

    Hands not found are zeros. SubmissionError for meshes that are not MANO's 778 vertices.
    """
    joints, vertices = _complete(predictions, "FreiHAND")
    return _write_pair(joints, vertices, folder)


def write_ho3d(predictions: Predictions, truths: Truths, folder: Path) -> list[Path]:
    """The same in HO3D's order of joints and OpenGL's axes (y up, z backward: z < 0).

    SubmissionError also where no hand is before the camera, which HO3D's own code refuses.
    """
    joints, vertices = _complete(predictions, "HO3D")
    if not (joints[..., 2] > 0).any():
        raise SubmissionError(
            "HO3D takes hands before the camera only, and all of these are behind it or at it; "
            "predictions must be in camera space, not relative to the wrist"
        )
    joints = from_openpose(convert_points(joints, "opencv", "opengl"), "ho3d")
    return _write_pair(joints, convert_points(vertices, "opencv", "opengl"), folder)


def write_dexycb(predictions: Predictions, truths: Truths, folder: Path) -> list[Path]:
    """`results.txt` of DexYCB's hand pose task: image id, then 63 numbers in mm, by commas.

    The ids are the samples' names, which must be the toolkit's integers of the set-up's images.
    """
    for name in truths.names:
        if not name.isdecimal():
            raise SubmissionError(
                f"sample {name!r}: DexYCB's results file names images by their number in the set-up"
            )
    path = folder / "results.txt"
    joints = 1e3 * predictions.completed().joints.reshape(len(predictions), 63)
    with path.open("w") as file:
        for name, row in zip(truths.names, joints, strict=True):
            file.write(f"{int(name)}," + ",".join(f"{v:.4f}" for v in row) + "\n")
    return [path]


Writer = Callable[[Predictions, Truths, Path], list[Path]]
WRITERS: dict[str, Writer] = {
    "freihand": write_freihand,
    "ho3d": write_ho3d,
    "dexycb": write_dexycb,
}
"""By the name a benchmark gives: a function (predictions, truths, folder) -> files written."""


def _complete(predictions: Predictions, benchmark: str) -> tuple[Array, Array]:
    vertices = predictions.vertices
    if vertices is None or vertices.shape[1] != _MANO_VERTICES:
        has = "none" if vertices is None else f"one of {vertices.shape[1]} vertices"
        raise SubmissionError(
            f"{benchmark} wants a mesh of MANO's {_MANO_VERTICES} vertices, the backend gives "
            f"{has}; with MANO's own model (--hand-model MANO_RIGHT.pkl) it gives that"
        )
    full = predictions.completed()
    assert full.vertices is not None
    return full.joints, full.vertices


def _write_pair(joints: Array, vertices: Array, folder: Path) -> list[Path]:
    path, packed = folder / "pred.json", folder / "pred.zip"
    with path.open("w") as file:
        file.write("[")
        _write_points(file, joints)
        file.write(", ")
        _write_points(file, vertices)
        file.write("]")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    return [path, packed]


def _write_points(file: TextIO, points: Array) -> None:
    """Hand by hand, to the micrometre: tens of thousands of meshes at once fill the memory."""
    file.write("[")
    for i, hand in enumerate(points):
        file.write(", " * (i > 0) + json.dumps(np.round(hand, 6).tolist()))
    file.write("]")
