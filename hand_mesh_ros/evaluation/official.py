"""Benchmarks as the official evaluation code has them: truths and predictions as JSON files.

FreiHAND and HO3D publish `evaluation_xyz.json` and `evaluation_verts.json`, lists of N x 21 x 3
and N x 778 x 3 metres in the order of their lists of images; HO3D's in its own order of joints and
OpenGL's axes. A submission is `pred.json`, the list of both. Readers of whole data sets, with
images, replace these entries where they exist.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.benchmarks import Benchmark, BenchmarkError
from hand_mesh_ros.evaluation.records import Predictions, Truths
from hand_mesh_ros.hand.conventions import convert_points, to_openpose

Array = NDArray[np.float64]
_HO3D_V3 = 20_137


def freihand(root: Path) -> Benchmark:
    """FreiHAND's evaluation split (3,960 images), truths only."""
    joints, vertices = _truth_arrays(root)
    return Benchmark("freihand", _numbered(joints, vertices), (), "freihand", "freihand")


def ho3d(root: Path) -> Benchmark:
    """HO3D's evaluation split, truths only: v2 has 11,524 images, v3 20,137, told by the number."""
    joints, vertices = (from_ho3d(points) for points in _truth_arrays(root))
    name = "ho3d_v3" if len(joints) == _HO3D_V3 else "ho3d"
    return Benchmark(name, _numbered(joints, vertices), (), "ho3d", "ho3d")


def arrays(root: Path) -> Benchmark:
    """Anything else: `truths.npz` with arrays named as in `records.Truths`."""
    path = root / "truths.npz"
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    known = {each.name for each in fields(Truths)}
    if unknown := set(found) - known:
        raise BenchmarkError(f"{path}: unknown arrays {sorted(unknown)}; known: {sorted(known)}")
    if "joints" not in found:
        raise BenchmarkError(f"{path} has no array 'joints' (N, 21, 3)")
    names = found.pop("names", np.arange(len(found["joints"])))
    try:
        return Benchmark("arrays", Truths(tuple(map(str, names)), **found), (), "full")
    except ValueError as error:
        raise BenchmarkError(f"{path}: {error}") from error


def from_ho3d(points: Array) -> Array:
    """HO3D's joints (..., 21, 3) or vertices (..., V, 3) in this package's order and axes."""
    ordered = to_openpose(points, "ho3d") if points.shape[-2] == 21 else points
    return convert_points(ordered, "opengl", "opencv")


def read_predictions(path: Path, benchmark: Benchmark) -> Predictions:
    """Predictions that somebody saved: a benchmark's `pred.json`, or an npz named as `records`.

    `BenchmarkError` names the file where it is not one of these.
    """
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            known = [each.name for each in fields(Predictions)]
            found = {name: stored[name] for name in known if name in stored.files}
        if "joints" not in found:
            raise BenchmarkError(f"{path} has no array 'joints' (N, 21, 3)")
        return Predictions(**found)
    content = _json(path)
    if not isinstance(content, list) or len(content) != 2:
        raise BenchmarkError(f"{path} is not [joints, vertices], as a submission is")
    joints = _points(content[0], path, "joints", 21)
    vertices = _points(content[1], path, "vertices", None)
    if benchmark.submission == "ho3d":
        joints, vertices = from_ho3d(joints), from_ho3d(vertices)
    return Predictions(joints, vertices)


def _truth_arrays(root: Path) -> tuple[Array, Array]:
    names = (("evaluation_xyz.json", 21), ("evaluation_verts.json", 778))
    for name, _ in names:
        if not (root / name).is_file():
            raise BenchmarkError(
                f"{root / name} is missing: the evaluation's ground truth, which its authors "
                "publish with their evaluation code"
            )
    joints, vertices = (_points(_json(root / n), root / n, n, count) for n, count in names)
    if len(joints) != len(vertices):
        raise BenchmarkError(f"{root}: {len(joints)} hands of joints, {len(vertices)} of vertices")
    return joints, vertices


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise BenchmarkError(f"{path} is no JSON file: {error}") from error


def _points(content: object, path: Path, what: str, count: int | None) -> Array:
    try:
        points = np.asarray(content, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{path}: {what} are not lists of equal length") from error
    if points.ndim != 3 or points.shape[-1] != 3 or count not in (None, points.shape[1]):
        wanted = "V" if count is None else count
        raise BenchmarkError(f"{path}: {what} are {points.shape}, they must be (N, {wanted}, 3)")
    return points


def _numbered(joints: Array, vertices: Array) -> Truths:
    return Truths(tuple(f"{i:08d}" for i in range(len(joints))), joints, vertices)


