"""The one record that every data set of hands is read into.

Conventions are the package's: metres, radians, optical camera axes, OpenPose-21 joints, pixels
whose top-left centre is (0, 0), MANO with total rotations. What a data set does not say is None,
or NaN where only some joints of it are unknown; nothing is made up. Pictures are decoded when they
are asked for, every time anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.types import Camera, DepthArray, FloatArray, ImageArray, ManoParameters, Side

BoolArray = NDArray[np.bool_]
PoseKind = Literal["total", "mean_relative", "pca"]


def _identity() -> FloatArray:
    return np.eye(4)


@dataclass(frozen=True, slots=True, eq=False)
class StoredMano:
    """MANO's numbers as a data set's files have them, with what it takes to understand them.

    ``hand_pose`` (45,) is total or relative to MANO's mean pose, or (n,) coefficients of MANO's
    first n pose components, as ``pose`` says. The model's points plus ``transl`` (3,) lie in a
    frame that ``T_camera_stored`` (4, 4) maps into the camera's optical axes. In place of
    ``transl``, ``anchor`` names an OpenPose joint and where it is in that frame; with neither, the
    hand's place is not known.
    """

    side: Side
    pose: PoseKind
    global_orient: FloatArray
    hand_pose: FloatArray
    betas: FloatArray
    transl: FloatArray | None = None
    anchor: tuple[int, FloatArray] | None = None
    T_camera_stored: FloatArray = field(default_factory=_identity)


@dataclass(frozen=True, slots=True, eq=False)
class HandSample:
    """One annotated hand in one image.

    ``name`` is unique in the data set; ``index`` is the image's place in the publisher's own list,
    in which submissions are ordered. ``camera.K`` is NaN where no intrinsics are published
    (`calibrated`); ``camera.T_camera_world`` places the cameras of one ``group``, whose samples
    show the same instant; ``view`` is the camera's number in it.

    ``joints`` (21, 3) and ``vertices`` (V, 3) are m in the camera's optical axes, only up to a
    translation where not ``placed``; ``uv`` (21, 2) pixels; NaN for joints that are not annotated.
    ``visibility`` (21,): 1 seen, 0 occluded, NaN outside of the image or not said. ``counted``
    (21,): the joints that the publisher says to train and score with (None: all that are finite).
    ``box`` (4,): the publisher's tight box of this hand, x0, y0, x1, y1 pixels.

    ``mano`` are MANO's parameters in the camera's axes, where they can be had: most data sets need
    a model read from MANO's own file for that, and ``stored_mano`` has the numbers in any case.
    ``vertices`` come from the data set's files, or else from ``mano`` and that model.
    ``source`` is the file that the annotation is from. ``extras``: what else the publisher says.
    """

    dataset: str
    split: str
    name: str
    index: int
    camera: Camera
    side: Side | None
    source: Path
    load_image: Callable[[], ImageArray]
    joints: FloatArray | None = None
    uv: FloatArray | None = None
    vertices: FloatArray | None = None
    visibility: FloatArray | None = None
    counted: BoolArray | None = None
    placed: bool = True
    mano: ManoParameters | None = None
    stored_mano: StoredMano | None = None
    box: FloatArray | None = None
    visible_share: float | None = None
    group: str | None = None
    view: int | None = None
    sequence: str | None = None
    frame: int | None = None
    stamp: float | None = None
    load_depth: Callable[[], DepthArray] | None = None
    load_hand_mask: Callable[[], BoolArray] | None = None
    load_object_mask: Callable[[], BoolArray] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> ImageArray:
        """RGB uint8 (H, W, 3), decoded now; ``BadSample`` names a file that is no image."""
        return self.load_image()

    @property
    def depth(self) -> DepthArray | None:
        """Metres along the optical axis (H, W), 0 where unknown; None without a depth image."""
        return None if self.load_depth is None else self.load_depth()

    @property
    def hand_mask(self) -> BoolArray | None:
        """(H, W), True on the visible hand."""
        return None if self.load_hand_mask is None else self.load_hand_mask()

    @property
    def object_mask(self) -> BoolArray | None:
        """(H, W), True on the objects that the data set labels."""
        return None if self.load_object_mask is None else self.load_object_mask()

    @property
    def calibrated(self) -> bool:
        """Whether the intrinsics are published: neither unknown nor assumed by choice."""
        assumed = self.extras.get("assumed_intrinsics", False)
        return bool(np.isfinite(self.camera.K).all()) and not assumed

    @property
    def joint_box(self) -> FloatArray | None:
        """Extent (4,) of the annotated joints in the image, x0, y0, x1, y1 pixels."""
        known = None if self.uv is None else self.uv[np.isfinite(self.uv).all(-1)]
        return None if known is None or not len(known) else np.r_[known.min(0), known.max(0)]
