"""Colour of the free hand's skin, one value a vertex, from the shape alone."""

from __future__ import annotations

from typing import Final

import numpy as np

from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.hand.layout import FINGERS, MANO_FINGERS
from hand_mesh_ros.hand.model import FloatArray, IntArray

# Linear-light reflectance of light-brown skin, about Fitzpatrick III.
_BACK: Final = np.array([0.50, 0.290, 0.195])
_PALM: Final = np.array([0.62, 0.370, 0.280])
_FLUSH: Final = np.array([0.58, 0.250, 0.180])  # knuckles and finger pads, where blood shows
_CREASE: Final = np.array([0.40, 0.200, 0.135])
_NAIL: Final = np.array([0.70, 0.460, 0.390])
_LUNULA: Final = np.array([0.75, 0.530, 0.450])

_NAIL_HALF: Final = (0.0070, 0.0055)  # half length and half width of a nail, metres
_NAIL_SCALE: Final = {"thumb": 1.3, "index": 1.0, "middle": 1.05, "ring": 1.0, "little": 0.8}


def skin_colour(
    vertices: FloatArray, faces: IntArray, joints: FloatArray, tips: IntArray
) -> FloatArray:
    """Albedo (V, 3), linear light: pale palm, flushed knuckles and pads, creases and nails.

    vertices (V, 3) in the zero pose, joints (16, 3) in MANO order, tips (5,).
    """
    normals = vertex_normals(vertices, faces)
    palm = _smoothstep(0.30, -0.45, normals[:, 1])
    colour = _mix(np.broadcast_to(_BACK, vertices.shape), _PALM, palm)
    # A slow unevenness that no two fingers share; real skin is never one colour.
    colour = colour * (1 + 0.05 * np.sin(vertices @ (90.0, 130.0, 170.0)))[:, None]
    for i, finger in enumerate(MANO_FINGERS):
        chain = joints[1 + 3 * i : 4 + 3 * i]
        tip = vertices[tips[FINGERS.index(finger)]]
        for k, joint in enumerate(chain):
            distance = np.linalg.norm(vertices - joint, axis=1)
            near = _smoothstep(0.019, 0.009, distance)
            colour = _mix(colour, _FLUSH, 0.5 * near * (1 - palm))
            if k > 0:
                along = np.abs((vertices - joint) @ _unit(joint - chain[k - 1]))
                fold = _smoothstep(0.0022, 0.0006, along) * (distance < 0.014)
                colour = _mix(colour, _CREASE, 0.4 * fold * palm)
        pad = _smoothstep(0.015, 0.006, np.linalg.norm(vertices - tip, axis=1))
        colour = _mix(colour, _FLUSH, 0.4 * pad * palm)
        colour = _with_nail(colour, vertices, normals, tip, chain[2], _NAIL_SCALE[finger])
    return np.asarray(colour.clip(0.02, 0.95))


def _with_nail(
    colour: FloatArray,
    vertices: FloatArray,
    normals: FloatArray,
    tip: FloatArray,
    last_joint: FloatArray,
    scale: float,
) -> FloatArray:
    """Paint a nail: an ellipse on the upper side, behind the tip vertex on its free edge."""
    axis = _unit((tip - last_joint) * (1, 0, 1))
    side = np.cross(axis, (0.0, 1.0, 0.0))
    half = scale * np.array(_NAIL_HALF)
    from_centre = vertices - (tip - 0.5 * half[0] * axis)
    u, v = from_centre @ axis / half[0], from_centre @ side / half[1]
    inside = _smoothstep(1.15, 0.85, np.sqrt(u**2 + v**2))
    inside = inside * _smoothstep(0.3, 0.6, normals[:, 1])
    inside = inside * (np.abs(from_centre[:, 1]) < 0.012)
    nail = np.where((u < -0.6)[:, None], _LUNULA, _NAIL)
    return _mix(colour, nail, inside)


def _mix(colour: FloatArray, other: FloatArray, amount: FloatArray) -> FloatArray:
    return colour + (other - colour) * amount[:, None]


def _smoothstep(start: float, end: float, x: FloatArray) -> FloatArray:
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
