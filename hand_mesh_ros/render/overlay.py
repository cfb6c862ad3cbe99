"""Hands drawn over a camera's picture: the mesh, the skeleton, and a label that names the track."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.geometry.projection import project_arrays, stack_cameras
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.types import Camera, FloatArray, ImageArray, Side, TrackedHand

# One colour a finger (thumb to little), readable over skin and over the mesh.
_FINGERS = ((255, 99, 71), (255, 191, 0), (102, 205, 60), (64, 156, 255), (200, 110, 255))
# Right hands are warm, left hands are cold; tracks of one side differ by hue within their half.
_HUES: dict[Side, tuple[float, float]] = {"right": (0.02, 0.14), "left": (0.48, 0.64)}
_GOLDEN = 0.618034
_FRACTION_BITS = 4
_FAR = 1 << 14
_NEAR = 0.01  # m

Faces = Mapping[Side, NDArray[np.integer]]


def track_colour(side: Side, track_id: int) -> FloatArray:
    """RGB (3,) in [0, 1] of a track: warm for right hands, cold for left ones."""
    low, high = _HUES[side]
    hue = low + (high - low) * ((0.35 + _GOLDEN * track_id) % 1)
    return np.array(colorsys.hsv_to_rgb(hue, 0.65, 1.0))


def draw_hands(
    image: ImageArray,
    camera: Camera,
    hands: Sequence[TrackedHand],
    faces: Faces,
    *,
    alpha: float = 0.6,
    draw_joints: bool = True,
) -> ImageArray:
    """A copy of ``image`` (H, W, 3) with every hand drawn through the camera; see `draw_views`."""
    out = np.ascontiguousarray(image).copy()
    draw_views([out], [camera], hands, faces, alpha=alpha, draw_joints=draw_joints)
    return out


def draw_views(
    images: Sequence[ImageArray],
    cameras: Sequence[Camera],
    hands: Sequence[TrackedHand],
    faces: Faces,
    *,
    alpha: float = 0.6,
    draw_joints: bool = True,
) -> None:
    """Draw every hand into ``images`` (H, W, 3), in place, each through its camera's distortion.

    ``faces`` (F, 3) per side; hands without vertices, or of a side without faces, get a skeleton
    only. Nearer surfaces hide farther ones; hands a camera cannot see are left out. What does not
    depend on the picture is computed once, for all cameras together.
    """
    if not hands or not cameras:
        return
    surface = _surface(hands, faces)
    joints = np.stack([hand.estimate.joints for hand in hands])
    points = np.concatenate([joints.reshape(-1, 3), surface.vertices])
    seen = project_arrays(stack_cameras(tuple(cameras)), points)
    uv = np.where(seen.valid[..., None], seen.uv, np.nan)
    joint_uv = uv[:, : 21 * len(hands)].reshape(len(cameras), len(hands), 21, 2)
    for index, (image, camera) in enumerate(zip(images, cameras, strict=True)):
        if surface.faces.size:
            _draw_surface(image, camera, surface, uv[index, 21 * len(hands) :], alpha)
        away = np.linalg.norm(joints.mean(axis=1) - camera.centre, axis=1)
        for h in np.argsort(-away):
            if draw_joints or not surface.has[h]:
                draw_skeleton(image, joint_uv[index, h])
            _draw_label(image, hands[h], joint_uv[index, h])


def draw_skeleton(image: ImageArray, uv: FloatArray, thickness: int | None = None) -> None:
    """Bones and joints of one hand at pixels ``uv`` (21, 2), in place; NaN joints are left out."""
    import cv2

    scale = thickness or max(1, round(min(image.shape[:2]) / 360))
    usable = np.asarray(np.isfinite(uv).all(axis=1))
    points, bones = _fixed_point(uv), np.array(BONES)
    shown = usable[bones].all(axis=1)
    for finger, colour in enumerate(_FINGERS):
        of_finger = bones[4 * finger : 4 * finger + 4][shown[4 * finger : 4 * finger + 4]]
        lines = list(points[of_finger])
        cv2.polylines(image, lines, False, colour, scale, cv2.LINE_AA, _FRACTION_BITS)
    radius = round((scale + 0.5) * (1 << _FRACTION_BITS))
    for joint in points[usable].tolist():
        cv2.circle(image, joint, radius, (255, 255, 255), -1, cv2.LINE_AA, _FRACTION_BITS)


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """The meshes of all hands as one: ``vertices``, ``normals``, ``colours`` (V, 3), ``faces``.

    ``has[i]`` says whether hand i has a part in it.
    """

    vertices: FloatArray
    normals: FloatArray
    colours: FloatArray
    faces: NDArray[np.integer]
    has: tuple[bool, ...]


def _surface(hands: Sequence[TrackedHand], faces: Faces) -> _Surface:
    vertices, colours = [np.zeros((0, 3))], [np.zeros((0, 3))]
    joined: list[NDArray[np.integer]] = [np.zeros((0, 3), dtype=np.int64)]
    has, count = [], 0
    for hand in hands:
        estimate, mesh = hand.estimate, faces.get(hand.estimate.side)
        has.append(estimate.vertices is not None and mesh is not None)
        if estimate.vertices is not None and mesh is not None:
            vertices.append(estimate.vertices)
            colour = track_colour(estimate.side, hand.track_id)
            colours.append(np.broadcast_to(colour, estimate.vertices.shape))
            joined.append(mesh + count)
            count += len(estimate.vertices)
    points, triangles = np.concatenate(vertices), np.concatenate(joined)
    normals = vertex_normals(points, triangles) if count else points
    return _Surface(points, normals, np.concatenate(colours), triangles, tuple(has))


def _draw_surface(
    image: ImageArray, camera: Camera, surface: _Surface, uv: FloatArray, alpha: float
) -> None:
    """Blend the surface into ``image``, lit from the camera and slightly from above, in place.

    The numbers of the triangles are painted from the farthest to the nearest, by OpenCV: for the
    small triangles of a hand that sees what a z-buffer sees, in a fraction of the time.
    """
    import cv2

    view = camera.centre - surface.vertices
    distance = np.sqrt(np.einsum("vk,vk->v", view, view))
    faces, polygons = _visible(image, surface.faces, uv, distance)
    if not len(faces):
        return
    corners = polygons.reshape(-1, 2)
    size = np.array(image.shape[1::-1])
    low = np.clip((corners.min(axis=0) >> _FRACTION_BITS) - 1, 0, size)
    high = np.clip((corners.max(axis=0) >> _FRACTION_BITS) + 3, 0, size)
    polygons -= (low << _FRACTION_BITS).astype(np.int32)
    region = image[low[1] : high[1], low[0] : high[0]]
    numbers = np.zeros(region.shape[:2], dtype=np.int32)
    for number, polygon in enumerate(list(polygons), start=1):
        cv2.fillConvexPoly(numbers, polygon, number, cv2.LINE_8, _FRACTION_BITS)
    facing = np.einsum("vk,vk->v", surface.normals, view) / np.maximum(distance, 1e-9)
    facing = np.clip(facing, 0, 1)
    above = np.clip(-surface.normals @ camera.T_camera_world[1, :3], 0, 1)
    shade = 0.25 + 0.6 * facing + 0.15 * above
    gloss = np.square(np.square(np.square(np.square(facing))))  # a power of 16 is slow
    tint = 255 * (shade[:, None] * surface.colours + 0.35 * gloss[:, None])
    covered = np.flatnonzero(numbers)
    layer = region.copy()
    layer.reshape(-1, 3)[covered] = _interpolated(
        polygons / np.float32(1 << _FRACTION_BITS),
        np.minimum(tint, 255).astype(np.float32).take(faces.T, axis=0),
        numbers.reshape(-1)[covered] - 1,
        *np.divmod(covered, region.shape[1]),
    )
    region[:] = cv2.addWeighted(region, 1 - alpha, layer, alpha, 0)


def _interpolated(
    triangles: NDArray[np.float32],
    values: NDArray[np.float32],
    face: NDArray[np.integer],
    row: NDArray[np.integer],
    column: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Values (P, 3) at pixels of faces, linear over the picture between ``values`` (3, N, 3) at
    the corners of ``triangles`` (N, 3, 2)."""
    x, y = np.moveaxis(triangles, -1, 0).swapaxes(1, 2)
    (ux, vx), (uy, vy) = (c[1:] - c[0] for c in (x, y))
    twice_area = ux * vy - uy * vx
    twice_area[twice_area == 0] = 1
    a, b = values[1:] - values[0]
    # No pixel changes by more than the whole triangle does: slivers would run wild at their rims.
    most = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.abs(a - b))
    by_x = np.clip((a * vy[:, None] - b * uy[:, None]) / twice_area[:, None], -most, most)
    by_y = np.clip((b * ux[:, None] - a * vx[:, None]) / twice_area[:, None], -most, most)
    at_zero = values[0] - by_x * x[0, :, None] - by_y * y[0, :, None]
    planes = np.concatenate([by_x, by_y, at_zero], axis=1).take(face, axis=0)
    out = planes[:, :3] * column.astype(np.float32)[:, None]
    out += planes[:, 3:6] * row.astype(np.float32)[:, None]
    out += planes[:, 6:]
    return np.clip(out, 0, 255)


