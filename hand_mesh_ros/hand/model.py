"""The hand model: arrays in MANO's layout, from the shipped free hand or from a user's file.

Canonical placement, as MANO's: a right hand lies flat, fingers along -x, palm towards -y, thumb
side towards +z, in metres, so that positive z rotations flex the fingers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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

_REQUIRED: Final = (
    "v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights", "parents", "faces", "tips",
)  # fmt: skip
_OPTIONAL: Final = ("uv", "uv_faces", "albedo", "shape_std")


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
    }


def load_hand_model(path: Path | None = None, side: Side = "right") -> HandModel:
    """Load a hand model; `None` is the free right hand that ships with the package.

    `path` is an .npz with v_template (V, 3), shapedirs (V, 3, 10), posedirs (135, V * 3),
    J_regressor (16, V), lbs_weights (V, 16), parents (16,), faces (F, 3), tips (5,), side and
    model_id, and optionally uv (T, 2), uv_faces (F, 3), albedo (V, 3), shape_std (10,). Where the
    file's side is not the wanted one, the model is mirrored. The result is cached and read-only.

    Raises FileNotFoundError or ValueError, which say what was expected.
    """
    return _load(FREE_HAND if path is None else Path(path), side)


@lru_cache(maxsize=8)
def _load(path: Path, side: Side) -> HandModel:
    from hand_mesh_ros.hand.mirror import mirror_model

    model = _read_npz(path)
    return model if model.side == side else mirror_model(model)


def _read_npz(path: Path) -> HandModel:
    if not path.is_file():
        hint = "; run `hand-mesh model build` to make it" if path == FREE_HAND else ""
        raise FileNotFoundError(f"no hand model at {path}{hint}")
    if path.suffix != ".npz":
        raise ValueError(f"hand model {path}: expected an .npz file, got '{path.suffix}'")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    missing = [key for key in (*_REQUIRED, "side", "model_id") if key not in arrays]
    if missing:
        raise ValueError(
            f"hand model {path}: {', '.join(missing)} missing; expected the arrays "
            f"{', '.join(_REQUIRED)}, side, model_id and optionally {', '.join(_OPTIONAL)}"
        )
    fields: dict[str, Any] = {
        key: arrays[key].astype(np.int64 if arrays[key].dtype.kind in "iu" else np.float64)
        for key in (*_REQUIRED, *_OPTIONAL)
        if key in arrays
    }
    return HandModel(**fields, side=str(arrays["side"]), model_id=str(arrays["model_id"]))  # type: ignore[arg-type]


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
        hands_components=np.eye(NUM_HAND_POSE),
        hands_mean=np.zeros(NUM_HAND_POSE),
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
