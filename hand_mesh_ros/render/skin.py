"""Skin of many people from a few numbers: tone, unevenness, nails, and where nails and folds are.

All of it is painted in the hand model's rest pose; nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_mesh_ros.hand.layout import FINGERS, MANO_FINGERS
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.types import FloatArray

_NAIL = (0.0071, 0.0056)  # half length and half width, metres
_NAIL_SCALE = {"thumb": 1.35, "index": 1.0, "middle": 1.05, "ring": 1.0, "little": 0.8}
# Even skin of a model without colours, linear light.
_PLAIN = np.array([0.55, 0.33, 0.24])
# How the exponent of each colour grows with pigment: from pale to dark brown, by eye. Haemoglobin
# and melanin absorb blue most, so that pale skin changes most in red.
PIGMENT = np.array([1.55, 0.86, 0.63])


def base_albedo(model: HandModel) -> FloatArray:
    """The linear albedo (V, 3) of the model's own skin, even where it brings none."""
    return np.tile(_PLAIN, (model.num_vertices, 1)) if model.albedo is None else model.albedo


@dataclass(frozen=True, slots=True, eq=False)
class SkinLook:
    """``melanin``: 1 is the model's own tone, below paler, above darker; ``tint`` (3,)

    multiplies it. ``nail`` (3,) linear colour that ``nail_share`` of a nail shows. ``mottle``,
    ``bump``, ``freckles`` and ``gloss`` are strengths; ``shift`` (3,) m moves the noise, so that
    no two people share their spots.
    """

    melanin: float
    tint: FloatArray
    nail: FloatArray
    nail_share: float
    mottle: float
    bump: float
    freckles: float
    gloss: float
    shift: FloatArray

    def albedo(self, model: HandModel) -> FloatArray:
        """Linear albedo (V, 3). More pigment passes light through the same filter more often

        (Beer and Lambert), so that tones are powers of one another and the palm stays paler.
        """
        base = base_albedo(model)
        return np.clip(base ** (1 + PIGMENT * (self.melanin - 1)) * self.tint, 0.005, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Hand shape ``betas`` (10,), skin, and clothes: ``cloth`` and ``stripe`` (3,) linear, the

    share of the ``sleeve`` drawn back (0 a cuff at the wrist, 1 a bare arm).
    """

    betas: FloatArray
    skin: SkinLook
    cloth: FloatArray
    stripe: FloatArray
    stripes: FloatArray
    striped: float
    sleeve: float


def random_person(seed: int) -> Person:
    """Shape, skin and clothes of a person, by a seed."""
    rng = np.random.default_rng([seed, 29])
    melanin = float(rng.choice([rng.uniform(0.68, 1.05), rng.uniform(1.05, 2.1)], p=[0.6, 0.4]))
    polished = rng.random() < 0.15
    natural = np.array([0.70, 0.46, 0.39]) ** (0.7 + 0.3 * melanin)
    paint = rng.uniform(0.02, 0.75, 3)
    skin = SkinLook(
        melanin=melanin,
        tint=np.array([1.0, rng.uniform(0.9, 1.06), rng.uniform(0.85, 1.06)])
        * rng.uniform(0.9, 1.08),
        nail=paint if polished else natural,
        nail_share=0.95 if polished else rng.uniform(0.3, 0.6),
        mottle=rng.uniform(0.08, 0.2),
        bump=rng.uniform(0.05, 0.16),
        freckles=rng.uniform(0.3, 0.9) * float(rng.random() < 0.15),
        gloss=rng.uniform(0.03, 0.14),
        shift=rng.uniform(0.0, 1.0, 3),
    )
    frequency = 2 * np.pi / rng.uniform(0.006, 0.05)
    return Person(
        betas=np.clip(rng.normal(0, 1.0, 10), -2.2, 2.2),
        skin=skin,
        cloth=rng.uniform(0.02, 0.6, 3) ** rng.uniform(0.8, 1.6),
        stripe=rng.uniform(0.02, 0.7, 3),
        stripes=frequency * rng.choice([0.0, 1.0], (3,), p=[0.4, 0.6]),
        striped=float(rng.random() < 0.35),
        sleeve=float(rng.choice([0.0, rng.uniform(0, 1), 1.0], p=[0.45, 0.2, 0.35])),
    )


@lru_cache(maxsize=4)
def nails(model: HandModel) -> FloatArray:
    """Frames (5, 4, 3) of a right model's nails in its rest pose: centre, then the directions

    along, across and up; the first two in units of the half axes, one over metres.
    """
    joints = model.J_regressor @ model.v_template
    normals = _normals(model)
    out = []
    for k, finger in enumerate(FINGERS):
        last = joints[3 + 3 * MANO_FINGERS.index(finger)]
        tip = model.v_template[model.tips[k]]
        axis = tip - last
        axis /= np.linalg.norm(axis)
        half = _NAIL_SCALE[finger] * np.array(_NAIL)
        # The back of the finger is where the skin faces up most, halfway along the nail.
        near = np.linalg.norm(model.v_template - (tip - 0.5 * half[0] * axis), axis=1) < 0.012
        up = (normals * (near * np.clip(normals[:, 1], 0, None) ** 2)[:, None]).sum(axis=0)
        up -= (up @ axis) * axis
        up /= np.linalg.norm(up)
        centre = tip - 0.55 * half[0] * axis
        out.append([centre, axis / half[0], np.cross(axis, up) / half[1], up])
    return np.array(out)


@lru_cache(maxsize=4)
def folds(model: HandModel) -> FloatArray:
    """Centres and bone directions (14, 2, 3) of the knuckles of a right model's fingers."""
    joints = model.J_regressor @ model.v_template
    pairs = [(1 + 3 * f + k, 1 + 3 * f + k - 1) for f in range(5) for k in (1, 2)]
    return np.array(
        [[joints[j], (joints[j] - joints[i]) / np.linalg.norm(joints[j] - joints[i])]
         for j, i in pairs]
    )  # fmt: skip


def _normals(model: HandModel) -> FloatArray:
    from hand_mesh_ros.geometry.meshes import vertex_normals

    return vertex_normals(model.v_template, model.faces)
