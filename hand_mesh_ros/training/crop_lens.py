"""Places in crops, as the lens bends them and as a pinhole that looks at the crop's middle would.

A crop is a piece of the image as it arrives. The cameras that `instants.crop_poses` tells of a
store have no lens and look straight at the hand: off an image's middle, places in a crop and in
such a camera are several pixels apart, by which triangulation would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hand_mesh_ros.geometry.cameras import project, undistort
from hand_mesh_ros.geometry.crops import invert_affine, transform_points
from hand_mesh_ros.networks.evidence import CROP
from hand_mesh_ros.training.instants import Array, crop_poses
from hand_mesh_ros.types import Camera

Fields = Mapping[str, Array]
_FLIP = np.array([-1.0, 1.0])


@dataclass(frozen=True, eq=False)
class _Crop:
    """One view: its camera about its own axes, R_crop_camera, and `crop_poses`' focal length."""

    camera: Camera
    matrix: Array
    R: Array
    focal: float
    left: bool

    def straight(self, uv: Array) -> Array:
        own = uv * _FLIP if self.left else uv
        xy = undistort(self.camera, transform_points(self.matrix, (own + 1) * (CROP / 2) - 0.5))
        local = np.concatenate([xy, np.ones((len(xy), 1))], -1) @ self.R.T
        out = self.focal * local[:, :2] / np.where(local[:, 2:] > 0, local[:, 2:], np.nan)
        return np.asarray(out * _FLIP if self.left else out)

    def bent(self, uv: Array) -> Array:
        own = uv * _FLIP if self.left else uv
        local = np.concatenate([own / self.focal, np.ones((len(own), 1))], -1) @ self.R
        pixels = transform_points(invert_affine(self.matrix), project(self.camera, local))
        out = (2 * pixels + 1) / CROP - 1
        return np.asarray(out * _FLIP if self.left else out)


def straightened(fields: Fields, uv: Array) -> Array:
    """Places (I, V, P, 2) in the crops, -1..1, as the pinholes of `crop_poses` would have them.

    As they are in views that are not valid, and where the lens shows nothing. Needs the fields
    `pseudo_labels.PLACE_FIELDS`.
    """
    out = np.array(uv, dtype=np.float64)
    for i, v, crop in _crops(fields):
        made = crop.straight(out[i, v])
        out[i, v] = np.where(np.isfinite(made).all(-1, keepdims=True), made, out[i, v])
    return out


def bent(fields: Fields, uv: Array) -> Array:
    """The reverse: where in the crops the lens shows such places; NaN where it shows them not."""
    out = np.full(np.shape(uv), np.nan)
    for i, v, crop in _crops(fields):
        out[i, v] = crop.bent(np.asarray(uv[i, v], dtype=np.float64))
    return out


def _crops(fields: Fields) -> Iterator[tuple[int, int, _Crop]]:
    _, focal = crop_poses(fields)
    for i, v in np.argwhere(fields["valid"]):
        K, D = (np.array(fields[name][i, v], dtype=np.float64) for name in ("K", "D"))
        # of which plumb_bob is the case of five numbers
        camera = Camera("crop", 0, 0, K, "rational_polynomial", D)
        matrix, R = (np.asarray(fields[name][i, v]) for name in ("crop_matrix", "R_crop_camera"))
        yield int(i), int(v), _Crop(camera, matrix, R, float(focal[i, v]), bool(fields["left"][i]))
