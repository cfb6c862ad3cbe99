"""A tree of static transforms, composed to one frame that all cameras share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hand_mesh_ros.geometry.rotations import invert_rigid, quaternion_to_matrix
from hand_mesh_ros.types import FloatArray


@dataclass
class StaticFrames:
    """child -> (parent, ``T_parent_child`` (4, 4)); the latest word about a child counts."""

    edges: dict[str, tuple[str, FloatArray]] = field(default_factory=dict)

    def add(self, parent: str, child: str, translation: FloatArray, xyzw: FloatArray) -> None:
        """One transform: metres, and a quaternion that need not be normalised."""
        T = np.eye(4)
        T[:3, :3] = quaternion_to_matrix(np.asarray(xyzw) / np.linalg.norm(xyzw))
        T[:3, 3] = translation
        self.edges[child.lstrip("/")] = (parent.lstrip("/"), T)

    def chain(self, frame: str) -> dict[str, FloatArray]:
        """``T_ancestor_frame`` by ancestor, from the frame itself up to its root."""
        frame = frame.lstrip("/")
        out = {frame: np.eye(4)}
        while frame in self.edges:
            parent, T = self.edges[frame]
            if parent in out:
                raise ValueError(f"static transforms form a loop through {parent!r}")
            out[parent] = T @ out[frame]
            frame = parent
        return out

    def place(
        self, frames: Sequence[str], world: str | None = None
    ) -> tuple[str, list[FloatArray]]:
        """The common frame and, for each of ``frames``, ``T_frame_common`` (4, 4).

        The common frame is ``world``, or else the root that the frames share (a single frame is its
        own). Raises ValueError that lists the pairs no static transform connects.
        """
        chains = [self.chain(frame) for frame in frames]
        roots = [list(chain)[-1] for chain in chains]
        if world is None and len(set(frames)) == 1:
            world = frames[0].lstrip("/")
        target = self.chain(world) if world is not None else chains[0]
        root = list(target)[-1]
        missing = [f for f, own in zip(frames, roots, strict=True) if own != root]
        if missing:
            common = world if world is not None else frames[0]
            pairs = ", ".join(f"{common!r} - {frame!r}" for frame in missing)
            raise ValueError(f"no static transform connects {pairs}")
        common = world.lstrip("/") if world is not None else root
        T_root_common = self.chain(common)[root]
        return common, [invert_rigid(own[root]) @ T_root_common for own in chains]
