"""A hand as MANO's users have it, cameras around it, and a picture of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from hand_mesh_ros.hand.model import HandModel, load_hand_model, to_smplx
from hand_mesh_ros.render.rasteriser import rasterise
from hand_mesh_ros.types import Side

# MANO's 16 joints, then the tips thumb..little, in the order wrist, thumb, index, middle, ring,
# little; from the reference of the field's joint orders.
OPENPOSE_OF_MANO = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]


@lru_cache(maxsize=4)
def model_of(side: Side) -> HandModel:
    """The free hand with a mean pose and pose components, and its wrist as far from the model's

    origin as in MANO's own files, on which conversions of axes depend.
    """
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(45, 45)))[0]
    mean = rng.normal(0, 0.12, 45)
    if side == "left":  # mirrored as the mesh is: y and z of every rotation change their signs
        signs = np.tile([1.0, -1.0, -1.0], 15)
        basis, mean = basis * signs, mean * signs
    free = load_hand_model(side=side)
    shift = np.array([0.095 if side == "right" else -0.095, 0.0064, 0.0062])
    return replace(
        free, v_template=free.v_template + shift, hands_mean=mean, hands_components=basis
    )


@lru_cache(maxsize=8)
def layer_of(side: Side, **options: Any) -> Any:
    import torch

    return to_smplx(model_of(side), dtype=torch.float64, **options)


@dataclass(frozen=True)
class Hand:
    """MANO's numbers in one frame; ``pose`` (45,) as the layer's ``options`` have it."""

    side: Side
    orient: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    options: tuple[tuple[str, Any], ...] = (("flat_hand_mean", False),)
    components: bool = False  # by hand: smplx takes 45 components for none

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3) and MANO's 16 joints (16, 3)."""
        import torch

        layer = layer_of(self.side, **dict(self.options))
        pose = self.pose @ model_of(self.side).hands_components if self.components else self.pose
        parts = (self.orient, pose, self.betas, self.transl)
        names = ("global_orient", "hand_pose", "betas", "transl")
        with torch.no_grad():
            given = {n: torch.tensor(p[None]) for n, p in zip(names, parts, strict=True)}
            out = layer(**given)
        return out.vertices[0].numpy(), out.joints[0, :16].numpy()

    @property
    def joints(self) -> np.ndarray:
        """The 21 joints (21, 3), OpenPose's order, with the model's own tips."""
        vertices, joints = self.points
        both = np.concatenate([joints, vertices[model_of(self.side).tips]])
        return both[OPENPOSE_OF_MANO]

    @property
    def mano_order(self) -> np.ndarray:
        """The same as 16 joints with the five tips behind them."""
        vertices, joints = self.points
        return np.concatenate([joints, vertices[model_of(self.side).tips]])

    def at(self, place: np.ndarray, joint: int = 9) -> Hand:
        """The hand with an OpenPose joint at a place."""
        return replace(self, transl=self.transl + place - self.joints[joint])

    def moved(self, R: np.ndarray, t: np.ndarray) -> Hand:
        """The hand in another frame: it turns about its wrist, wherever that is in the model."""
        still = replace(self, transl=np.zeros(3)).points[1][0]
        orient = (Rotation.from_matrix(R) * Rotation.from_rotvec(self.orient)).as_rotvec()
        return replace(self, orient=orient, transl=R @ (still + self.transl) + t - still)


def random_hand(seed: int, side: Side = "right", components: bool = False, **options: Any) -> Hand:
    """Some hand, its middle knuckle at the origin."""
    rng = np.random.default_rng(seed)
    hand = Hand(
        side,
        orient=rng.normal(0, 0.9, 3),
        pose=rng.normal(0, 0.15, 45),
        betas=rng.normal(0, 0.6, 10),
        transl=np.zeros(3),
        options=tuple({"flat_hand_mean": False, **options}.items()),
        components=components,
    )
    return hand.at(np.zeros(3))


@dataclass(frozen=True)
class Eye:
    """A pinhole: K, its picture's size, and X_camera = R X_world + t in optical axes."""

    K: np.ndarray
    size: tuple[int, int]
    R: np.ndarray = field(default_factory=lambda: np.eye(3))
    t: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def M(self) -> np.ndarray:
        M = np.eye(4)
        M[:3, :3], M[:3, 3] = self.R, self.t
        return M

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Of points (N, 3) in the camera's axes."""
        homogeneous = points @ self.K.T
        return homogeneous[:, :2] / homogeneous[:, 2:]


def eye_around(angle: float, size: tuple[int, int], focal: float, distance: float = 0.5) -> Eye:
    """A camera that looks at the world's origin from somewhere on a tilted circle."""
    width, height = size
    K = np.array([[focal, 0, width / 2 - 3], [0, 1.05 * focal, height / 2 + 2], [0, 0, 1.0]])
    R = Rotation.from_euler("yx", [angle, 0.3]).as_matrix()
    return Eye(K, size, R, np.array([0.01, -0.01, distance]))


@dataclass(frozen=True)
class Picture:
    """``image`` RGB: a hand of reds before greens; ``mask`` and ``depth`` (m, 0 outside) of it."""

    image: np.ndarray
    mask: np.ndarray
    depth: np.ndarray


def draw(eye: Eye, hands: list[tuple[np.ndarray, Side]]) -> Picture:
    """Meshes (V, 3), in the camera's axes, with some shading."""
    width, height = eye.size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([0 * rows, 90 + 60 * rows / height, 40 + 20 * columns / width], axis=-1)
    nearest = np.full((height, width), np.inf)
    for vertices, side in hands:
        faces = model_of(side).faces
        seen = rasterise(eye.pixels(vertices), vertices[:, 2], faces, width, height)
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        facing = np.abs(normal[:, 2]) / np.linalg.norm(normal, axis=1)
        front = seen.mask & (seen.depth < nearest)
        light = 0.4 + 0.6 * facing[seen.face_ids[front]]
        image[front] = light[:, None] * [230.0, 120.0, 100.0]
        nearest[front] = seen.depth[front]
    mask = np.isfinite(nearest)
    return Picture(image.round().astype(np.uint8), mask, np.where(mask, nearest, 0.0))


@dataclass(frozen=True)
class Truth:
    """What a reader must give for one sample, in the camera's optical axes."""

    joints: np.ndarray
    vertices: np.ndarray
    picture: Picture
    eye: Eye
