"""Textures of tracked hands: what their views show, masked and gathered track by track."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.crops import crop_matrix, invert_affine, transform_points, warp
from hand_mesh_ros.geometry.rotations import transform_points as moved
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.skin_colours import SkinColours, bilinear, sample_skin
from hand_mesh_ros.perception.skin_texture import SkinTexture, skin_texture
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.types import FloatArray, HandSet, Side, View

if TYPE_CHECKING:
    from hand_mesh_ros.networks.evidence import EvidenceNetwork
    from hand_mesh_ros.networks.hand_mask import HandMask

_CROP: Final = 224
_MOST_TRACKS: Final = 8


class SkinMasks:
    """Where crops show the hand itself: the landmark network's evidence, then `HandMask`.

    The networks are opened when the first crop is asked about. Raises AssetError then, if
    `hand-mesh fetch` has not been run.
    """

    @cached_property
    def _networks(self) -> tuple[EvidenceNetwork, HandMask]:
        from hand_mesh_ros.networks.evidence import EvidenceNetwork
        from hand_mesh_ros.networks.hand_mask import load_hand_mask

        return EvidenceNetwork(), load_hand_mask()

    def __call__(
        self, crops: NDArray[np.uint8], left: NDArray[np.bool_]
    ) -> NDArray[np.floating]:
        """Probabilities (N, 56, 56) of crops (N, 224, 224, 3), some of them of left hands (N,)."""
        evidence, mask = self._networks
        flip = left[:, None, None, None]
        right_hands = np.where(flip, crops[:, :, ::-1], crops)
        found = mask.probability(evidence(np.ascontiguousarray(right_hands)))
        return np.where(flip[..., 0], found[:, :, ::-1], found)


def view_colours(
    view: View, vertices: FloatArray, faces: NDArray[np.integer], side: Side,
    masks: SkinMasks | None,
) -> SkinColours:  # fmt: skip
    """What a view with an image shows of a hand's skin; its ``vertices`` (V, 3) in the world.

    Without ``masks``, whatever is before the hand is taken for its skin.
    Colours are taken from a crop of the view's region, as large as the mask network's: a closer
    look would tell more of a vertex than it has to itself.
    """
    assert view.frame is not None
    matrix = crop_matrix(view.roi, _CROP)
    crop = warp(np.ascontiguousarray(view.frame.image), matrix, _CROP)
    uv = transform_points(invert_affine(matrix), project(view.camera, vertices)[None])[0]
    points = moved(view.camera.T_camera_world, vertices)
    skin = None
    if masks is not None:
        mask = masks(crop, np.array([side == "left"]))[0]
        skin = bilinear(mask, (np.nan_to_num(uv) + 0.5) * (len(mask) / _CROP) - 0.5)
    return sample_skin(crop[0], uv, points, faces, skin)


@dataclass(frozen=True)
class Textured:
    """The texture of a track, and the hand it belongs to: the newest of its ``pictures``' count."""

    track_id: int
    side: Side
    betas: FloatArray
    stamp_ns: int
    pictures: int
    texture: SkinTexture


@dataclass(eq=False)
class _Gathered:
    side: Side
    betas: FloatArray
    stamp_ns: int
    pictures: list[SkinColours]
    turn: int = 0
    texture: SkinTexture | None = None


class HandTextures:
    """Gathers pictures of hands and tells their textures; of one thread.

    Of each track the ``keep`` pictures are kept that together tell most, and of at most eight
    tracks, those seen last.
    """

    def __init__(
        self, models: Mapping[Side, HandModel], keep: int = 6, masks: SkinMasks | None = None
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: a texture needs one picture at least")
        self._models, self._keep = models, keep
        self._masks = masks or SkinMasks()
        self._tracks: OrderedDict[int, _Gathered] = OrderedDict()

    def add(self, hands: HandSet, views: int | None = None) -> tuple[int, ...]:
        """Look at the hands of a set, each in all of its views with images, or in so many ``views``

        of them, in turn. Returns the tracks that something was learned of.
        """
        learned = []
        meshed = with_meshes(hands, self._models).hands
        for hand, seen in zip(meshed, hands.observed, strict=False):
            usable = [v for v in seen if v.frame is not None and v.frame.image.size]
            estimate = hand.estimate
            if not usable or estimate.vertices is None:
                continue
            track = self._track(hand.track_id, estimate.side, estimate.mano.betas, hands.stamp_ns)
            chosen = _in_turn(usable, track.turn, views)
            track.turn += len(chosen)
            faces = self._models[estimate.side].faces
            for view in chosen:
                colours = view_colours(view, estimate.vertices, faces, track.side, self._masks)
                track.pictures = most_telling([*track.pictures, colours], self._keep)
            track.texture = None
            learned.append(hand.track_id)
        return tuple(learned)

    def textured(self, track_id: int) -> Textured:
        """The texture of one of `track_ids`, as far as it is known; KeyError for another."""
        track = self._tracks[track_id]
        if track.texture is None:
            track.texture = skin_texture(self._models[track.side], track.pictures)
        return Textured(
            track_id, track.side, track.betas, track.stamp_ns, len(track.pictures), track.texture
        )

    @property
    def track_ids(self) -> tuple[int, ...]:
        """Tracks that something is known of, those seen last in the end."""
        return tuple(self._tracks)

    def _track(self, track_id: int, side: Side, betas: FloatArray, stamp_ns: int) -> _Gathered:
        track = self._tracks.get(track_id)
        if track is None or track.side != side:
            track = self._tracks[track_id] = _Gathered(side, betas, stamp_ns, [])
        track.betas, track.stamp_ns = betas, stamp_ns
        self._tracks.move_to_end(track_id)
        while len(self._tracks) > _MOST_TRACKS:
            self._tracks.popitem(last=False)
        return track


def most_telling(pictures: Sequence[SkinColours], keep: int) -> list[SkinColours]:
    """Those ``keep`` pictures, in their order, that tell most of all vertices together.

    What a vertex is told grows with the logarithm of its weights' sum, as information does: a first
    sight of it counts for more than a better one. The least missed picture goes first.
    """
    kept = list(pictures)
    while len(kept) > keep:
        weights = np.stack([p.weight for p in kept])
        without = np.log1p(4 * (weights.sum(0) - weights)).sum(1)
        del kept[int(np.argmax(without))]
    return kept


def _in_turn(views: Sequence[View], turn: int, count: int | None) -> list[View]:
    if count is None or count >= len(views):
        return list(views)
    return [views[(turn + i) % len(views)] for i in range(count)]
