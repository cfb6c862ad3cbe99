"""The picture of a cell's calibration: from above, from the side, and how well pixels agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points
from hand_mesh_ros.perception.cell_calibration import CellCalibration
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]

_SIDES = {"right": "#2a6fb0", "left": "#c4552d"}
_CAMERA = "#333333"
_EXAGGERATE = 3.0  # sigmas of the ellipses


def picture(found: CellCalibration, path: Path) -> None:
    """Write a PNG: the cell twice, with hands' paths and 3 sigma ellipses; histograms of errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cameras = len(found.cameras)
    columns = max(4, (cameras + 1) // 2)
    rows = -(-cameras // columns)
    figure = Figure(figsize=(15, 7.5 + 2.4 * rows), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[7.5, 2.4 * rows])
    top, bottom = parts
    axes = _plot_axes(found)
    names = ("from above", "from the side")
    for axis, (first, second), name in zip(
        top.subplots(1, 2), ((0, 1), (0, 2)), names, strict=True
    ):
        _cell(axis, found, axes[:, [first, second]], name)
    _histograms(bottom.subplots(rows, columns, squeeze=False).reshape(-1), found)
    figure.suptitle(
        f"{len(found.hands.instant)} hands, scale from {found.scale.source} "
        f"(+- {100 * found.scale.sigma:.1f} %), frame {found.frame}; ellipses: "
        f"{_EXAGGERATE:g} sigma of the cameras' positions"
    )
    figure.savefig(path)


def _plot_axes(found: CellCalibration) -> Array:
    """(3, 3) columns: right, forward and up of the picture. Up is where the cameras have it.

    Cameras stand upright more often than frames are level: their mean -y is up, and the direction
    in which they and the hands spread most lies to the right.
    """
    ups = np.stack([-c.T_camera_world[1, :3] for c in found.cameras]).mean(0)
    up = ups / max(float(np.linalg.norm(ups)), 1e-9)
    nearest = np.eye(3)[np.argmax(np.abs(up))] * np.sign(up[np.argmax(np.abs(up))])
    up = nearest if up @ nearest > 0.8 else up
    places = np.stack([c.centre for c in found.cameras])
    flat = (places - places.mean(0)) @ (np.eye(3) - np.outer(up, up))
    right = np.linalg.svd(flat)[2][0]
    right = right - (right @ up) * up
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(up, right), up], axis=1)


def _cell(axis: Any, found: CellCalibration, plane: Array, name: str) -> None:
    centre = np.nanmedian(found.bundle.points, axis=1)
    right = found.hands.right > 0
    for side, own in (("right", right), ("left", ~right)):
        if own.any():
            order = np.argsort(found.stamps_ns[own], kind="stable")
            path = centre[own][order] @ plane
            axis.plot(*path.T, "-", color=_SIDES[side], lw=0.6, alpha=0.5)
            axis.plot(*path.T, ".", color=_SIDES[side], ms=4, label=f"{side} hand")
    reach = float(
        np.median([np.linalg.norm(np.nanmedian(centre, 0) - c.centre) for c in found.cameras])
    )
    for camera, covariance in zip(found.cameras, found.covariance, strict=True):
        _frustum(axis, camera, 0.25 * reach, plane)
        at = camera.centre @ plane
        axis.annotate(camera.name, at, xytext=(6, 6), textcoords="offset points", fontsize=9)
        _ellipse(axis, at, plane.T @ covariance[:3, :3] @ plane)
    axis.set_title(name)
    axis.set_aspect("equal", adjustable="datalim")
    axis.grid(True, lw=0.3)
    axis.set_xlabel("m")
    axis.legend(loc="best", fontsize=8)


def _frustum(axis: Any, camera: Camera, depth: float, plane: Array) -> None:
    w, h = camera.width - 1.0, camera.height - 1.0
    corners = np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]])
    local = depth * np.linalg.solve(camera.K, corners.T).T
    T = invert_rigid(camera.T_camera_world)
    at, image = T[:3, 3] @ plane, transform_points(T, local) @ plane
    for corner in image:
        axis.plot(*np.stack([at, corner]).T, color=_CAMERA, lw=0.8)
    axis.plot(*np.concatenate([image, image[:1]]).T, color=_CAMERA, lw=0.8)


def _ellipse(axis: Any, at: Array, covariance: Array) -> None:
    values, vectors = np.linalg.eigh(covariance)
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * np.sqrt(np.maximum(values, 0))
    axis.plot(*(at + _EXAGGERATE * circle @ vectors.T).T, color="#b01030", lw=1.2)


def _histograms(axes: Any, found: CellCalibration) -> None:
    size = np.linalg.norm(found.bundle.error, axis=-1)
    top = float(np.nanpercentile(size, 98))
    for i, axis in enumerate(axes):
        if i >= len(found.cameras):
            axis.set_axis_off()
            continue
        own = size[:, i][np.isfinite(size[:, i])]
        axis.hist(np.minimum(own, top), bins=40, range=(0, top), color="#7a8a99")
        axis.axvline(float(np.median(own)), color="#b01030", lw=1)
        axis.set_title(f"{found.cameras[i].name}: median {np.median(own):.1f} px", fontsize=10)
        axis.set_xlabel("reprojection error, px", fontsize=8)
