"""The synthetic cell: posed free hands in a room, filmed by calibrated cameras, with the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.render.backdrop import room, room_depth
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.forearm import with_forearm
from hand_mesh_ros.render.motion import HandPath
from hand_mesh_ros.render.shading import (
    Surface,
    composite,
    depth_of,
    draw,
    highlight,
    illuminate,
    join,
)
from hand_mesh_ros.render.studio import CENTRE, arc_of_cameras, look
from hand_mesh_ros.types import (
    Camera,
    FloatArray,
    Frame,
    FrameSet,
    HandEstimate,
    ImageArray,
    ManoParameters,
    Side,
)

_START_NS = 1_000_000_000
_NOISE_MARGIN = 64
_PERSON = {"right": -1.0, "left": 1.0}


class SyntheticCell:
    """A recording that is made on demand: ``len``, iteration and ``frame_set(i)`` in any order.

    ``cameras`` cameras stand on an arc in front of the person, 0.7 to 0.84 m from the middle of
    the working volume. ``hands`` are the sides shown. ``offsets`` are seconds by which each camera
    captures later than the set's nominal time (default: all at once). ``depth`` is the sensor
    whose aligned depth images the frames carry (None: they carry none). The same arguments give
    the same pictures, bit for bit, in whatever order they are asked for.

    Raises ``ValueError`` for arguments out of range, ``FileNotFoundError`` without a hand model.
    """

    def __init__(
        self,
        cameras: int = 4,
        hands: Sequence[Side] = ("right",),
        seconds: float = 6.0,
        fps: float = 15.0,
        seed: int = 0,
        width: int = 640,
        height: int = 480,
        distortion: bool = True,
        offsets: Sequence[float] | None = None,
        depth: DepthSensor | None = None,
    ) -> None:
        if cameras < 1 or fps <= 0 or seconds <= 0 or min(width, height) < 16:
            raise ValueError(
                "SyntheticCell: cameras, seconds and fps must be positive and pictures at least "
                f"16 px; got cameras={cameras}, seconds={seconds}, fps={fps}, {width}x{height}"
            )
        if len(set(hands)) != len(hands) or not set(hands) <= {"left", "right"}:
            raise ValueError(f"SyntheticCell: hands must name left and right once, got {hands}")
        self.offsets = tuple(offsets) if offsets is not None else (0.0,) * cameras
        if len(self.offsets) != cameras:
            raise ValueError(f"SyntheticCell: {len(self.offsets)} offsets for {cameras} cameras")
        self.name = f"synthetic-{cameras}-{'-'.join(hands) or 'empty'}-{seed}"
        self.fps, self.seed, self.sensor = float(fps), seed, depth
        self.cameras = arc_of_cameras(cameras, width, height, seed, distortion=distortion)
        self._length = max(1, round(seconds * fps))
        self._models = {side: load_hand_model(side=side) for side in hands}
        self._look = look(seed)
        both = len(hands) > 1
        self._paths = tuple(
            HandPath.random(
                side,
                CENTRE + np.array([0, _PERSON[side] * 0.14 if both else 0, 0]),
                np.array([0.08, 0.06 if both else 0.12, 0.08]),
                seed,
            )
            for side in hands
        )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[FrameSet]:
        return (self.frame_set(i) for i in range(len(self)))

    def time(self, index: int) -> float:
        """Nominal time of a set, seconds since the beginning; ``IndexError`` outside."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} frame sets, there is no {index}")
        return index / self.fps

    def stamp_ns(self, t: float) -> int:
        """Capture time in nanoseconds of the time ``t`` in seconds since the beginning."""
        return _START_NS + round(t * 1e9)

    def frame_set(self, index: int) -> FrameSet:
        """All cameras' pictures of set ``index``."""
        nominal = self.time(index)
        frames, scenes = [], {}
        for number, (camera, offset) in enumerate(zip(self.cameras, self.offsets, strict=True)):
            t = nominal + offset
            if t not in scenes:
                scenes[t] = self._scene(t)
            image = self._picture(camera, number, index, *scenes[t])
            depth = self._depth(camera, number, index, scenes[t][0])
            frames.append(Frame(camera, self.stamp_ns(t), image, depth))
        return FrameSet(tuple(frames))

    def ground_truth(self, index: int) -> tuple[HandEstimate, ...]:
        """The true hands at the set's stamp, that of its newest frame; covariances are zero."""
        t = self.time(index) + max(self.offsets)
        return tuple(self._hand(path, t) for path in self._paths)

    def _hand(self, path: HandPath, t: float) -> HandEstimate:
        model = self._models[path.side]
        orient, pose, betas = path.global_orient(t), path.hand_pose(t), self._look.betas
        posed = forward(model, orient[None], pose[None], betas[None], np.zeros((1, 3)))
        assert posed.vertices is not None
        palm = (posed.joints[0, 0] + posed.joints[0, 9]) / 2
        transl = path.position(t) - palm
        views = len(self.cameras)
        return HandEstimate(
            side=path.side,
            joints=posed.joints[0] + transl,
            covariance=np.zeros((21, 3, 3)),
            wrist=wrist_frame(posed.joints[0] + transl, path.side),
            wrist_covariance=np.zeros((6, 6)),
            mano=ManoParameters(model.model_id, path.side, orient, pose, betas, transl),
            confidence=1.0,
            side_confidence=1.0,
            joint_confidence=np.ones(21),
            visibility=np.ones(21),
            residual_px=np.zeros((views, 21)),
            view_indices=tuple(range(views)),
            scale_source="calibrated_shape",
            vertices=posed.vertices[0] + transl,
        )

    def _scene(self, t: float) -> tuple[Surface | None, FloatArray, FloatArray]:
        """All surfaces at a time, their normals, and the light they scatter to all sides."""
        parts = [self._dressed(self._hand(path, t)) for path in self._paths]
        if not parts:
            return None, np.zeros((0, 3)), np.zeros((0, 3))
        surface = join(parts)
        normals = vertex_normals(surface.vertices, surface.faces)
        return surface, normals, illuminate(surface, normals, self._look.lamps)

    def _dressed(self, hand: HandEstimate) -> Surface:
        model, look = self._models[hand.side], self._look
        assert hand.vertices is not None
        skin = Surface(
            hand.vertices, model.faces, _skin(model) * look.tone, np.full(model.num_vertices, 0.12)
        )
        rotation = exp_so3(hand.mano.global_orient)
        axis = rotation[:, 0] * (1 if hand.side == "right" else -1)
        elbow = CENTRE + np.array([-0.22, _PERSON[hand.side] * 0.16, -0.30])
        return with_forearm(model, skin, axis, elbow, look.cloth)

    def _picture(
        self,
        camera: Camera,
        number: int,
        index: int,
        surface: Surface | None,
        normals: FloatArray,
        diffuse: FloatArray,
    ) -> ImageArray:
        import cv2

        image = self._rooms[number].copy()
        if surface is not None:
            key = self._look.lamps[:2]
            layer = draw(camera, surface, diffuse + highlight(surface, normals, key, camera.centre))
            composite(image, layer)
        image = cv2.GaussianBlur(image, (0, 0), 0.6)
        rng = np.random.default_rng([self.seed, number, index])
        row, column = rng.integers(0, _NOISE_MARGIN, 2)
        noise = self._noise[row : row + camera.height, column : column + camera.width]
        return np.ascontiguousarray(cv2.add(image, noise, dtype=cv2.CV_8U))

    def _depth(
        self, camera: Camera, number: int, index: int, surface: Surface | None
    ) -> NDArray[np.float32] | None:
        if self.sensor is None:
            return None
        true = self._room_depths[number]
        if surface is not None:
            true = np.minimum(true, depth_of(camera, surface))
        return self.sensor.measure(true, np.random.default_rng([self.seed, number, index, 2]))

    @cached_property
    def _room_depths(self) -> tuple[NDArray[np.float32], ...]:
        return tuple(room_depth(camera) for camera in self.cameras)

    @cached_property
    def _rooms(self) -> tuple[ImageArray, ...]:
        return tuple(room(camera, self.seed) for camera in self.cameras)

    @cached_property
    def _noise(self) -> NDArray[np.int16]:
        """One field of sensor noise; every picture takes its own window of it."""
        camera = self.cameras[0]
        shape = camera.height + _NOISE_MARGIN, camera.width + _NOISE_MARGIN, 3
        rng = np.random.default_rng([self.seed, 5])
        return np.rint(2.0 * rng.standard_normal(shape, dtype=np.float32)).astype(np.int16)


@lru_cache(maxsize=4)
def _skin(model: HandModel) -> FloatArray:
    """Linear albedo (V, 3) of the model, or even skin where it has none."""
    if model.albedo is not None:
        return model.albedo
    return np.tile([0.55, 0.33, 0.24], (model.num_vertices, 1))
