"""The nouns that travel through the package.

Frozen dataclasses of NumPy arrays; no behaviour beyond small derived properties. Conventions
(see README, "Conventions"): metres, radians, nanosecond stamps; points are rows; camera axes are
optical (x right, y down, z forward); ``T_a_b`` maps points of frame b into frame a; the centre of
the top-left pixel is (0, 0); joints are in OpenPose-21 order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.uint8]
DepthArray = NDArray[np.float32]
Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
DistortionModel = Literal["none", "plumb_bob", "rational_polynomial", "thin_prism", "equidistant"]


def _identity() -> FloatArray:
    return np.eye(4)


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A calibrated camera: intrinsics of the delivered image and its place in the world.

    ``K`` (3, 3) and ``D`` describe the image as it arrives (ROI and binning already applied).
    ``D`` holds the coefficients of ``distortion`` in OpenCV's and ROS's order (may be empty for
    ``none``). ``T_camera_world`` (4, 4) maps world (or output frame) points into optical axes.
    """

    name: str
    width: int
    height: int
    K: FloatArray
    distortion: DistortionModel = "none"
    D: FloatArray = field(default_factory=lambda: np.zeros(0))
    T_camera_world: FloatArray = field(default_factory=_identity)
    frame_id: str = ""

    def placed(self, T_camera_world: FloatArray) -> Camera:
        """The same camera with other extrinsics (4, 4)."""
        return replace(self, T_camera_world=np.asarray(T_camera_world, dtype=np.float64))

    @property
    def focal(self) -> float:
        """Geometric mean of the two focal lengths, pixels: converts pixels to angles."""
        return float(np.sqrt(abs(np.linalg.det(self.K[:2, :2]))))

    @property
    def centre(self) -> FloatArray:
        """Optical centre in the world, (3,) metres."""
        R, t = self.T_camera_world[:3, :3], self.T_camera_world[:3, 3]
        return -R.T @ t


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of one camera, (H, W, 3) uint8 RGB, with its capture time in nanoseconds.

    ``depth`` (H, W), of the same pixels, is metres along the optical axis; 0, NaN and infinity
    say that it is unknown. None without a depth camera. ``observed``: what an edge node saw, in
    place of an image, which is empty (0, 0, 3) then.
    """

    camera: Camera
    stamp_ns: int
    image: ImageArray
    depth: DepthArray | None = None
    observed: tuple[View, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """Frames of different cameras that show one instant, in configuration order."""

    frames: tuple[Frame, ...]

    @property
    def stamp_ns(self) -> int:
        """Capture time of the set: that of its newest frame, exactly."""
        return max(frame.stamp_ns for frame in self.frames)

    @property
    def spread(self) -> float:
        """Newest minus oldest capture time, seconds."""
        stamps = [frame.stamp_ns for frame in self.frames]
        return (max(stamps) - min(stamps)) * 1e-9

    @property
    def cameras(self) -> tuple[Camera, ...]:
        return tuple(frame.camera for frame in self.frames)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one camera saw of one hand.

    ``uv`` (21, 2) distorted pixels; ``sigma`` (21,) one standard deviation per axis in pixels;
    ``world`` (21, 3) metric landmarks relative to each other, in this camera's optical axes (their
    origin is meaningless); ``presence`` and ``right`` (probability of a right hand) in [0, 1];
    ``roi`` (4,) centre u, centre v, side in pixels, rotation in radians. ``depth`` (21,) of the
    landmarks along the optical axis in metres, with ``depth_sigma`` (21,), NaN where a depth image
    does not tell; None without one.
    """

    index: int
    camera: Camera
    uv: FloatArray
    sigma: FloatArray
    world: FloatArray
    presence: float
    right: float
    roi: FloatArray
    frame: Frame | None = None
    depth: FloatArray | None = None
    depth_sigma: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ManoParameters:
    """MANO parameters with total rotations (``flat_hand_mean=True``), axis-angle, radians, metres.

    ``points = scale * model(global_orient, hand_pose, betas) + transl``; with scale 1 the wrist is
    at ``transl + J0(betas)``. ``mirrored``: the numbers belong to the right model, whose output is
    then mirrored (x negated); otherwise to the model of the hand's own side.
    """

    model_id: str
    side: Side
    global_orient: FloatArray
    hand_pose: FloatArray
    betas: FloatArray
    transl: FloatArray
    scale: float = 1.0
    mirrored: bool = False


ScaleSource = Literal["unknown", "model_prior", "multi_view", "depth", "calibrated_shape"]


@dataclass(frozen=True, slots=True, eq=False)
class HandEstimate:
    """One hand at one instant, in the frame of the cameras' extrinsics.

    ``joints`` (21, 3) m; ``covariance`` (21, 3, 3) m^2 (NaN where unknown); ``wrist`` (4, 4) is
    ``T_output_wrist`` (x to the middle knuckle, z out of the back of the hand) with
    ``wrist_covariance`` (6, 6) (position, then rotation about fixed axes); ``residual_px`` one
    reprojection error a view and joint, (V, 21), NaN where not observed; ``view_indices`` names
    the contributing views by their index in the frame set. ``visibility`` (21,) is the mean over
    them of the probability that a view shows the joint. ``calibration`` names what the covariances
    were calibrated on: a network's held-out hands, or the landmarks' measured noise; empty where
    nobody measured how large they must be. ``widened``: by how much the covariances are larger
    than those of the noise, for errors that stay from one frame to the next; 1 where they are not
    told apart (learned backends).
    """

    side: Side
    joints: FloatArray
    covariance: FloatArray
    wrist: FloatArray
    wrist_covariance: FloatArray
    mano: ManoParameters
    confidence: float
    side_confidence: float
    joint_confidence: FloatArray
    visibility: FloatArray
    residual_px: FloatArray
    view_indices: tuple[int, ...]
    scale_source: ScaleSource
    vertices: FloatArray | None = None
    converged: bool = True
    calibration: str = ""
    widened: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class TrackedHand:
    """A hand with an identity: ``track_id`` is unique in a session and never used again.

    ``extrapolated``: the motion so far says that the hand is there, no view does; either because
    none saw it (it has no views then), or because it is told ``ahead`` seconds past the set's
    stamp, which remains the capture time.
    """

    track_id: int
    estimate: HandEstimate
    age: int = 1
    extrapolated: bool = False
    ahead: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class HandSet:
    """The pipeline's answer to one frame set.

    ``views`` are the names of the set's cameras in configuration order; ``observed[i]`` are the
    views that ``hands[i]`` was made from (none, if it is extrapolated), ``unmatched`` the views
    that made no hand.
    """

    stamp_ns: int
    spread: float
    views: tuple[str, ...]
    hands: tuple[TrackedHand, ...]
    observed: tuple[tuple[View, ...], ...] = ()
    unmatched: tuple[View, ...] = ()
