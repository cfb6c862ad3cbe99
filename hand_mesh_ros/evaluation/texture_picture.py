"""A picture of textures: what was seen, the textured hand over it and from elsewhere, albedo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hand_mesh_ros.geometry.cameras import look_at
from hand_mesh_ros.geometry.crops import crop_matrix, warp
from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.hand_texture import SkinMasks, view_colours
from hand_mesh_ros.perception.skin_texture import SkinTexture, skin_texture
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.render.shading import Surface, composite, draw
from hand_mesh_ros.render.sheet import contact_sheet
from hand_mesh_ros.types import Camera, FloatArray, HandSet, ImageArray, Side, View

COLUMNS = (
    "input", "taken for skin", "textured mesh", "from the side", "albedo", "other side",
    "without the mask",
)  # fmt: skip
_CELL = 240
_WIDER = 1.15  # what is shown over the region that the networks see
_PAPER = 244
_UNSEEN = np.array([0.16, 0.32, 0.75])  # linear, mixed into the albedo where nothing was seen
_ALPHA = 0.55


def texture_rows(
    hands: HandSet, models: Mapping[Side, HandModel], masks: SkinMasks
) -> tuple[list[list[ImageArray]], list[str]]:
    """Rows for the first hand of a set, with captions: by one view, and by all of several.

    Raises ValueError where no view with an image shows a hand.
    """
    seen = [v for v in hands.observed[0] if v.frame is not None] if hands.hands else []
    if not seen:
        raise ValueError("no view with an image shows a hand")
    hand = with_meshes(hands, models).hands[0].estimate
    assert hand.vertices is not None
    model, vertices = models[hand.side], hand.vertices
    masked, bare = (
        [view_colours(v, vertices, model.faces, hand.side, m) for v in seen] for m in (masks, None)
    )
    # the view that is covered most, as that is what masks are for
    kept = [
        m.weight.sum() / max(b.weight.sum(), 1e-9) for m, b in zip(masked, bare, strict=True)
    ]
    first = int(np.argmin(kept))
    rows, captions = [], []
    others = [i for i in range(len(seen)) if i != first]
    for which in [[first], *([[first, *others]] if others else [])]:
        texture = skin_texture(model, [masked[i] for i in which])
        unmasked = skin_texture(model, [bare[i] for i in which])
        share = f"{texture.observed.mean():.0%} of the surface observed, the rest completed"
        count = "one view" if len(which) == 1 else f"{len(which)} views"
        captions.append(f"{count}: {share} (blue)")
        rows.append(
            _row(seen[first], vertices, model, texture, masked[first].weight, unmasked)
        )
    return rows, captions


def texture_sheet(instants: Sequence[int] = (3, 4, 16)) -> ImageArray:
    """Rows of some instants of renders-v1's test part, as the landmark backend sees them.

    Raises AssetError if `hand-mesh fetch` has not been run.
    """
    from hand_mesh_ros.evaluation.texture_meshes import rendered_frames
    from hand_mesh_ros.perception.build import build_pipeline
    from hand_mesh_ros.perception.pipeline import PipelineSettings

    rows, captions, masks = [], [], SkinMasks()
    for number in instants:
        pipeline, models = build_pipeline(pipeline=PipelineSettings(max_hands=1))
        more, of_them = texture_rows(pipeline.process(rendered_frames(number)), models, masks)
        rows += more
        captions += of_them
    return contact_sheet(rows, COLUMNS, captions, cell_height=_CELL)


def _row(
    view: View, vertices: FloatArray, model: HandModel, texture: SkinTexture, weight: FloatArray,
    unmasked: SkinTexture,
) -> list[ImageArray]:  # fmt: skip
    """``weight`` (V,) of the vertices in the view, the first that made the ``texture``."""
    assert view.frame is not None
    camera = _crop_camera(view)
    matrix = crop_matrix([[*view.roi[:2], _WIDER * view.roi[2], 0.0]], _CELL)
    picture = warp(np.ascontiguousarray(view.frame.image), matrix, _CELL)[0]
    T = camera.T_camera_world
    normals = vertex_normals(vertices, model.faces) @ T[:3, :3].T
    radiance = texture.lit(0, normals)
    used = np.where(weight[:, None] > 0, np.array([0.05, 0.6, 0.12]), np.array([0.6, 0.06, 0.05]))
    marked = np.where(
        texture.observed[:, None], texture.albedo, (1 - _ALPHA) * texture.albedo + _ALPHA * _UNSEEN
    )
    middle = vertices.mean(0)
    side = _around(camera, middle, 75.0)
    behind = _around(camera, middle, 180.0)

    def shown(colours: FloatArray, by: Camera, canvas: ImageArray | None = None) -> ImageArray:
        if canvas is None:
            canvas = np.full((_CELL, _CELL, 3), _PAPER, np.uint8)
        surface = Surface(vertices, model.faces, colours, np.zeros(len(vertices)))
        composite(canvas, draw(by, surface, colours, supersample=3))
        return canvas

    over = shown(used, camera, picture.copy())
    return [
        picture,
        np.asarray((0.5 * picture + 0.5 * over).astype(np.uint8)),
        shown(radiance, camera, picture.copy()),
        shown(radiance, side),
        shown(marked, camera),
        shown(marked, behind),
        shown(unmasked.albedo, camera),
    ]


def _crop_camera(view: View) -> Camera:
    """The view's camera, as if its picture were the upright region alone, enlarged."""
    u, v, size = view.roi[:3] * [1, 1, _WIDER]
    factor = _CELL / size
    K = view.camera.K.copy()
    K[:2, 2] -= [u - size / 2, v - size / 2]
    K[:2] *= factor
    K[:2, 2] += (factor - 1) / 2
    return replace(view.camera, K=K, width=_CELL, height=_CELL)


def _around(camera: Camera, middle: FloatArray, degrees: float) -> Camera:
    """An undistorted camera that went so far around the hand, about the picture's vertical axis."""
    R, centre = camera.T_camera_world[:3, :3], camera.centre
    angle = np.deg2rad(degrees)
    away = R @ (centre - middle)
    turned = np.array([
        np.cos(angle) * away[0] + np.sin(angle) * away[2],
        away[1],
        -np.sin(angle) * away[0] + np.cos(angle) * away[2],
    ])  # fmt: skip
    T = look_at(middle + R.T @ turned, middle, -R[1])
    focal = 0.92 * _CELL / 0.22 * float(np.linalg.norm(away))
    K = np.array([[focal, 0, (_CELL - 1) / 2], [0, focal, (_CELL - 1) / 2], [0, 0, 1]])
    return Camera("around", _CELL, _CELL, K, T_camera_world=T)
