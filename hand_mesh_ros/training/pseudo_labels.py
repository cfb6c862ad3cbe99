"""Labels without labels: what all views of an instant together make of a network's landmarks.

HaMuCo learns from 2D landmarks that a network marks in each view. Where the cameras are calibrated
there is something better at no cost: one hand fitted to all views, robustly, and its landmarks
brought back to each view, with how sure they are. The first round fits what the landmark network
says; later rounds fit what a trained HaMuCo says (`refreshed`). No truth of a store is read here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, HAND_POSE, NUM_PARAMS, TRANSL
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian, load_landmark_model
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit, LandmarkFitSettings
from hand_mesh_ros.training.crop_lens import bent, straightened
from hand_mesh_ros.training.instants import (
    LABEL_FIELDS,
    Array,
    StoreError,
    crop_cameras,
    crop_poses,
)
from hand_mesh_ros.types import Camera, HandEstimate, View

if TYPE_CHECKING:
    from hand_mesh_ros.networks.hamuco import Hamuco

Progress = Callable[[int, int, str], None]
Fields = Mapping[str, Array]

EVIDENCE_FIELDS: Final = ("middle", "coarse", "landmarks", "world", "presence", "right")
PLACE_FIELDS: Final = (
    "valid", "K", "D", "T_camera_world", "R_crop_camera", "crop_matrix", "left",
)  # fmt: skip
_READ: Final = (*PLACE_FIELDS, *EVIDENCE_FIELDS)
_DONE = "labels.json"
_HALF = 112.0  # pixels of half a crop
# A landmark's one sigma in half-widths of the crop; what a fit's residual may be is not limited,
# because a bad one tells so by its covariance.
_NOISE = 0.036
_LIMIT = 50.0
# Half-widths of the crop by which a network's and the landmark network's places may differ; one
# sigma of a network's relative places in space, m, and of the landmark network's.
_APART = 0.12
NETWORK_WORLD: Final = 0.006
_FIRST_WORLD = 0.015
_SURE_SIDE = 20.0


@dataclass(frozen=True, eq=False)
class Marks:
    """What is said of instants: `uv` (I, V, 21, 2) in the crops, `world` (I, V, 21, 3) m in their

    axes about any point, `sigma` in half-widths of the crop (I, V, 21), `trust` (I, V) 0..1.
    """

    uv: Array
    world: Array
    sigma: Array
    trust: Array


def landmark_marks(fields: Fields) -> Marks:
    """The landmark network's own answers."""
    noise = np.broadcast_to(_NOISE * load_landmark_model().noise, fields["landmarks"].shape[:-1])
    return Marks(fields["landmarks"][..., :2], fields["world"], noise, fields["presence"])


def ensure_labels(folder: Path, progress: Progress | None = None) -> int:
    """The first round, for parts of a store that have no labels yet; some 10 ms an instant.

    Returns how many parts that were.
    """
    parts = [part for part in _parts(folder) if not (part / _DONE).is_file()]
    _write(parts, landmark_marks, 1, progress)
    return len(parts)


def refreshed(folder: Path, network: Hamuco, progress: Progress | None = None) -> int:
    """The next round, for all parts: `network`'s views, each knowing the others, are what is fitted

    to. Labels of before are replaced.
    """
    parts = _parts(folder)
    rounds = [json.loads((p / _DONE).read_text())["round"] for p in parts if (p / _DONE).is_file()]

    def of(fields: Fields) -> Marks:
        return network_marks(network, fields)

    _write(parts, of, 1 + max(rounds, default=0), progress)
    return len(parts)


def network_marks(network: Hamuco, fields: Fields) -> Marks:
    """A trained network's hands in space, and the landmark network's places in the crops: those

    are sharper where both agree, and are trusted less the further they are apart.
    """
    import torch

    def tensor(array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array, dtype=np.float32))

    inputs = {name: tensor(fields[name]) for name in network.inputs}
    mask = torch.from_numpy(np.array(fields["valid"]))
    mask[~mask.any(1)] = True  # nothing is asked of them; something must be there to look at
    axes, field, centres = map(torch.from_numpy, crop_cameras(fields))
    network.eval()
    with torch.inference_mode():
        _, said = network(inputs, mask, axes, field, None, centres)
    first = landmark_marks(fields)
    apart = np.linalg.norm(said.marks_uv.double().numpy() - first.uv, axis=-1)
    sigma = first.sigma * np.sqrt(1 + np.square(apart / _APART))
    return Marks(first.uv, said.points.marks.double().numpy(), sigma, np.ones(apart.shape[:-1]))


