"""A tree of static transforms, and the frames of a hand's joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import invert_rigid, skew

Array = NDArray[np.float64]


class TransformTree:
    """Static transforms by frame name; ``lookup(a, b)`` composes ``T_a_b`` along the tree."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Array]] = {}

    def set(self, parent: str, child: str, T_parent_child: Array) -> None:
        """Add or replace the edge to ``child``; ``ValueError`` if it would close a loop."""
        if parent == child or child in self._path(parent):
            raise ValueError(f"transform {parent} -> {child} closes a loop")
        self._parents[child] = (parent, np.asarray(T_parent_child, dtype=np.float64))

    def frames(self) -> frozenset[str]:
        """Every frame named so far."""
        return frozenset(self._parents) | {parent for parent, _ in self._parents.values()}

    def lookup(self, target: str, source: str) -> Array | None:
        """``T_target_source`` (4, 4), or None where no chain of transforms joins the two."""
        root_t, T_root_target = self._to_root(target)
        root_s, T_root_source = self._to_root(source)
        if root_t != root_s:
            return None
        return np.asarray(invert_rigid(T_root_target) @ T_root_source)

    def _path(self, frame: str) -> list[str]:
        path = [frame]
        while path[-1] in self._parents:
            path.append(self._parents[path[-1]][0])
        return path

    def _to_root(self, frame: str) -> tuple[str, Array]:
        T = np.eye(4)
        while frame in self._parents:
            frame, step = self._parents[frame]
            T = step @ T
        return frame, T


def joint_frames(joints: Array, wrist: Array) -> Array:
    """Frames (21, 4, 4) of a hand's joints, in the frame of ``joints`` (21, 3).

    The wrist's is ``wrist`` (4, 4). Every other has its origin at the joint and x along the bone
    that leaves it towards the tip (at the tip: along the bone that ends there). Its other axes
    are the parent's, turned by the least rotation that brings x there, so that no axis flips when
    a finger bends by a right angle.
    """
    frames = np.tile(np.eye(4), (21, 1, 1))
    frames[:, :3, 3] = joints
    frames[0] = wrist
    fingers = 1 + 4 * np.arange(5)
    rotation = np.repeat(wrist[None, :3, :3], 5, axis=0)
    for level in range(4):
        index = fingers + level
        if level < 3:
            bone = joints[index + 1] - joints[index]
            length = np.linalg.norm(bone, axis=-1, keepdims=True)
            x = np.where(length > 1e-9, bone / np.maximum(length, 1e-9), rotation[:, :, 0])
            rotation = least_rotation(rotation[:, :, 0], x) @ rotation
        frames[index, :3, :3] = rotation
    return frames


def least_rotation(a: Array, b: Array) -> Array:
    """Least rotations (N, 3, 3) that carry unit vectors ``a`` (N, 3) to ``b``.

    R = I + [v] + [v]^2 / (1 + a.b), v = a x b; held finite for opposite vectors, which no finger
    reaches.
    """
    V = skew(np.cross(a, b))
    cosine = np.maximum((a * b).sum(-1), -0.999)[:, None, None]
    return np.asarray(np.eye(3) + V + V @ V / (1 + cosine))
