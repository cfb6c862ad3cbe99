"""A cell's calibration for people and for machines: tables, JSON, the cell file, static transforms.

The picture is in `cell_picture`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import invert_rigid, log_so3, matrix_to_quaternion
from hand_mesh_ros.perception.cell_calibration import CellCalibration
from hand_mesh_ros.perception.cell_gauge import onto
from hand_mesh_ros.types import Camera

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[np.float64]


def differences(
    found: Sequence[Camera], given: Sequence[Camera], *, align: bool = True
) -> tuple[Array, Array]:
    """Angles (C,) degrees and distances (C,) centimetres between poses of the same cameras.

    Aligned, the whole cell is first moved (rotation and translation, no scale) as near as it goes.
    """
    motion = onto(found, given)
    moved = [motion.camera(c) for c in found] if align else list(found)
    turns = np.stack(
        [
            a.T_camera_world[:3, :3].T @ b.T_camera_world[:3, :3]
            for a, b in zip(moved, given, strict=True)
        ]
    )
    apart = np.stack([a.centre - b.centre for a, b in zip(moved, given, strict=True)])
    return (
        np.degrees(np.linalg.norm(log_so3(turns), axis=-1)),
        100 * np.linalg.norm(apart, axis=-1),
    )


def pose_numbers(camera: Camera) -> list[float]:
    """x, y, z, qx, qy, qz, qw of ``T_frame_camera``: the cell file's ``extrinsics``."""
    T = invert_rigid(camera.T_camera_world)
    numbers = np.concatenate([np.round(T[:3, 3], 6), matrix_to_quaternion(T[:3, :3]).round(9)])
    return [float(n) for n in numbers + 0.0]


def sigmas(found: CellCalibration) -> tuple[Array, Array]:
    """One sigma of each camera's position, m, and heading, degrees, in its worst direction (C,)."""
    worst = [
        np.sqrt(np.maximum(np.linalg.eigvalsh(found.covariance[:, part, part])[:, -1], 0))
        for part in (slice(0, 3), slice(3, 6))
    ]
    return worst[0], np.degrees(worst[1])


def reprojection(found: CellCalibration) -> list[Array]:
    """Reprojection errors of each camera's landmarks, px, all that it saw."""
    size = np.linalg.norm(found.bundle.error, axis=-1)
    return [size[:, c][np.isfinite(size[:, c])] for c in range(len(found.cameras))]


def report(found: CellCalibration, given: Sequence[Camera] | None) -> dict[str, Any]:
    """Everything as plain numbers, for a JSON file. ``given``: poses to compare with, if any."""
    position, heading = sigmas(found)
    errors, seen = reprojection(found), found.hands.seen
    cameras = []
    for i, camera in enumerate(found.cameras):
        entry: dict[str, Any] = {
            "name": camera.name,
            "frame_id": camera.frame_id,
            "extrinsics": pose_numbers(camera),
            "position_sigma_m": round(float(position[i]), 5),
            "heading_sigma_deg": round(float(heading[i]), 3),
            "covariance": found.covariance[i].tolist(),
            "hands": int(seen[:, i].sum()),
            "reprojection_px": {
                "median": round(float(np.median(errors[i])), 2),
                "p95": round(float(np.percentile(errors[i], 95)), 2),
            },
        }
        if np.isfinite(found.intrinsic_sigma[i]).any():
            entry["intrinsics"] = _intrinsics(camera)
            entry["intrinsics_sigma_logf_cx_cy_k1"] = [
                None if np.isnan(s) else round(float(s), 5) for s in found.intrinsic_sigma[i]
            ]
        cameras.append(entry)
    if given is not None:
        for entry, turn, shift in zip(cameras, *differences(found.cameras, given), strict=True):
            entry["from_given_deg"], entry["from_given_cm"] = round(turn, 3), round(shift, 2)
    return {
        "frame": found.frame,
        "gauge": found.reference or "the cell as a whole",
        "scale_from": found.scale.source,
        "scale_sigma_percent": round(100 * found.scale.sigma, 2),
        "started_from": "nothing" if found.from_nothing else "the given poses",
        "hands": len(found.hands.instant),
        "seconds": round(float(np.ptp(found.stamps_ns)) * 1e-9, 2),
        "independent_seconds": found.blocks,
        "error_correlation": round(found.correlation, 2),
        "cameras": cameras,
    }