def _visible(
    image: ImageArray, faces: NDArray[np.integer], uv: FloatArray, distance: FloatArray
) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Faces (N, 3) that look at the camera, and their corners (N, 3, 2) for OpenCV, far to near."""
    height, width = image.shape[:2]
    u, v = np.where(distance > _NEAR, uv.T, np.nan)
    corners = faces.T  # NumPy reduces a leading axis of three several times faster
    u, v = u[corners], v[corners]
    # Rows grow downwards, so counter-clockwise on the screen is a negative area; NaN is not.
    turn = (u[1] - u[0]) * (v[2] - v[0]) - (v[1] - v[0]) * (u[2] - u[0])
    inside = (u.max(axis=0) > -0.5) & (u.min(axis=0) < width - 0.5)
    inside &= (v.max(axis=0) > -0.5) & (v.min(axis=0) < height - 0.5)
    shown = np.flatnonzero((turn < 0) & inside)
    shown = shown[np.argsort(-distance[corners[:, shown]].sum(axis=0))]
    return faces[shown], _fixed_point(np.stack([u[:, shown].T, v[:, shown].T], axis=-1))


def _fixed_point(uv: FloatArray) -> NDArray[np.int32]:
    """Sub-pixel integers for OpenCV, kept within what its drawing can represent."""
    bounded = np.clip(np.nan_to_num(uv), -_FAR, _FAR)
    return np.rint(bounded * (1 << _FRACTION_BITS)).astype(np.int32)


def _draw_label(image: ImageArray, hand: TrackedHand, uv: FloatArray) -> None:
    """The track's side and number below the wrist; a ``~`` marks an extrapolated hand."""
    import cv2

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
    rgb = tuple(int(255 * c) for c in track_colour(hand.estimate.side, hand.track_id))
    place = (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale
    cv2.putText(image, text, *place, (0, 0, 0), weight + 2, cv2.LINE_AA)
    cv2.putText(image, text, *place, rgb, weight, cv2.LINE_AA)
