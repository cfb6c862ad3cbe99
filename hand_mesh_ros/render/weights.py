"""Rendering with gradients, inside the mask: what a pixel shows as a function of the vertices.

The z-buffer says which face each pixel sees; that choice has no gradient. Where on the face the
pixel's ray meets it has: `barycentric` computes it anew with torch. Gradients of silhouettes, which
moving outlines would need, are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def barycentric(
    uv: torch.Tensor, depth: torch.Tensor, faces: torch.Tensor, face_ids: torch.Tensor
) -> torch.Tensor:
    """Perspective-correct weights (H, W, 3) of the corners of the face that each pixel sees.

    ``uv`` (V, 2) pixels and ``depth`` (V,) m may need gradients; ``faces`` (F, 3); ``face_ids``
    (H, W), -1 for background, where the weights are 0.
    """
    import torch

    height, width = face_ids.shape
    seen = face_ids >= 0
    row, column = torch.nonzero(seen, as_tuple=True)
    pixel = torch.stack([column, row], dim=1).to(uv.dtype)
    corner = faces.long()[face_ids[seen].long()]
    a, b, c = (uv[corner[:, k]] for k in range(3))
    screen = torch.stack([_edge(b, c, pixel), _edge(c, a, pixel), _edge(a, b, pixel)], dim=1)
    # Affine in the pixel are the weights over the depth, not the weights (perspective).
    weights = screen / depth[corner]
    weights = weights / weights.sum(dim=1, keepdim=True)
    out = uv.new_zeros((height, width, 3))
    return out.index_put((row, column), weights)


def interpolate(
    weights: torch.Tensor, attribute: torch.Tensor, faces: torch.Tensor, face_ids: torch.Tensor
) -> torch.Tensor:
    """Per-vertex ``attribute`` (V, C) at the pixels, (H, W, C), 0 on background."""
    seen = face_ids.clamp(min=0).long()
    return (weights[..., None] * attribute[faces.long()[seen]]).sum(dim=-2)


def _edge(a: torch.Tensor, b: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Twice the signed area of (a, b, p), (N,)."""
    ab, ap = b - a, p - a
    return ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]
