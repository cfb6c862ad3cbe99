"""The hand model: arrays in MANO's layout, from the shipped free hand or from a user's file.

Canonical placement, as MANO's: a right hand lies flat, fingers along -x, palm towards -y, thumb
side towards +z, in metres, so that positive z rotations flex the fingers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_HAND_POSE, NUM_JOINTS, PARENTS

if TYPE_CHECKING:
    from smplx import MANO

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Side = Literal["right", "left"]

FREE_HAND: Final = Path(__file__).parent / "data" / "free_right_hand.npz"


@dataclass(frozen=True, eq=False)
class HandModel:
    """A hand in MANO's layout: V vertices, F triangles, 16 joints, 10 shape components.

    Arrays are float64 or int64 and read-only. Lengths are metres in the canonical placement.
    """

    v_template: FloatArray  # (V, 3) mean shape, zero pose
    shapedirs: FloatArray  # (V, 3, 10) displacement per unit (one sigma) of beta
    posedirs: FloatArray  # (135, V * 3) displacement per unit of (R_1..R_15 - I), row-major
    J_regressor: FloatArray  # (16, V) joints from shaped vertices, rows sum to one
    lbs_weights: FloatArray  # (V, 16) skinning weights, rows sum to one
    parents: IntArray  # (16,)
    faces: IntArray  # (F, 3) counter-clockwise seen from outside
    tips: IntArray  # (5,) fingertip vertices: thumb, index, middle, ring, little
    side: Side
    model_id: str
    uv: FloatArray | None = None  # (T, 2) texture coordinates in 0..1, v upwards; T >= V: seams
    uv_faces: IntArray | None = None  # (F, 3) corners of the faces in `uv`
    albedo: FloatArray | None = None  # (V, 3) skin colour, linear-light reflectance 0..1
    shape_std: FloatArray | None = None  # (10,) rms vertex displacement of one sigma, metres
    hands_mean: FloatArray | None = None  # (45,) MANO's mean pose, total = offset + mean, radians
    hands_components: FloatArray | None = None  # (n, 45) principal components of pose offsets
    landmarks: FloatArray | None = None  # (21, 3) of what is observed from the joints; None: usual

    def __post_init__(self) -> None:
        for name, shape in _shapes(self).items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape:
                raise ValueError(
                    f"hand model '{self.model_id}': {name} has shape {array.shape}, "
                    f"expected {shape}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"hand model '{self.model_id}': {name} is not finite everywhere")
            array.setflags(write=False)
        if tuple(self.parents.tolist()) != PARENTS:
            raise ValueError(
                f"hand model '{self.model_id}': parents {self.parents.tolist()} are not MANO's"
            )
        if self.side not in ("right", "left"):
            raise ValueError(f"hand model '{self.model_id}': side '{self.side}' is unknown")
        for name in ("faces", "tips"):
            ids = getattr(self, name)
            if ids.min() < 0 or ids.max() >= self.num_vertices:
                raise ValueError(f"hand model '{self.model_id}': {name} point outside the mesh")

    @property
    def num_vertices(self) -> int:
        return len(self.v_template)

    @property
    def num_betas(self) -> int:
        return self.shapedirs.shape[-1]


def _shapes(model: HandModel) -> dict[str, tuple[int, ...]]:
    v = len(model.v_template)
    return {
        "v_template": (v, 3),
        "shapedirs": (v, 3, NUM_BETAS),
        "posedirs": (9 * (NUM_JOINTS - 1), 3 * v),
        "J_regressor": (NUM_JOINTS, v),
        "lbs_weights": (v, NUM_JOINTS),
        "parents": (NUM_JOINTS,),
        "faces": (len(model.faces), 3),
        "tips": (5,),
        "uv_faces": (len(model.faces), 3),
        "albedo": (v, 3),
        "shape_std": (NUM_BETAS,),
        "hands_mean": (NUM_HAND_POSE,),
        "hands_components": (_length(model.hands_components), NUM_HAND_POSE),
        "landmarks": (21, 3),
    }


def load_hand_model(
    path: Path | None = None, side: Side = "right", tips: str | None = None
) -> HandModel:
    """Load a hand model; `None` is the free right hand that ships with the package.

    `path` is one of
    * an .npz of this package (`hand-mesh model build` writes one), or of MANO's own arrays;
    * the original MANO_RIGHT.pkl or MANO_LEFT.pkl, read without chumpy and without executing it;
    * a checkpoint (.ckpt, .pt, .pth) that holds MANO's buffers, such as HaMeR's or WiLoR's.

    Where the file holds the other hand, it is mirrored, and the log says so. `tips` names the
    fingertip vertices of a MANO mesh, one of `layout.TIP_SETS`; by default the file's own, else
    'mano'. The result is cached and read-only.

    Raises FileNotFoundError or ValueError, which say what was expected and where it may be had.
    """
    from hand_mesh_ros.hand.loading import load_cached

    return load_cached(FREE_HAND if path is None else Path(path), side, tips)


def to_smplx(model: HandModel, **kwargs: Any) -> MANO:
    """The same hand as an unmodified `smplx.MANO` layer (total axis-angle rotations, no PCA).

    `kwargs` go to `smplx.MANO` (for instance `batch_size`, `dtype`). The layer's own 16 joints
    followed by `vertices[:, model.tips]` are the 21 points in MANO order.
    """
    import smplx
    import torch
    from smplx.utils import Struct

    kintree = np.stack([model.parents, np.arange(NUM_JOINTS)])
    data = Struct(
        v_template=model.v_template,
        shapedirs=model.shapedirs,
        posedirs=model.posedirs.T.reshape(model.num_vertices, 3, -1),
        J_regressor=model.J_regressor,
        weights=model.lbs_weights,
        kintree_table=kintree,
        f=model.faces,
        # Neither is used unless `kwargs` ask for it (flat_hand_mean=False, use_pca=True).
        hands_components=_or(model.hands_components, np.eye(NUM_HAND_POSE)),
        hands_mean=_or(model.hands_mean, np.zeros(NUM_HAND_POSE)),
    )
    options: dict[str, Any] = {
        "is_rhand": model.side == "right",
        "use_pca": False,
        "flat_hand_mean": True,
        "num_betas": model.num_betas,
        **kwargs,
    }
    layer = smplx.MANO(model_path="", data_struct=data, **options)
    layer.vertex_joint_selector.extra_joints_idxs = torch.tensor(model.tips)
    return layer


def smplx_max_difference(model: HandModel, count: int = 64, seed: int = 0) -> float:
    """Largest distance, metres, of `kinematics.forward` from smplx over `count` random hands.

    Vertices and the 21 joints; rotations of half a radian a component and any heading, shapes of
    one sigma, and translations of half a metre; in double precision.
    """
    import torch

    from hand_mesh_ros.hand.kinematics import forward
    from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE

    rng = np.random.default_rng(seed)
    orient, pose = rng.normal(0, 1.5, (count, 3)), rng.normal(0, 0.5, (count, NUM_HAND_POSE))
    betas, transl = rng.normal(0, 1, (count, NUM_BETAS)), rng.normal(0, 0.5, (count, 3))
    ours = forward(model, orient, pose, betas, transl)
    layer = to_smplx(model, batch_size=count, dtype=torch.float64)
    with torch.no_grad():
        theirs = layer(
            global_orient=torch.tensor(orient),
            hand_pose=torch.tensor(pose),
            betas=torch.tensor(betas),
            transl=torch.tensor(transl),
        )
    vertices = theirs.vertices.numpy()
    joints = np.concatenate([theirs.joints.numpy()[:, :NUM_JOINTS], vertices[:, model.tips]], 1)
    assert ours.vertices is not None
    return float(
        max(
            np.linalg.norm(ours.vertices - vertices, axis=-1).max(),
            np.linalg.norm(ours.joints - joints[:, MANO_TO_OPENPOSE], axis=-1).max(),
        )
    )


def _length(array: FloatArray | None) -> int:
    return 0 if array is None else len(array)


def _or(array: FloatArray | None, default: FloatArray) -> FloatArray:
    return default if array is None else np.array(array)
