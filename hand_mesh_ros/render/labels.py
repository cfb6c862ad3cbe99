"""What is seen of a scene, at the centres of a camera's pixels: masks, depth, points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.render import scenes
from hand_mesh_ros.render.scenes import Scene
from hand_mesh_ros.types import Camera, FloatArray

_DEPTH_SLACK = 0.003  # metres by which a visible vertex may lie behind its pixel's surface


@dataclass(frozen=True, eq=False)
class ViewLabels:
    """What one camera sees, at the centres of its pixels.

    ``owner`` (H, W) int8: -1 background, else as `scenes` numbers it; ``amodal`` (H, W): where the
    hand would be seen if nothing but itself were there; ``depth`` (H, W) m, 0 for nothing;
    ``vertices_seen`` (V,); ``joints_seen`` (21,): 1, 0, or NaN out of the picture.
    """

    owner: NDArray[np.int8]
    amodal: NDArray[np.bool_]
    depth: NDArray[np.float32]
    vertices_seen: NDArray[np.bool_]
    joints_seen: FloatArray

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(H, W), where the hand is seen."""
        return np.equal(self.owner, scenes.HAND)

    @property
    def numbered(self) -> NDArray[np.uint8]:
        """Both masks in one picture (H, W): ``owner`` + 1, and 128 more where ``amodal``."""
        return np.asarray(self.owner + 1 + 128 * self.amodal.astype(np.int16), dtype=np.uint8)

    @property
    def things(self) -> NDArray[np.bool_]:
        """(H, W), where something held or in the way is seen; another hand is none."""
        return np.equal(self.owner, scenes.THING)

    @property
    def visible_share(self) -> float:
        """Visible pixels of the hand over the amodal ones; 0 for a hand out of the picture."""
        return float(self.visible.sum() / max(int(self.amodal.sum()), 1))


def label_view(scene: Scene, camera: Camera, device: str = "cpu") -> ViewLabels:
    """Masks, depth and visibility of a scene in one of its cameras; ``device`` is Warp's."""
    from hand_mesh_ros.render import warp_raster as raster

    width, height = camera.width, camera.height
    uv, depth = seen_points(camera, scene.points)
    pixels = raster.to_device(uv[None], raster.wp.vec2, device)
    depths = raster.to_device(depth[None], float, device)
    faces = raster.to_device(scene.faces, raster.wp.int32, device)
    own = int((scene.owner == scenes.HAND).sum())
    keys = raster.draw_keys(pixels, depths, faces, width, height, count=own)
    amodal = raster.read_keys(keys, 0, width, height).mask
    raster.draw_keys(pixels, depths, faces, width, height, first=own, onto=keys)
    drawn = raster.read_keys(keys, 0, width, height)
    owner = np.where(drawn.mask, scene.owner[drawn.face_ids], -1).astype(np.int8)
    near = np.where(drawn.mask, drawn.depth, np.inf)
    count = scene.model.num_vertices
    facing = ((camera.centre - scene.vertices) * scene.normals[:count]).sum(axis=1) > 0
    seen = (_in_front(uv[:count], depth[:count] - _DEPTH_SLACK, near) == 1) & facing
    joints = _joints_seen(camera, scene.joints, owner, near, flesh(scene.model))
    known = np.where(drawn.mask, drawn.depth, 0).astype(np.float32)
    return ViewLabels(owner, amodal, known, seen, joints)


@lru_cache(maxsize=4)
def flesh(model: HandModel) -> FloatArray:
    """How far before each joint (21,) its own skin may be, metres.

    A fifth more than to the palm's or the back's skin above or below it in the rest pose, whichever
    is farther, and 3 mm: hands are seen from all sides.
    """
    joints = model.J_regressor @ model.v_template
    points = np.concatenate([joints, model.v_template[model.tips]])[MANO_TO_OPENPOSE]
    offset = model.v_template[None] - points[:, None]
    aside = np.linalg.norm(offset[..., [0, 2]], axis=-1)
    near = aside <= np.sort(aside, axis=1)[:, 7:8]
    return np.asarray(1.2 * np.where(near, np.abs(offset[..., 1]), 0).max(axis=1) + 0.003)


def seen_points(camera: Camera, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pixels (N, 2), NaN where there are none, and depths (N,) of world points (N, 3)."""
    return project(camera, points), transform_points(camera.T_camera_world, points)[:, 2]


def _in_front(uv: FloatArray, depth: FloatArray, near: FloatArray) -> FloatArray:
    """1 where points (N, 2) at ``depth`` (N,) are not behind what is seen, 0 where they are, NaN

    out of the picture.
    """
    height, width = near.shape
    within = (uv > -0.5) & (uv < np.array([width - 0.5, height - 0.5]))
    inside = np.asarray(within.all(axis=1))
    column, row = np.rint(np.where(inside[:, None], uv, 0)).astype(int).T
    return np.where(inside, np.greater(near[row, column], depth).astype(float), np.nan)


def _joints_seen(
    camera: Camera, joints: FloatArray, owner: NDArray[np.int8], near: FloatArray,
    depth_in_flesh: FloatArray,
) -> FloatArray:  # fmt: skip
    """A joint is seen where the hand's own skin is, no further before it than its flesh is deep."""
    uv, depth = seen_points(camera, joints)
    own = np.where((owner == scenes.HAND) | (owner == scenes.ARM) | (owner < 0), near, 0.0)
    return _in_front(uv, depth - depth_in_flesh, own)
