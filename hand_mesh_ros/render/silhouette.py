"""Pictures with gradients across the outline too, by DEODR (`pip install deodr trimesh`; optional).

DEODR (de La Gorce et al., 2011) smooths the outline of a mesh analytically, on the CPU, so that a
picture's error says where an outline should move. `weights` is faster and needs nothing more,
where gradients inside of the mask are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


def draw(
    uv: torch.Tensor, depth: torch.Tensor, faces: NDArray[np.integer], colours: torch.Tensor,
    width: int, height: int, *, softness: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """The mesh before black, (height, width, C) double; gradients reach ``uv`` and ``colours``.

    ``uv`` (V, 2) pixels, ``depth`` (V,) m, ``faces`` (F, 3) counter-clockwise from outside,
    ``colours`` (V, C); the outline is ``softness`` pixels wide. Faces that turn away are left
    out. Raises ``ModuleNotFoundError`` without DEODR.
    """
    import torch

    class Drawn(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, uv: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
            scene = _scene(
                uv.detach().cpu().double().numpy(), depth.detach().cpu().double().numpy(),
                np.asarray(faces), colours.detach().cpu().double().numpy(), width, height,
            )  # fmt: skip
            image, _ = scene.render(softness)
            ctx.scene, ctx.like = scene, (uv, colours)
            return torch.from_numpy(image)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scene, (uv, colours) = ctx.scene, ctx.like
            scene.clear_gradients()
            scene.render_backward(np.ascontiguousarray(gradients[0].double().numpy()))
            return (
                torch.from_numpy(scene.ij_b).to(uv), torch.from_numpy(scene.colors_b).to(colours),
            )  # fmt: skip

    drawn: torch.Tensor = Drawn.apply(uv, colours)
    return drawn


def _scene(
    uv: Array, depth: Array, faces: NDArray[np.integer], colours: Array, width: int, height: int
) -> Any:
    try:
        from deodr.differentiable_renderer import Scene2D  # type: ignore[import-untyped]
    except (ModuleNotFoundError, NameError) as error:  # it names trimesh without importing it
        raise ModuleNotFoundError(
            "outlines with gradients need DEODR: pip install deodr trimesh"
        ) from error
    # DEODR turns faces clockwise on the screen to the front.
    count = len(faces)
    none = np.zeros(count, dtype=bool)
    front = np.ascontiguousarray(faces, dtype=np.uint32)
    return Scene2D(
        faces=front, faces_uv=front, ij=np.ascontiguousarray(uv), depths=depth, textured=none,
        uv=np.zeros((len(uv), 2)), shade=np.zeros(len(uv)), colors=np.ascontiguousarray(colours),
        shaded=none, edgeflags=_outline(uv, front), height=height, width=width,
        nb_colors=colours.shape[1], texture=np.zeros((0, 0, colours.shape[1])),
        background_image=np.zeros((height, width, colours.shape[1])), clockwise=False,
        backface_culling=True,
    )  # fmt: skip


def _outline(uv: Array, faces: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Edges (F, 3), of corners 0-1, 1-2 and 2-0, that no other face on the same side shares."""
    a, b, c = (uv[faces[:, k]] for k in range(3))
    facing = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0
    start, end = faces.astype(np.int64), np.roll(faces.astype(np.int64), -1, axis=1)
    size = int(faces.max()) + 1
    own, opposite = start * size + end, end * size + start
    shared = np.isin(opposite, own[facing])
    return facing[:, None] & ~shared
