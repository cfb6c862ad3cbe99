"""`hand-mesh bench texture`: what the hand mask is worth to a texture, on renders-v1."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.evidence import Evidence
from hand_mesh_ros.networks.hand_mask import HandMask, load_hand_mask
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.perception.skin_colours import SkinColours, bilinear, sample_skin
from hand_mesh_ros.perception.skin_texture import skin_texture
from hand_mesh_ros.render.scenes import HAND
from hand_mesh_ros.render.skin import base_albedo
from hand_mesh_ros.training.instant_sources import folder_of
from hand_mesh_ros.training.instants import InstantStore, crop_poses
from hand_mesh_ros.types import FloatArray, ImageArray

Progress = Callable[[int, int, str], None]
# (instant, view) -> vertices (V, 3) of the right hand, m, in the axes of the view's crop, or None
MeshOf = Callable[[int, int], FloatArray | None]

KINDS: Final = ("visible", "covered", "hidden")
_FIELDS: Final = (
    "valid", "fine", "middle", "coarse", "rotations", "betas", "wrist", "vertices_seen", "image",
    "owner", "K", "T_camera_world", "crop_matrix", "R_crop_camera", "left", "albedo",
)  # fmt: skip
_AMODAL: Final = 128  # added to owners where the whole hand is
_FEWEST: Final = 20  # vertices of a kind that make a view count for it


class StoredView(NamedTuple):
    """One view of a store, as a texture needs it.

    ``image`` (S, S, 3); ``mesh`` (V, 3) and its pixels ``uv`` (V, 2) in the image; the
    probability of each vertex's pixel to show the hand by the network, ``found`` (V,), and in
    truth, ``true`` (V,); ``kinds``: which vertices (V,) are of `KINDS`; ``overlap``: pixels in both
    masks and in either; ``albedo`` (V, 3) the truth.
    """

    instant: int
    image: ImageArray
    mesh: FloatArray
    uv: FloatArray
    found: FloatArray
    true: FloatArray
    kinds: Mapping[str, NDArray[np.bool_]]
    overlap: tuple[int, int]
    albedo: FloatArray


def texture_figures(
    store: InstantStore | None = None,
    mesh_of: MeshOf | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, float]:
    """Mean absolute errors of the linear albedo, by kind of vertex and by what masks the picture.

    ``store``: instants with evidence, pictures and truth; None: renders-v1's test part.
    ``mesh_of``: the mesh that is textured, where it has one; None: the true one. Raises StoreError
    where there is no store.

    Visible vertices are seen in truth; covered ones would be, but for a thing or another hand
    before them; hidden ones are turned away, or behind the hand itself. The baseline without a mask
    (``no_mask``) is the same estimator, which takes for skin all that the mesh's z-buffer does.
    ``gain_same_tone``: of errors that are left when each albedo's mean tone of what is visible is
    set right, because a picture cannot tell dark skin from little light.
    """
    store = store or InstantStore(folder_of("test"), _FIELDS)
    model, network = load_hand_model(), load_hand_mask()
    prior = base_albedo(model)
    errors: dict[str, list[dict[str, float]]] = {}
    within, seconds, overlaps = [], [], []
    together: dict[int, list[tuple[StoredView, SkinColours]]] = {}
    for view in stored_views(store, model, network, mesh_of, progress):
        skins = {"mask": view.found, "true_mask": view.true, "no_mask": None}
        for name, skin in skins.items():
            begin = time.process_time()
            colours = sample_skin(view.image, view.uv, view.mesh, model.faces, skin)
            texture = skin_texture(model, [colours])
            took = time.process_time() - begin
            errors.setdefault(name, []).append(_errors(texture.albedo, view))
            toned = _same_tone(texture.albedo, view)
            errors.setdefault(f"{name}_same_tone", []).append(_errors(toned, view))
            if name == "mask":
                seconds.append(took)
                off = np.abs(np.log(texture.albedo / np.maximum(view.albedo, 1e-3)))
                within.append((off < texture.sigma[:, None]).mean())
                together.setdefault(view.instant, []).append((view, colours))
        errors.setdefault("prior", []).append(_errors(prior, view))
        overlaps.append(view.overlap)
    for views in together.values():
        albedo = skin_texture(model, [colours for _, colours in views]).albedo
        errors.setdefault("all_views", []).extend(_errors(albedo, view) for view, _ in views)
    both, either = np.sum(overlaps, axis=0)
    return _means(errors) | {
        "texture_coverage_68": float(np.mean(within)),
        "hand_mask_iou_percent": float(100 * both / max(either, 1)),
        "texture_ms_per_view": float(1e3 * np.median(seconds)),
        "texture_views": float(len(seconds)),
        "texture_views_covered": float(np.isfinite([e["covered"] for e in errors["mask"]]).sum()),
    }


def stored_views(
    store: InstantStore,
    model: HandModel,
    network: HandMask,
    mesh_of: MeshOf | None,
    progress: Progress,
) -> Iterator[StoredView]:
    """The usable views of a store, whose betas and rotations are the model's."""
    layer = ManoLayer(model)
    for i in range(len(store)):
        fields = {name: array[0] for name, array in store.read([i], _FIELDS).items()}
        masks = network.probability(
            Evidence(*(fields[n] for n in ("fine", "middle", "coarse")), *[np.zeros(0)] * 4)
        )
        _, focal = crop_poses(fields)
        for v in np.flatnonzero(fields["valid"]):
            true_mesh = _mesh(layer, fields, int(v))
            mesh = true_mesh if mesh_of is None else mesh_of(i, int(v))
            if mesh is None:
                continue
            owner = (fields["owner"][v] % _AMODAL == HAND + 1).astype(float)
            image, seen = fields["image"][v], fields["vertices_seen"][v]
            size, small = image.shape[0], owner.shape[0]
            uv, true_uv = (focal[v] * m[:, :2] / m[:, 2:] for m in (mesh, true_mesh))
            there = bilinear(owner, _pixels(true_uv, small))
            front = sample_skin(image, _pixels(true_uv, size), true_mesh, model.faces).weight > 0.2
            covered = front & ~seen & (there < 0.2)
            found = masks[v] > 0.5
            yield StoredView(
                instant=i,
                image=image,
                mesh=mesh,
                uv=_pixels(uv, size),
                found=bilinear(masks[v].astype(float), _pixels(uv, masks.shape[1])),
                true=bilinear(owner, _pixels(uv, small)),
                kinds={"visible": seen, "covered": covered, "hidden": ~seen & ~covered},
                overlap=(int((found & (owner > 0)).sum()), int((found | (owner > 0)).sum())),
                albedo=fields["albedo"].astype(float),
            )
        progress(i + 1, len(store), "texture")


