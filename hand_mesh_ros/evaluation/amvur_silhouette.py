"""A hand moved until its outline is where a mask has it, and what a mask says and does not say.

Masks are of crops, `SIZE` x `SIZE` pixels. A pixel that does not show the hand says that the hand
is not there only where nothing could cover it; elsewhere it is unknowable and does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hand_mesh_ros.evaluation.amvur_movable import NUMBERS, MovableHands, Placed
from hand_mesh_ros.geometry.crops import transform_points
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.networks.amvur_prior import place
from hand_mesh_ros.networks.evidence import CROP
from hand_mesh_ros.networks.hand_mask import SIZE
from hand_mesh_ros.render.rasteriser import rasterise
from hand_mesh_ros.render.scenes import HAND

Array = NDArray[np.float64]
Gradients = Literal["inside", "outline"]

AMODAL: Final = 128  # added to owners where the whole hand is, see `render.labels`
STEPS: Final = 40
_RATE = 0.1
# Half the inverse variance of a pixel, whose neighbours err together: chosen on `validation`.
_WEIGHT = 0.05
_FLESH = 0.09  # of a finger's bone to beyond its skin, decimetres
_ALONG = 5  # points of a bone


class Mask(NamedTuple):
    """Of N crops: whether pixels show the ``hand`` (N, S, S), 0 or 1, and how much that counts,

    ``known`` (N, S, S) 0..1.
    """

    hand: Array
    known: Array


def true_mask(owner: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Mask:
    """Of ``owner`` (N, S, S), as stores have it: what shows the hand, what the background.

    All else may cover the hand, its own arm, too. ``inside``: pixels within the picture.
    """
    whose = owner % AMODAL
    hand = whose == HAND + 1
    return Mask(hand.astype(float), (inside & (hand | (whose == 0))).astype(float))


def network_mask(
    probability: NDArray[np.floating], inside: NDArray[np.bool_], hands: MovableHands
) -> Mask:
    """What a robot has: the mask network's ``probability`` (N, S, S), and what AMVUR tells.

    The network does not tell what covers a hand from what is behind it. Where AMVUR says that a
    joint is hidden, pixels without hand that are as near to its bones as flesh and the sigma of
    their places let the hand be are unknowable. Others count by how sure the network is.
    """
    hand = probability > 0.5
    known = inside & (hand | ~near_hidden(hands))
    return Mask(hand.astype(float), known * np.abs(2.0 * probability - 1))


def near_hidden(hands: MovableHands) -> NDArray[np.bool_]:
    """Pixels (N, S, S) where hidden parts of the hands may be, as AMVUR answers."""
    uv = place(hands.joints, hands.camera, hands.focal)
    told = torch.cat([uv, hands.known.uv_sigma[..., None], hands.known.visible[..., None]], dim=-1)
    share = torch.linspace(0, 1, _ALONG)[:, None]
    first, last = (told[:, [bone[end] for bone in BONES], None] for end in (0, 1))
    points = ((1 - share) * first + share * last).flatten(1, 2).double().numpy()
    size = hands.camera[:, 0].exp().double().numpy()
    at = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    reach = np.where(points[..., 3] < 0.5, points[..., 2] + _FLESH * size[:, None], -1.0)
    reach = reach[:, None, None]
    across = at[None, None, :, None] - points[:, None, None, :, 0]
    down = at[None, :, None, None] - points[:, None, None, :, 1]
    return np.asarray(((np.hypot(across, down) < reach) & (reach > 0)).any(-1))


def inside_picture(
    matrix: Array, left: NDArray[np.bool_], width: int, height: int
) -> NDArray[np.bool_]:
    """Pixels (N, S, S) of crops that lie in their pictures; beyond, crops repeat the border.

    ``matrix`` (N, 2, 3) and ``left`` (N,), whether a crop is mirrored, as stores have them.
    """
    at = (np.arange(SIZE) + 0.5) * CROP / SIZE - 0.5
    pixels = np.stack(np.meshgrid(at, at), axis=-1).reshape(1, -1, 2)
    found = transform_points(matrix, pixels)
    within = ((found > -0.5) & (found < [width - 0.5, height - 0.5])).all(-1)
    within = within.reshape(-1, SIZE, SIZE)
    return np.where(left[:, None, None], within[..., ::-1], within)


def covered(placed: Placed, faces: NDArray[np.integer], size: int = SIZE) -> NDArray[np.bool_]:
    """Pixels (N, size, size) of the crops that meshes cover."""
    pixels = _pixels(placed.uv.detach(), size).double().numpy()
    depth = placed.depth.detach().double().numpy()
    drawn = [rasterise(p, d, faces, size, size).mask for p, d in zip(pixels, depth, strict=True)]
    return np.stack(drawn)


def refined(
    hands: MovableHands,
    mask: Mask,
    faces: NDArray[np.integer],
    gradients: Gradients,
    tick: Callable[[], None],
    steps: int = STEPS,
) -> Tensor:
    """Numbers (N, 51) of the hands whose drawn silhouettes are most like a mask, a posteriori.

    Adam on half their squares, which is the network's own word, and squared differences of pixels.
    ``gradients``: of the z-buffer's insides alone, of which an even silhouette has none, or DEODR's
    of outlines, too. Raises ModuleNotFoundError without DEODR for those.
    """
    drawn = {"inside": _inside, "outline": _outline}[gradients]
    hand, known = (torch.from_numpy(np.asarray(x)) for x in mask)
    numbers = torch.zeros(len(hands), NUMBERS, requires_grad=True)
    # The numbers' own gradients are about 1: smaller ones than this are rounding, not to be scaled.
    optimiser = torch.optim.Adam([numbers], lr=_RATE, eps=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)
    for _ in range(steps):
        placed = hands(numbers)
        pixels = _pixels(placed.uv, SIZE).double()
        shown = [drawn(*each, faces) for each in zip(pixels, placed.depth.double(), strict=True)]
        off = (known * (torch.stack(shown) - hand).square()).sum()
        loss = 0.5 * numbers.square().sum() + _WEIGHT * off
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        tick()
    return numbers.detach()


def need_outlines() -> None:
    """Raises ModuleNotFoundError, which says what to install, without DEODR."""
    corners = torch.tensor([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0]], dtype=torch.float64)
    _outline(corners, torch.ones(3, dtype=torch.float64), np.arange(3)[None])


def _outline(uv: Tensor, depth: Tensor, faces: NDArray[np.integer]) -> Tensor:
    from hand_mesh_ros.render.silhouette import draw

    return draw(uv, depth, faces, _white(uv), SIZE, SIZE)[..., 0]


def _inside(uv: Tensor, depth: Tensor, faces: NDArray[np.integer]) -> Tensor:
    from hand_mesh_ros.render.weights import barycentric, interpolate

    found = rasterise(uv.detach().numpy(), depth.detach().numpy(), faces, SIZE, SIZE)
    ids, corners = torch.from_numpy(found.face_ids), torch.tensor(np.array(faces))
    weights = barycentric(uv, depth, corners, ids)
    return interpolate(weights, _white(uv), corners, ids)[..., 0]


def _white(uv: Tensor) -> Tensor:
    return torch.ones(len(uv), 1, dtype=torch.float64)


def _pixels(uv: Tensor, size: int) -> Tensor:
    """Places -1..1 from edge to edge as pixels of a picture of ``size`` x ``size``."""
    return (uv + 1) * (size / 2) - 0.5
