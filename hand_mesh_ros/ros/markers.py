"""Markers for rviz: mesh, skeleton and joints of every hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Pose, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.render.overlay import track_colour
from hand_mesh_ros.ros.builders import hand_frames, points
from hand_mesh_ros.ros.images import header
from hand_mesh_ros.ros.wire import Packer, Template, time_words
from hand_mesh_ros.types import HandSet, Side, TrackedHand

_BONES = np.array(BONES).reshape(-1)
_PARTS = ("mesh", "bones", "joints")
_UNIT = Pose()
_UNIT.orientation.w = 1.0
_MESH_ALPHA = 0.9

Faces = Mapping[Side, NDArray[np.integer]]
# sRGB of vertices (V, 3) by track; tracks without have one colour
Colours = Mapping[int, NDArray[np.uint8]]
_PLAIN: Colours = MappingProxyType({})


def marker_array(
    hands: HandSet, faces: Faces, frame_id: str, lifetime: float, gone: Sequence[str] = (),
    colours: Colours = _PLAIN,
) -> MarkerArray:  # fmt: skip
    """Markers of one frame set, stamped with its capture time, and the end of those ``gone``.

    ``faces`` (F, 3) per side; a hand without vertices, or of a side without faces, has no mesh.
    ``lifetime`` in seconds.
    """
    seconds, nanoseconds = divmod(_nanoseconds(lifetime), 1_000_000_000)
    markers: list[Marker] = []
    for name, hand in hand_frames(hands).items():
        markers.extend(_of_hand(name, hand, faces, colours.get(hand.track_id)))
    for name in gone:
        markers.extend(
            Marker(ns=f"{name}/{part}", action=Marker.DELETE, pose=_UNIT) for part in _PARTS
        )
    for marker in markers:
        marker.header = header(hands.stamp_ns, frame_id)
        marker.lifetime = Duration(sec=seconds, nanosec=nanoseconds)
    return MarkerArray(markers=markers)


def fill_markers(
    template: Template, hands: HandSet, corners: Mapping[Side, NDArray[np.intp]], lifetime: float,
    colours: Colours = _PLAIN,
) -> None:  # fmt: skip
    """`marker_array` of hands of the same names and sizes; ``corners`` (3F,) are its faces."""
    template["markers.*.header.stamp"] = time_words(hands.stamp_ns)
    template["markers.*.lifetime"] = time_words(_nanoseconds(lifetime))
    index = 0
    for hand in hand_frames(hands).values():
        estimate, colour = hand.estimate, track_colour(hand.estimate.side, hand.track_id)
        joints = estimate.joints
        if _has_mesh(hand, corners):
            place = template[f"markers.{index}.points"].reshape(-1, 3)
            # Straight into the message: without `clip`, NumPy gathers elsewhere and copies.
            vertices = np.asarray(estimate.vertices, dtype=np.float64)
            np.take(vertices, corners[estimate.side], axis=0, out=place, mode="clip")
            template[f"markers.{index}.color"] = *colour, _MESH_ALPHA
            skin = colours.get(hand.track_id)
            if skin is not None:
                painted = _painted(skin)[corners[estimate.side]]
                template[f"markers.{index}.colors"] = painted.reshape(-1)
            index += 1
        template[f"markers.{index}.points"] = joints[_BONES].reshape(-1)
        template[f"markers.{index}.color"] = *colour, 1.0
        template[f"markers.{index + 1}.points"] = joints.reshape(-1)
        index += 2


class HandMarkers:
    """Markers of a stream of hands, ready to be published; a lost hand is deleted once."""

    def __init__(self, faces: Faces, complain: Callable[[str], None]) -> None:
        self._faces = faces
        self._corners: dict[Side, NDArray[np.intp]] = {
            side: np.ascontiguousarray(f, dtype=np.intp).reshape(-1) for side, f in faces.items()
        }
        self._packer = Packer(complain)
        self._shown: set[str] = set()

    def build(
        self, hands: HandSet, frame_id: str, lifetime: float, colours: Colours = _PLAIN
    ) -> Any:
        """A MarkerArray of one frame set, as bytes or as the message; see `Packer`.

        ``colours`` are those of meshes by track.
        """
        named = hand_frames(hands)
        gone = tuple(sorted(self._shown - set(named)))
        self._shown = set(named)
        if not named and not gone:
            return MarkerArray()
        sizes = tuple(
            (
                name, hand.estimate.side, len(hand.estimate.vertices),  # type: ignore[arg-type]
                hand.track_id in colours,
            )
            if _has_mesh(hand, self._corners)
            else (name,)
            for name, hand in named.items()
        )
        return self._packer.pack(
            (frame_id, sizes, gone),
            lambda: marker_array(hands, self._faces, frame_id, lifetime, gone, colours),
            lambda template: fill_markers(template, hands, self._corners, lifetime, colours),
        )


def _of_hand(
    name: str, hand: TrackedHand, faces: Faces, colours: NDArray[np.uint8] | None
) -> list[Marker]:
    estimate = hand.estimate
    r, g, b = (float(c) for c in track_colour(estimate.side, hand.track_id))
    joints = points(estimate.joints)
    bones = Marker(
        ns=f"{name}/bones",
        type=Marker.LINE_LIST,
        points=[joints[i] for i in _BONES],
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
    if not _has_mesh(hand, faces):
        return [bones, spheres]
    # rviz needs three points a triangle; here they share the vertices' objects.
    vertices = points(np.asarray(estimate.vertices))
    mesh = Marker(
        ns=f"{name}/mesh",
        type=Marker.TRIANGLE_LIST,
        points=[vertices[i] for i in faces[estimate.side].reshape(-1).tolist()],
        scale=Vector3(x=1.0, y=1.0, z=1.0),
        color=ColorRGBA(r=r, g=g, b=b, a=_MESH_ALPHA),
        pose=_UNIT,
    )
    if colours is not None:
        shades = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in _painted(colours).tolist()]
        mesh.colors = [shades[i] for i in faces[estimate.side].reshape(-1).tolist()]
    return [mesh, bones, spheres]


def _painted(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB (V, 3) as red, green, blue, alpha (V, 4), 0..1."""
    out = np.full((len(colours), 4), _MESH_ALPHA, dtype=np.float32)
    out[:, :3] = colours / np.float32(255)
    return out


def _has_mesh(hand: TrackedHand, sides: Mapping[Side, Any]) -> bool:
    return hand.estimate.vertices is not None and hand.estimate.side in sides


def _nanoseconds(seconds: float) -> int:
    return int(seconds) * 1_000_000_000 + int((seconds - int(seconds)) * 1e9)
