"""What pixels leave open of a cell (seven degrees of freedom), how it is fixed, and what is sure.

Camera parameters are those of `cell_bundle`: left perturbations (rotation, translation) in each
camera's axes, then its free intrinsics. Poses out are ``T_world_camera`` with covariances of
(position, rotation about fixed axes), as wrists have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import project_to_so3, skew
from hand_mesh_ros.perception.cell_bundle import POSE, Bundle
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Similarity:
    """``x -> scale * R x + t``, of points and of the cameras that see them."""

    scale: float
    R: Array
    t: Array

    def camera(self, camera: Camera) -> Camera:
        """The camera moved along with the world."""
        R = camera.T_camera_world[:3, :3] @ self.R.T
        T = np.eye(4)
        T[:3, :3] = R
        T[:3, 3] = self.scale * camera.T_camera_world[:3, 3] - R @ self.t
        return replace(camera, T_camera_world=T)

    def bundle(self, bundle: Bundle) -> Bundle:
        """The bundle's cameras and points moved; pixels stay as they are."""
        return replace(
            bundle,
            cameras=tuple(self.camera(c) for c in bundle.cameras),
            points=self.scale * bundle.points @ self.R.T + self.t,
        )


def onto(source: Sequence[Camera], target: Sequence[Camera], scale: float = 1.0) -> Similarity:
    """The motion (of a given scale) that best lays cameras on their targets.

    Rotation is the mean of the cameras' own (chordal), position that of their centres, so that
    even one camera, or several in a line, leave nothing open.
    """
    pairs = zip(source, target, strict=True)
    R = project_to_so3(
        sum(b.T_camera_world[:3, :3].T @ a.T_camera_world[:3, :3] for a, b in pairs)
    )
    middle = np.mean([c.centre for c in source], axis=0)
    return Similarity(
        scale, R, np.mean([c.centre for c in target], axis=0) - scale * R @ middle
    )


def gauge_directions(cameras: Sequence[Camera], size: int) -> Array:
    """(C*size, 7): how parameters follow the world's rotation, translation and growth."""
    out = np.zeros((len(cameras), size, 7))
    for i, camera in enumerate(cameras):
        R, t = camera.T_camera_world[:3, :3], camera.T_camera_world[:3, 3]
        out[i, :3, :3] = -R
        out[i, 3:POSE, :3] = -skew(t) @ R
        out[i, 3:POSE, 3:6] = -R
        out[i, 3:POSE, 6] = t
    return out.reshape(-1, 7)


def held_by(cameras: Sequence[Camera], size: int, reference: int | None) -> Array:
    """(7, C*size): what is held. A reference camera's pose, or all cameras' mean motion; and the

    growth of the rest about it.
    """
    G = gauge_directions(cameras, size)
    if reference is None:
        return np.asarray(G.T)
    rigid = np.zeros((6, len(G)))
    rigid[:, reference * size : reference * size + 6] = np.eye(6)
    growth = G[:, 6] - G[:, :6] @ np.linalg.solve(rigid @ G[:, :6], rigid @ G[:, 6])
    return np.concatenate([rigid, growth[None]])


def baseline_slope(cameras: Sequence[Camera], size: int, a: int, b: int) -> Array:
    """(C*size,): how the log distance of two cameras follows the parameters."""
    out = np.zeros((len(cameras), size))
    between = cameras[a].centre - cameras[b].centre
    between = between / (between @ between)
    out[a, 3:POSE] = -cameras[a].T_camera_world[:3, :3] @ between
    out[b, 3:POSE] = cameras[b].T_camera_world[:3, :3] @ between
    return out.reshape(-1)


def covariance_in_gauge(information: Array, cameras: Sequence[Camera], constraint: Array) -> Array:
    """Parameter covariance (C*Q, C*Q) where ``constraint`` (7, C*Q) is held, its last row the size.

    Any generalised inverse, carried along the gauge onto what is held: P = I - G (M G)^-1 M.
    """
    G = gauge_directions(cameras, len(information) // len(cameras))
    Q = np.linalg.qr(G)[0]
    # The gauge's own directions are filled up: there the information is singular.
    filled = information + np.trace(information) / len(information) * (Q @ Q.T)
    P = np.eye(len(G)) - G @ np.linalg.solve(constraint @ G, constraint)
    out = P @ np.linalg.inv(filled) @ P.T
    return np.asarray(0.5 * (out + out.T))


def growth_covariance(cameras: Sequence[Camera], constraint: Array, sigma: float) -> Array:
    """Parameter covariance from a size known to ``sigma`` (relative), its first six rows held."""
    G = gauge_directions(cameras, constraint.shape[1] // len(cameras))
    growth = G[:, 6] - G[:, :6] @ np.linalg.solve(
        constraint[:6] @ G[:, :6], constraint[:6] @ G[:, 6]
    )
    return np.asarray(sigma**2 * np.outer(growth, growth))


def covariance_of_rest(information: Array, size: int, held: Sequence[int]) -> Array:
    """Parameter covariance with some cameras known for certain; it needs no other gauge."""
    rest = np.ones(len(information), bool)
    for i in held:
        rest[i * size : (i + 1) * size] = False
    out = np.zeros_like(information)
    out[np.ix_(rest, rest)] = np.linalg.inv(information[np.ix_(rest, rest)])
    return out


def variance_factor(covariance: Array, scores: Array, block: NDArray[np.int64]) -> float:
    """How many times more the gradient varies than independent landmark errors would make it.

    A view's 21 landmarks err together and neighbouring instants err alike; the ``scores``
    (G, C*Q) of hands of one ``block`` (G,) of time are taken together and compared with the
    covariance, mean over its directions (a design effect). At least 1.
    """
    _, index = np.unique(block, return_inverse=True)
    blocks = int(index.max(initial=0)) + 1
    total = np.zeros((blocks, scores.shape[1]))
    np.add.at(total, index, scores)
    if blocks < 2:
        return 1.0
    rank = int(np.linalg.matrix_rank(covariance, tol=1e-12))
    spread = np.einsum("bi,ij,bj->", total, covariance, total)
    return max(float(spread) * blocks / (blocks - 1) / max(rank, 1), 1.0)


def lasting(covariance: Array, pull: Array, bias: float) -> Array:
    """Covariance from errors that no number of instants averages away.

    A network marks a person's hands in the same wrong way, seen from the same side: each camera's
    each landmark, and all of its landmarks together, are taken to err by ``bias`` metres (one sigma
    an axis, half the variance each). ``pull`` (C, J, 2, P) is what that does to the gradient.
    """
    moved = pull @ covariance
    each = moved.reshape(-1, len(covariance))
    together = moved.sum(1).reshape(-1, len(covariance))
    return np.asarray(0.5 * bias**2 * (each.T @ each + together.T @ together))


def pose_covariances(cameras: Sequence[Camera], covariance: Array) -> Array:
    """(C, 6, 6) of ``T_world_camera``: position, m, then rotation about the world's axes, rad."""
    size = len(covariance) // len(cameras)
    out = np.zeros((len(cameras), 6, 6))
    for i, camera in enumerate(cameras):
        R = camera.T_camera_world[:3, :3]
        turn = np.zeros((6, 6))
        turn[:3, 3:], turn[3:, :3] = -R.T, -R.T
        block = slice(i * size, i * size + 6)
        out[i] = turn @ covariance[block, block] @ turn.T
    return out


def relative_to(cameras: Sequence[Camera], reference: int) -> Similarity:
    """The motion that makes the reference camera's axes the world."""
    T = cameras[reference].T_camera_world
    return Similarity(1.0, T[:3, :3], T[:3, 3])

