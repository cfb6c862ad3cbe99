"""The cell from outside: where the cameras stand and where the hands are, on a metric floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import look_at, project, rays
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.render.overlay import draw_hands
from hand_mesh_ros.types import Camera, FloatArray, ImageArray, Side, TrackedHand

_PAPER, _GRID, _FRUSTUM, _INK = (246, 246, 244), (206, 206, 206), (70, 90, 120), (60, 60, 60)
_AXES = ((214, 60, 60), (40, 150, 60), (50, 90, 210))
_OVERSAMPLE = 2
# Viewpoints that are tried: turned from the cameras' mean direction, and raised above them.
_TURNS, _RISES = np.deg2rad([-70.0, -50, -30, 30, 50, 70]), np.deg2rad([24.0, 34])
_FIELD = np.deg2rad(40)
_FILL, _NEAREST = 0.92, 0.3
_SNAP = np.cos(np.deg2rad(30))


def scene_view(
    cameras: Sequence[Camera],
    hands: Sequence[TrackedHand],
    faces: Mapping[Side, NDArray[np.integer]],
    size: tuple[int, int] = (640, 480),
    *,
    focus: FloatArray | None = None,
) -> ImageArray:
    """A 3D view of the cell, (height, width, 3) RGB, for ``size`` = (width, height).

    Frusta with names, hand meshes (``faces`` per side, as in ``draw_hands``), a floor grid with
    ticks in metres and the world's axes (x red, y green, z blue). The viewpoint depends on the
    cameras and ``focus`` (3,) only (default: the middle of the hands, or of what the cameras look
    at), so that views of one recording with one focus can be compared.
    """
    import cv2

    seen = [h for h in hands if np.isfinite(h.estimate.joints).all()]
    if focus is None:
        middles = [h.estimate.joints.mean(axis=0) for h in seen]
        focus = np.mean(middles, axis=0) if middles else _gaze(cameras)
    up = _upwards(cameras)
    content = np.stack([focus, *(c.centre for c in cameras)])
    radius = max(0.25, float(np.linalg.norm(content - focus, axis=1).max()))
    frustum = 0.13 * radius
    room = [content, *(content + s * frustum * axis for axis in np.eye(3) for s in (-1, 1))]
    viewer = _viewer(cameras, content, np.concatenate(room), up, size)
    canvas = np.full((viewer.height, viewer.width, 3), _PAPER, dtype=np.uint8)
    _draw_floor(canvas, viewer, content, focus, up, radius)
    canvas = draw_hands(canvas, viewer, seen, faces, alpha=1.0, draw_joints=False)
    for camera in cameras:
        _draw_frustum(canvas, viewer, camera, frustum)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _gaze(cameras: Sequence[Camera]) -> FloatArray:
    """The point nearest to all optical axes, or half a metre ahead of a single camera."""
    ahead = np.stack([c.T_camera_world[2, :3] for c in cameras])
    centres = np.stack([c.centre for c in cameras])
    if len(cameras) == 1:
        return np.asarray(centres[0] + 0.5 * ahead[0])
    off_axis = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]
    A = off_axis.sum(axis=0) + 1e-3 * np.eye(3)
    b = np.einsum("nij,nj->i", off_axis, centres) + 1e-3 * (centres + 0.5 * ahead).mean(axis=0)
    return np.asarray(np.linalg.solve(A, b))


def _upwards(cameras: Sequence[Camera]) -> FloatArray:
    """Up, as the cameras hold their heads; a world axis where one is close."""
    up = -np.mean([c.T_camera_world[1, :3] for c in cameras], axis=0)
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    axis = int(np.argmax(np.abs(up)))
    return np.eye(3)[axis] * np.sign(up[axis]) if abs(up[axis]) > _SNAP else np.asarray(up)


def _viewer(
    cameras: Sequence[Camera],
    content: FloatArray,
    room: FloatArray,
    up: FloatArray,
    size: tuple[int, int],
) -> Camera:
    """A pinhole that sees all of ``room`` (M, 3), from where ``content`` (N, 3) is best apart."""
    width, height = size[0] * _OVERSAMPLE, size[1] * _OVERSAMPLE
    out = -np.mean([c.T_camera_world[2, :3] for c in cameras], axis=0)
    out = out - (out @ up) * up
    if np.linalg.norm(out) < 1e-3:  # cameras all around, or all looking down
        out = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    out = out / np.linalg.norm(out)
    focal = min(width, height) / 2 / np.tan(_FIELD / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    half = np.array([width, height]) / 2 / focal * _FILL
    candidates: list[tuple[float, int, Camera]] = []
    for turn in _TURNS:
        for rise in _RISES:
            direction = np.cos(rise) * (exp_so3(turn * up) @ out) + np.sin(rise) * up
            T = _framing(room, direction, up, half)
            viewer = Camera("viewer", width, height, K, T_camera_world=T)
            candidates.append((_clearance(project(viewer, content)), len(candidates), viewer))
    return max(candidates)[2]


def _framing(
    content: FloatArray, direction: FloatArray, up: FloatArray, half: FloatArray
) -> FloatArray:
    """``T_viewer_world`` (4, 4), looking against ``direction``, centred and as near as it fits.

    ``half`` (2,) is the tangent of half the usable field of view, in width and height. A point
    (x, z) is inside where ``|x - eye_x| <= half * (z - eye_z)``: two bounds on the eye, and the
    nearest eye which meets them all lies where the tightest two cross.
    """
    T = look_at(direction, np.zeros(3), up)
    local = content @ T[:3, :3].T
    depth = half * local[:, 2:]
    right = (local[:, :2] - depth).max(axis=0)
    left = (-local[:, :2] - depth).max(axis=0)
    back = min(float((-(left + right) / 2 / half).min()), float(local[:, 2].min()) - _NEAREST)
    T[:3, 3] = -np.append((right - left) / 2, back)
    return T


def _clearance(uv: FloatArray) -> float:
    """Least distance in pixels between any two of the points (N, 2); large for one point."""
    gaps = np.linalg.norm(uv[:, None] - uv[None], axis=-1) + 1e6 * np.eye(len(uv))
    return round(float(gaps.min()), 3)


def _draw_floor(
    canvas: ImageArray,
    viewer: Camera,
    content: FloatArray,
    focus: FloatArray,
    up: FloatArray,
    radius: float,
) -> None:
    """Grid lines at round world coordinates below everything, with ticks, and the world's axes."""
    step = next(s for s in (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0) if radius / s <= 7 or s == 5)
    first = np.eye(3)[int(np.argmin(np.abs(up)))]
    first = first - (first @ up) * up
    first = first / np.linalg.norm(first)
    second = np.cross(up, first)
    height = min(float((content @ up).min()), float(focus @ up) - 0.15) - 0.05
    if 0 < height < radius:  # then the plane through the origin is near enough to be the floor
        height = 0.0
    spans = []
    for axis in (first, second):
        low = np.floor(((content @ axis).min() - 0.1) / step)
        spans.append(np.arange(low, np.ceil(((content @ axis).max() + 0.1) / step) + 1) * step)

    def at(a: float, b: float) -> FloatArray:
        return np.asarray(a * first + b * second + height * up)

    (a0, a1), (b0, b1) = ((s[0], s[-1]) for s in spans)
    for a in spans[0]:
        _line(canvas, viewer, at(a, b0), at(a, b1), _GRID, 1)
        _label(canvas, viewer, at(a, b1 + 0.35 * step), f"{a:.3g} m", 0.6)
    for b in spans[1]:
        _line(canvas, viewer, at(a0, b), at(a1, b), _GRID, 1)
        _label(canvas, viewer, at(a1 + 0.35 * step, b), f"{b:.3g} m", 0.6)
    if np.linalg.norm(focus) < 3 * radius:
        for axis, colour in zip(np.eye(3), _AXES, strict=True):
            _line(canvas, viewer, np.zeros(3), axis * max(step, 0.15 * radius), colour, 3)