def fitted_labels(fields: Fields, marks: Marks, backend: LandmarkFit) -> dict[str, Array]:
    """`LABEL_FIELDS` of instants by one hand fitted to all valid views of each.

    NaN, with which no loss is taken, where there are fewer than two or no hand fits them.
    """
    count, views = fields["valid"].shape
    out: dict[str, Array] = {name: np.full((count, views, *shape), np.nan, dtype)
           for name, (shape, dtype) in LABEL_FIELDS.items()}  # fmt: skip
    T, focal = crop_poses(fields)
    seen = instant_views(fields, marks, T, focal)
    asked = [i for i in range(count) if len(seen[i]) > 1]
    answers = backend.estimate([HandViews(tuple(seen[i]), None, _SURE_SIDE) for i in asked])
    for i, estimate in zip(asked, answers, strict=True):
        if estimate is None:
            continue
        points = fitted_marks(backend, estimate)
        sigma = np.sqrt(np.trace(estimate.covariance, axis1=1, axis2=2) / 3)
        for view in seen[i]:
            v, camera = view.index, view.camera
            local = points @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3]
            if (local[:, 2] > 0).all():
                out["label_uv"][i, v] = focal[i, v] * local[:, :2] / local[:, 2:]
                out["label_points"][i, v] = local - local[0]
                out["label_sigma"][i, v] = sigma
    out["label_uv"] = bent(fields, out["label_uv"]).astype(np.float32)
    return out


def instant_views(fields: Fields, marks: Marks, T: Array, focal: Array) -> list[list[View]]:
    """Valid views of each instant, with the crops (`crop_poses`) as cameras, of right hands.

    The marks' places are those in such a camera, which has no lens.
    """
    marks = replace(marks, uv=straightened(fields, marks.uv))
    placed = fields["valid"] & np.isfinite(T).all((2, 3))
    return [
        [_view(int(v), _camera(T[i, v], focal[i, v]), marks, i) for v in np.flatnonzero(placed[i])]
        for i in range(len(placed))
    ]


def label_fit(world_sigma: float = _FIRST_WORLD) -> LandmarkFit:
    """The landmark backend that labels are made by; it gives up on no hand."""
    right = load_hand_model()
    models: dict[Any, Any] = {"right": right, "left": mirror_model(right)}
    return LandmarkFit(models, LandmarkFitSettings(world_sigma=world_sigma, max_residual=_LIMIT))


def fitted_marks(backend: LandmarkFit, estimate: HandEstimate) -> Array:
    """Where the landmarks (21, 3) of a fitted hand are."""
    params = np.zeros((1, NUM_PARAMS))
    params[0, GLOBAL_ORIENT], params[0, HAND_POSE] = (
        estimate.mano.global_orient,
        estimate.mano.hand_pose,
    )
    params[0, BETAS], params[0, TRANSL] = estimate.mano.betas, estimate.mano.transl
    return np.asarray(landmarks_and_jacobian(backend.worn(estimate.side), params)[0][0])


def _camera(T: Array, focal: float) -> Camera:
    K = np.diag([_HALF * focal, _HALF * focal, 1.0])
    return Camera("crop", 2, 2, K, T_camera_world=np.asarray(T, dtype=np.float64))


def _view(v: int, camera: Camera, marks: Marks, i: int) -> View:
    return View(
        v, camera, _HALF * np.asarray(marks.uv[i, v], np.float64),
        _HALF * np.asarray(marks.sigma[i, v]), np.asarray(marks.world[i, v], np.float64),
        float(marks.trust[i, v]), 1.0, np.array([0.0, 0.0, 2 * _HALF, 0.0]),
    )  # fmt: skip


def _parts(folder: Path) -> list[Path]:
    found = [part for part in sorted(folder.glob("part-*")) if (part / "done.json").is_file()]
    if not found:
        raise StoreError(f"{folder} holds no instants: make them with `hand-mesh data instants`")
    return found


def _write(
    parts: Sequence[Path], marks: Callable[[Fields], Marks], number: int,
    progress: Progress | None,
) -> None:  # fmt: skip
    if not parts:
        return
    backend = label_fit(NETWORK_WORLD if number > 1 else _FIRST_WORLD)
    for done, part in enumerate(parts):
        fields = {name: np.load(part / f"{name}.npy", mmap_mode="r") for name in _READ}
        made = fitted_labels(fields, marks(fields), backend)
        for name, array in made.items():
            fresh = part / f".{name}.npy"
            np.save(fresh, array)
            fresh.replace(part / f"{name}.npy")
        (part / _DONE).write_text(json.dumps({"round": number}) + "\n")
        if progress is not None:
            progress(done + 1, len(parts), f"labels, round {number}")