def _mesh(layer: ManoLayer, fields: Mapping[str, NDArray[Any]], view: int) -> FloatArray:
    """The true mesh (V, 3) of a view, in the axes of its crop."""
    with torch.no_grad():
        hand = layer(*(torch.tensor(fields[n][view][None]) for n in ("rotations", "betas")))
    relative = (hand.vertices - hand.joints[:, :1])[0].double().numpy()
    return np.asarray(relative + fields["wrist"][view])


def _pixels(uv: FloatArray, size: int) -> FloatArray:
    """Places -1..1 from edge to edge as pixels of a picture of ``size`` x ``size``."""
    return (uv + 1) * (size / 2) - 0.5


def _errors(albedo: FloatArray, view: StoredView) -> dict[str, float]:
    """Mean absolute error by kind, NaN where there are too few vertices of it."""
    off = np.abs(albedo - view.albedo).mean(axis=1)
    return {
        kind: float(off[which].mean()) if which.sum() >= _FEWEST else float("nan")
        for kind, which in view.kinds.items()
    }


def _same_tone(albedo: FloatArray, view: StoredView) -> FloatArray:
    """The albedo times one number, which gives the visible vertices the true mean logarithm."""
    seen = view.kinds["visible"]
    if not seen.any():
        return albedo
    apart = np.log(np.maximum(view.albedo[seen], 1e-3)) - np.log(albedo[seen])
    return np.asarray(albedo * np.exp(apart.mean()))


def _means(errors: Mapping[str, list[dict[str, float]]]) -> dict[str, float]:
    """Errors and gains by their names in the report."""
    mean = {
        (name, kind): float(np.nanmean([row[kind] for row in rows]))
        for name, rows in errors.items()
        for kind in KINDS
    }

    def gain(suffix: str) -> float:
        with_it, without = (mean[n + suffix, "covered"] for n in ("mask", "no_mask"))
        return 100 * (1 - with_it / without)

    return {
        "texture_gain_percent": gain(""),
        "texture_gain_same_tone_percent": gain("_same_tone"),
        **{f"texture_{kind}_{name}": value for (name, kind), value in mean.items()},
    }
