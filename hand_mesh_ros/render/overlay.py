"""Hands drawn over a camera's picture: the mesh, the skeleton, and a label that names the track."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.render.rasteriser import rasterise_region
from hand_mesh_ros.render.shading import project_surface, vertex_normals
from hand_mesh_ros.types import Camera, FloatArray, ImageArray, Side, TrackedHand

# One colour a finger (thumb to little), readable over skin and over the mesh.
_FINGERS = ((255, 99, 71), (255, 191, 0), (102, 205, 60), (64, 156, 255), (200, 110, 255))
# Right hands are warm, left hands are cold; tracks of one side differ by hue within their half.
_HUES: dict[Side, tuple[float, float]] = {"right": (0.02, 0.14), "left": (0.48, 0.64)}
_GOLDEN = 0.618034
_FRACTION_BITS = 4
_FAR = 1 << 14


def track_colour(side: Side, track_id: int) -> FloatArray:
    """RGB (3,) in [0, 1] of a track: warm for right hands, cold for left ones."""
    low, high = _HUES[side]
    hue = low + (high - low) * ((0.35 + _GOLDEN * track_id) % 1)
    return np.array(colorsys.hsv_to_rgb(hue, 0.65, 1.0))


def draw_hands(
    image: ImageArray,
    camera: Camera,
    hands: Sequence[TrackedHand],
    faces: Mapping[Side, NDArray[np.integer]],
    *,
    alpha: float = 0.6,
    draw_joints: bool = True,
) -> ImageArray:
    """A copy of ``image`` (H, W, 3) with every hand drawn through the camera and its distortion.

    ``faces`` (F, 3) per side; hands without vertices, or of a side without faces, get a skeleton
    only. Nearer hands are drawn over farther ones; hands the camera cannot see are left out.
    """
    out = np.ascontiguousarray(image).copy()
    centre = camera.centre
    by_distance = sorted(
        hands, key=lambda h: -float(np.linalg.norm(h.estimate.joints.mean(axis=0) - centre))
    )
    for hand in by_distance:
        estimate = hand.estimate
        colour = track_colour(estimate.side, hand.track_id)
        mesh = None if estimate.vertices is None else faces.get(estimate.side)
        if estimate.vertices is not None and mesh is not None:
            _draw_mesh(out, camera, estimate.vertices, mesh, colour, alpha)
        if draw_joints or mesh is None:
            draw_skeleton(out, project(camera, estimate.joints))
        _draw_label(out, camera, hand, colour)
    return out


def draw_skeleton(image: ImageArray, uv: FloatArray, thickness: int | None = None) -> None:
    """Bones and joints of one hand at pixels ``uv`` (21, 2), in place; NaN joints are left out."""
    import cv2

    scale = thickness or max(1, round(min(image.shape[:2]) / 360))
    points = _fixed_point(uv)
    usable = np.asarray(np.isfinite(uv).all(axis=1))
    for bone, (a, b) in enumerate(BONES):
        if usable[a] and usable[b]:
            colour = _FINGERS[bone // 4]
            cv2.line(image, points[a], points[b], colour, scale, cv2.LINE_AA, _FRACTION_BITS)
    radius = round((scale + 0.5) * (1 << _FRACTION_BITS))
    for joint in np.flatnonzero(usable):
        cv2.circle(image, points[joint], radius, (255, 255, 255), -1, cv2.LINE_AA, _FRACTION_BITS)


def _fixed_point(uv: FloatArray) -> list[tuple[int, int]]:
    """Sub-pixel integers for OpenCV, kept within what its drawing can represent."""
    bounded = np.clip(np.nan_to_num(uv), -_FAR, _FAR)
    scaled = np.rint(bounded * (1 << _FRACTION_BITS)).astype(int)
    return [(int(u), int(v)) for u, v in scaled]


def _draw_mesh(
    image: ImageArray,
    camera: Camera,
    vertices: FloatArray,
    faces: NDArray[np.integer],
    colour: FloatArray,
    alpha: float,
) -> None:
    """Blend the mesh into ``image``, lit from the camera and slightly from above, in place."""
    uv, depth = project_surface(camera, vertices)
    fragments = rasterise_region(
        uv, depth, faces, image.shape[1], image.shape[0], cull_backfaces=True
    )
    if fragments.face_ids.size == 0:
        return
    normals = vertex_normals(vertices, faces)
    view = camera.centre - vertices
    view /= np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-9)
    facing = np.clip((normals * view).sum(axis=1), 0, 1)
    above = np.clip(-normals @ camera.T_camera_world[1, :3], 0, 1)
    shade = 0.25 + 0.6 * facing + 0.15 * above
    tint = 255 * (shade[:, None] * colour + 0.35 * facing[:, None] ** 16)
    region = image[fragments.window]
    mask = fragments.mask
    over = np.minimum(fragments.interpolate(faces, tint), 255)
    region[mask] = ((1 - alpha) * region[mask] + alpha * over + 0.5).astype(np.uint8)


def _draw_label(image: ImageArray, camera: Camera, hand: TrackedHand, colour: FloatArray) -> None:
    """The track's side and number below the wrist; a ``~`` marks an extrapolated hand."""
    import cv2

    uv = project(camera, hand.estimate.joints)
    height, width = image.shape[:2]
    inside = (uv >= 0).all(axis=1) & (uv < (width, height)).all(axis=1)
    if not inside.any():
        return
    text = f"{hand.estimate.side[0].upper()}{hand.track_id}{'~' if hand.extrapolated else ''}"
    scale = max(0.4, min(height, width) / 900)
    weight = max(1, round(scale * 2))
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    anchor = uv[0] if np.isfinite(uv[0]).all() else uv[inside][0]
    x = int(np.clip(anchor[0] + h, 2, max(2, width - w - 2)))
    y = int(np.clip(anchor[1] + h, h + 2, max(h + 2, height - 4)))
    rgb = tuple(int(255 * c) for c in colour)
    place = (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale
    cv2.putText(image, text, *place, (0, 0, 0), weight + 2, cv2.LINE_AA)
    cv2.putText(image, text, *place, rgb, weight, cv2.LINE_AA)
