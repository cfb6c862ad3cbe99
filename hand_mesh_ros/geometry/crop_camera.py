"""Weak perspective of a crop (s, tx, ty) to places in front of a camera. NumPy or torch.

HaMeR's and WiLoR's convention: the crop is `CROP` pixels wide and seen by a camera of `FOCAL`
pixels, whose axis goes through its middle. There the hand is at (tx, ty, 2 FOCAL / (CROP s)), so
that the crop is about 2/s metres wide. Only the picture's size and place are in it, not a
distance: with another camera the hand is where it makes the same picture.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hand_mesh_ros.geometry.arrays import AnyArray, like, namespace

CROP: Final = 256
"""Width and height of the networks' crops, pixels."""
FOCAL: Final = 5000.0
"""Focal length of the camera that the networks see crops by, pixels of the crop."""
_TINY: Final = 1e-9  # in the published formulas, and there for a scale of zero


def crop_translation(cam: AnyArray, size: float = CROP, focal: AnyArray = FOCAL) -> AnyArray:
    """Where hands with weak perspective (..., 3) are before the crop's own camera: (..., 3), m.

    focal: pixels of the crop, one or (...,).
    """
    xp = namespace(cam)
    depth = 2 * focal / (size * cam[..., 0] + _TINY)
    return xp.stack([cam[..., 1], cam[..., 2], depth], axis=-1)


def project_to_crop(
    points: AnyArray, translation: AnyArray, size: float = CROP, focal: AnyArray = FOCAL
) -> AnyArray:
    """Points (..., P, 3) moved by (..., 3), m, in the crop: (..., P, 2), -0.5..0.5 edge to edge.

    focal: pixels of the crop, one or (..., 1, 1).
    """
    moved = points + translation[..., None, :]
    return (focal / size) * moved[..., :2] / moved[..., 2:]


def crop_to_pixels(xy: AnyArray, centres: AnyArray, sides: AnyArray) -> AnyArray:
    """Places (..., P, 2) of `project_to_crop` in image pixels, for crops' centres (..., 2) and
    sides (...,) there; of crops that were mirrored, mirror `xy` first (negate x)."""
    return xy * sides[..., None, None] + centres[..., None, :]


def mirrored_camera(cam: AnyArray, mirrored: AnyArray) -> AnyArray:
    """Weak perspective (..., 3) of crops that were mirrored where `mirrored` (...,) says so,
    as that of the picture before: tx the other way."""
    xp = namespace(cam)
    return xp.stack([cam[..., 0], xp.where(mirrored, -cam[..., 1], cam[..., 1]), cam[..., 2]], -1)


def full_translation(
    cam: AnyArray, centres: AnyArray, sides: AnyArray, intrinsics: AnyArray
) -> AnyArray:
    """Where hands (..., 3), m, are in the axes of the camera whose image the crops are of.

    cam: (..., 3) weak perspective, not mirrored. centres (..., 2), sides (...,): the crops in
    image pixels. intrinsics: K (..., 3, 3), of any focal lengths, skew and principal point; that
    of the image without distortion, as the centres have to be.
    The hand's wrist-relative points plus this make the picture that the crop's camera saw, to
    first order. The depth is that of a hand of the network's own size; where fx differs from fy
    no depth suits both ways, and the geometric mean of the two is taken.
    With `published_intrinsics` this is the published conversion.
    """
    xp = namespace(cam)
    K = like(intrinsics, cam)
    A, principal = K[..., :2, :2], K[..., :2, 2]
    focal = xp.sqrt(A[..., 0, 0] * A[..., 1, 1])
    width = sides * cam[..., 0] + _TINY  # pixels of two metres' width
    depth = 2 * focal / width
    # the model's origin is seen half a crop times (tx, ty) s from the crop's middle
    offset = centres - principal + (width / 2)[..., None] * cam[..., 1:]
    y = offset[..., 1] / A[..., 1, 1]
    x = (offset[..., 0] - A[..., 0, 1] * y) / A[..., 0, 0]
    return xp.stack([x * depth, y * depth, depth], axis=-1)


def published_focal(image_size: ArrayLike) -> NDArray[np.float64]:
    """The focal lengths (...,), pixels, that the published demos take for images (..., 2) = W, H.

    `FOCAL` for a crop the size of the image: a lens of three degrees, and hands many metres away.
    """
    return np.asarray(np.asarray(image_size, dtype=np.float64).max(-1) * (FOCAL / CROP))


def published_intrinsics(
    image_size: ArrayLike, focal: ArrayLike | None = None
) -> NDArray[np.float64]:
    """K (..., 3, 3) as the published demos have it: one focal length, the axis at (W/2, H/2)."""
    size = np.asarray(image_size, dtype=np.float64)
    f = published_focal(size) if focal is None else np.broadcast_to(focal, size.shape[:-1])
    K = np.zeros((*size.shape[:-1], 3, 3))
    K[..., 0, 0] = K[..., 1, 1] = f
    K[..., :2, 2] = size / 2
    K[..., 2, 2] = 1
    return K