def _draw_frustum(canvas: ImageArray, viewer: Camera, camera: Camera, depth: float) -> None:
    """The camera's pyramid through the corners of its picture, and its name."""
    w, h = camera.width - 1, camera.height - 1
    pixels = np.array([[0, 0], [w, 0], [w, h], [0, h]], dtype=np.float64)
    directions = rays(camera, pixels)
    if not np.isfinite(directions).all():  # corners beyond the lens's valid rays
        directions = rays(replace(camera, distortion="none", D=np.zeros(0)), pixels)
    corners = camera.centre + depth * directions
    for k in range(4):
        _line(canvas, viewer, camera.centre, corners[k], _FRUSTUM, 2)
        _line(canvas, viewer, corners[k], corners[(k + 1) % 4], _FRUSTUM, 2)
    _line(canvas, viewer, corners[0], corners[1], _AXES[2], 4)  # the picture's upper edge
    _label(canvas, viewer, camera.centre, camera.name, 0.6)


def _line(
    canvas: ImageArray,
    viewer: Camera,
    a: FloatArray,
    b: FloatArray,
    colour: tuple[int, int, int],
    weight: int,
) -> None:
    import cv2

    uv = project(viewer, np.stack([a, b]))
    if np.isfinite(uv).all() and np.abs(uv).max() < 1e5:
        (x0, y0), (x1, y1) = np.rint(uv).astype(int).tolist()
        cv2.line(canvas, (x0, y0), (x1, y1), colour, weight, cv2.LINE_AA)


def _label(canvas: ImageArray, viewer: Camera, at: FloatArray, text: str, scale: float) -> None:
    import cv2

    uv = project(viewer, at)
    if not np.isfinite(uv).all() or np.abs(uv).max() > 1e5:
        return
    scale *= _OVERSAMPLE * 0.75
    weight = max(1, round(scale * 1.6))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    place = round(float(uv[0]) - width / 2), round(float(uv[1]) + height / 2)
    cv2.putText(
        canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _PAPER, weight + 4, cv2.LINE_AA
    )
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, weight, cv2.LINE_AA)