def tables(found: CellCalibration, given: Sequence[Camera] | None) -> list[Table]:
    """The report for a terminal."""
    from rich.table import Table

    content = report(found, given)
    facts = Table("what", "value", title="cell calibration")
    for key in ("started_from", "frame", "gauge", "hands", "seconds", "error_correlation"):
        facts.add_row(key.replace("_", " "), str(content[key]))
    scale = f"{content['scale_from']}, +- {content['scale_sigma_percent']} %"
    facts.add_row("scale from", scale)
    columns = ["camera", "hands", "px (median)", "px (95 %)", "+- cm", "+- deg"]
    table = Table(*columns, *(("moved cm", "moved deg") if given is not None else ()))
    for entry in content["cameras"]:
        px = entry["reprojection_px"]
        row = [entry["name"], str(entry["hands"]), f"{px['median']:.1f}", f"{px['p95']:.1f}"]
        row += [f"{100 * entry['position_sigma_m']:.2f}", f"{entry['heading_sigma_deg']:.2f}"]
        if given is not None:
            row += [f"{entry['from_given_cm']:.1f}", f"{entry['from_given_deg']:.2f}"]
        table.add_row(*row)
    return [facts, table]


def cell_file(found: CellCalibration) -> str:
    """The lines of a cell file that calibrate its cameras; see `hand_mesh_ros.ros.cell_files`.

    A camera whose own axes are the output frame needs no extrinsics.
    """
    lines = [
        "# Written by hand-mesh calibrate-cell: merge it into your cell file.",
        f"# Scale: {found.scale.source}, +- {100 * found.scale.sigma:.1f} %.",
        "/**:",
        "  ros__parameters:",
        f"    cameras: [{', '.join(c.name for c in found.cameras)}]",
        f"    output_frame: {found.frame}",
        "    camera:",
    ]
    position, heading = sigmas(found)
    refined = np.isfinite(found.intrinsic_sigma).any()
    for i, camera in enumerate(found.cameras):
        lines.append(f"      {camera.name}:")
        lines.append(f"        frame_id: {_frame(camera)}")
        if _frame(camera) != found.frame:
            lines.append(
                f"        # +- {100 * position[i]:.2f} cm, +- {heading[i]:.2f} degrees (1 sigma)"
            )
            lines.append(f"        extrinsics: {pose_numbers(camera)}")
        if refined:
            lines.append("        intrinsics:")
            lines += [f"          {key}: {value}" for key, value in _intrinsics(camera).items()]
    return "\n".join(lines) + "\n"


def static_transforms(found: CellCalibration) -> str:
    """The same as commands that publish on /tf_static, one a camera."""
    lines = ["#!/bin/sh", "# Static transforms of the cell; each command stays running."]
    for camera in found.cameras:
        if _frame(camera) != found.frame:
            keys = ("x", "y", "z", "qx", "qy", "qz", "qw")
            numbers = zip(keys, pose_numbers(camera), strict=True)
            pose = " ".join(f"--{key} {number:.9g}" for key, number in numbers)
            lines.append(
                f"ros2 run tf2_ros static_transform_publisher {pose} --frame-id {found.frame} "
                f"--child-frame-id {_frame(camera)} &"
            )
    return "\n".join([*lines, "wait", ""])


def write(found: CellCalibration, given: Sequence[Camera] | None, out: Path) -> list[Path]:
    """cell.yaml, static_tf.sh, cell.json and cell.png in the folder ``out``."""
    from hand_mesh_ros.evaluation.cell_picture import picture

    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in ("cell.yaml", "static_tf.sh", "cell.json", "cell.png")]
    paths[0].write_text(cell_file(found))
    paths[1].write_text(static_transforms(found))
    paths[2].write_text(json.dumps(report(found, given), indent=2) + "\n")
    picture(found, paths[3])
    return paths


def _frame(camera: Camera) -> str:
    return camera.frame_id or f"{camera.name}_optical_frame"


def _intrinsics(camera: Camera) -> dict[str, Any]:
    return {
        "width": camera.width,
        "height": camera.height,
        # ROS's name of a camera without distortion.
        "distortion_model": "plumb_bob" if camera.distortion == "none" else camera.distortion,
        "k": [round(float(k), 6) for k in camera.K.reshape(-1)],
        "d": [round(float(d), 9) for d in camera.D] or [0.0] * 5,
    }
