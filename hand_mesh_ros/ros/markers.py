"""Markers for rviz, built on pooled points so that a mesh costs no thousand objects a frame."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.render.overlay import track_colour
from hand_mesh_ros.ros.builders import hand_frames, point
from hand_mesh_ros.ros.images import header
from hand_mesh_ros.types import HandSet, Side, TrackedHand

_BONES = np.array(BONES)
_UNIT = Pose()
_UNIT.orientation.w = 1.0


class HandMarkers:
    """Mesh, skeleton and joints of every hand; a lost hand is deleted once.

    Mesh corners are `Point` objects made once per hand name and moved in place: rviz needs three
    points a triangle, and they share the vertices.
    """

    def __init__(self, faces: dict[Side, NDArray[np.int64]]) -> None:
        self._faces = faces
        self._vertices: dict[str, list[Point]] = {}
        self._corners: dict[str, list[Point]] = {}
        self._shown: set[str] = set()

    def build(self, hands: HandSet, frame_id: str, lifetime: float) -> MarkerArray:
        """Markers of one frame set, stamped with its capture time."""
        named = hand_frames(hands)
        seconds = int(lifetime)
        duration = Duration(sec=seconds, nanosec=int((lifetime - seconds) * 1e9))
        out = MarkerArray()
        for name, hand in named.items():
            out.markers.extend(self._hand(name, hand))
        for name in sorted(self._shown - set(named)):
            out.markers.extend(self._deleted(name))
        for marker in out.markers:
            marker.header = header(hands.stamp_ns, frame_id)
            marker.lifetime = duration
        self._shown = set(named)
        return out

    def _hand(self, name: str, hand: TrackedHand) -> list[Marker]:
        estimate = hand.estimate
        r, g, b = (float(c) for c in track_colour(estimate.side, hand.track_id))
        joints = [point(p) for p in estimate.joints]
        bones = Marker(
            ns=f"{name}/bones",
            type=Marker.LINE_LIST,
            points=[joints[i] for i in _BONES.reshape(-1)],
            scale=Vector3(x=0.003),
            color=ColorRGBA(r=r, g=g, b=b, a=1.0),
            pose=_UNIT,
        )
        spheres = Marker(
            ns=f"{name}/joints",
            type=Marker.SPHERE_LIST,
            points=joints,
            scale=Vector3(x=0.008, y=0.008, z=0.008),
            color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
            pose=_UNIT,
        )
        if estimate.vertices is None or estimate.side not in self._faces:
            return [bones, spheres]
        mesh = Marker(
            ns=f"{name}/mesh",
            type=Marker.TRIANGLE_LIST,
            points=self._moved(name, estimate.vertices, self._faces[estimate.side]),
            scale=Vector3(x=1.0, y=1.0, z=1.0),
            color=ColorRGBA(r=r, g=g, b=b, a=0.9),
            pose=_UNIT,
        )
        return [mesh, bones, spheres]

    def _moved(
        self, name: str, vertices: NDArray[np.float64], faces: NDArray[np.int64]
    ) -> list[Point]:
        """The corner list of a hand, its pooled points moved to ``vertices``."""
        if len(self._vertices.get(name, ())) != len(vertices):
            pool = [Point() for _ in range(len(vertices))]
            self._vertices[name] = pool
            self._corners[name] = [pool[i] for i in faces.reshape(-1)]
        for p, (x, y, z) in zip(self._vertices[name], vertices.tolist(), strict=True):
            p.x, p.y, p.z = x, y, z
        return self._corners[name]

    def _deleted(self, name: str) -> list[Marker]:
        return [
            Marker(ns=f"{name}/{part}", action=Marker.DELETE, pose=_UNIT)
            for part in ("mesh", "bones", "joints")
        ]
