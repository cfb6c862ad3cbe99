"""HaMeR's head on the landmark network's trunk: small enough for a CPU, trained on renders.

The same one-token decoder as in G. Pavlakos et al., Reconstructing Hands in 3D with Transformers
(CVPR 2024), but its tokens are what MediaPipe's landmark network knows of a crop
(`networks.evidence`): a place of its maps each, and a landmark each. The landmarks alone give a
first hand, which the decoder corrects.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.geometry.crop_camera import CROP, FOCAL, crop_translation, project_to_crop
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.evidence import COARSE, MIDDLE, Evidence
from hand_mesh_ros.networks.mano_decoder import (
    NUM_6D,
    ManoMean,
    ManoReadout,
    OneTokenDecoder,
    RawMano,
    flat_mean,
)
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.mano_layer import ManoLayer, PosedHands
from hand_mesh_ros.networks.mano_points import ManoPoints
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.networks.weight_files import misfits, read_weight_file

_POINTS = 21
_DECIMETRES = 10.0
PUBLISHED_FIELD = CROP / 2 / FOCAL
"""Half the crop's width over the focal length, of the camera that HaMeR takes for every crop."""


class Seen(NamedTuple):
    """What `HamerSmall` is shown of B crops: tensors of `Evidence`, and of the camera.

    field (B,): half the crop's width over the focal length (`CropBatch.field`).
    """

    middle: Tensor  # (B, 14, 14, 112)
    coarse: Tensor  # (B, 7, 7, 192)
    landmarks: Tensor  # (B, 21, 3)
    world: Tensor  # (B, 21, 3)
    presence: Tensor  # (B,)
    right: Tensor  # (B,)
    field: Tensor  # (B,)


@dataclass(frozen=True)
class HamerSmallConfig:
    """width: of the context's tokens. dim, depth, heads, dim_head, mlp_dim: the decoder's.

    hidden: inside the first guess. local: inside what moves a joint in the picture. dropped: share
    of the tokens that training hides from the decoder.
    """

    width: int = 128
    dim: int = 256
    depth: int = 3
    heads: int = 4
    dim_head: int = 32
    mlp_dim: int = 512
    hidden: int = 512
    local: int = 64
    dropped: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropped < 1:
            raise ValueError(f"dropped must be at least 0 and less than 1, not {self.dropped}")
        for one in fields(self):
            if one.name != "dropped" and getattr(self, one.name) < 1:
                raise ValueError(f"{one.name} must be at least 1")


class HamerSmall(nn.Module):
    """Evidence of B crops of right hands to a `Reconstruction` by `model`.

    Its weak perspective is of the crop's own camera (`Seen.field`). Its places in the crop are
    between the projected joints and the landmarks, which see fingers better than a whole hand
    can be fitted to them, but are not marked at the joints.
    """

    def __init__(
        self, model: HandModel, config: HamerSmallConfig | None = None, mean: ManoMean | None = None
    ) -> None:
        super().__init__()
        self.config = c = config or HamerSmallConfig()
        self.tokens = _Tokens(c.width)
        self.guess = _Guess(c.hidden, c.width)
        self.decoder = OneTokenDecoder(c.width, c.dim, c.depth, c.heads, c.dim_head, c.mlp_dim)
        self.norm = nn.LayerNorm(c.dim)
        self.readout = ManoReadout(c.dim, _usual() if mean is None else mean)
        self.places = _Places(c.width, c.dim, c.local)
        for last in (self.readout.decpose, self.readout.decshape, self.readout.deccam):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
        self.layer, self.points = ManoLayer(model), ManoPoints(model)

    def forward(self, seen: Seen) -> Reconstruction:
        return self.answer(seen)[0]

    def answer(self, seen: Seen, surface: bool = True) -> tuple[Reconstruction, Tensor]:
        """The answer, and where its joints are in the crop by its camera, -0.5..0.5 (B, 21, 2).

        Without `surface` it has no vertices (B, 0, 3), which takes a fifth of training's time.
        """
        guess, token = self.guess(seen)
        tokens = self.tokens(seen)
        shown = torch.cat([token[:, None], self.hidden(tokens)], dim=1)
        vector = self.norm(self.decoder(shown))
        raw = self.readout(vector).plus(guess)
        # In full precision: half has three digits, and a tenth of a millimetre is the fourth.
        with torch.autocast(vector.device.type, enabled=False):
            raw = raw.in_single_precision()
            rotations = rotations_from_6d(raw.pose6d)
            joints, vertices = self._hands(rotations, raw.betas, surface)
            focal = CROP / (2 * seen.field)
            cam_t = crop_translation(raw.cam, focal=focal)
            projected = project_to_crop(joints, cam_t, focal=focal[:, None, None])
        places = self.places(tokens[:, -_POINTS:], vector, projected, seen.landmarks)
        made = Reconstruction(rotations, raw.betas, raw.cam, cam_t, joints, vertices, places)
        return made, projected

    def hidden(self, tokens: Tensor) -> Tensor:
        """The tokens (B, T, width) that the decoder sees: in training, not all of them."""
        share = self.config.dropped
        if not (self.training and share):
            return tokens
        return tokens * (torch.rand_like(tokens[..., :1]) >= share)

    def _hands(self, rotations: Tensor, betas: Tensor, surface: bool) -> PosedHands:
        if surface:
            return self.layer(rotations, betas)
        # the wrist is where the shape has it, whatever the pose
        wrist = self.points.rest[0] + betas @ self.points.rest_dirs[0].mT
        joints = self.points(rotations, betas).joints + wrist[:, None]
        return PosedHands(joints, joints[:, :0])

    @property
    def notes(self) -> dict[str, Any]:
        """Kept beside the weights: the sizes, of which tensors do not show all."""
        return {"config": vars(self.config)}

    def weights(self) -> dict[str, Tensor]:
        return dict(self.state_dict())

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.load_state_dict(weights)


class _Tokens(nn.Module):
    """Evidence to tokens (B, 49 + 21, width), each kind by its own projection, with its place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        cells, self.fold = COARSE[0] ** 2, MIDDLE[0] // COARSE[0]
        self.maps = nn.Linear(COARSE[1] + MIDDLE[1] * self.fold**2, width)
        self.points = nn.Linear(MIDDLE[1] + COARSE[1] + 6, width)
        self.where = nn.Parameter(0.02 * torch.randn(1, cells + _POINTS, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, seen: Seen) -> Tensor:
        middle, coarse = seen.middle.permute(0, 3, 1, 2), seen.coarse.permute(0, 3, 1, 2)
        folded = functional.pixel_unshuffle(middle, self.fold)
        maps = self.maps(torch.cat([coarse, folded], dim=1).flatten(2).mT)
        at = seen.landmarks[:, None, :, :2]
        sampled = [
            functional.grid_sample(m, at, padding_mode="border", align_corners=False)[:, :, 0].mT
            for m in (middle, coarse)
        ]
        points = self.points(torch.cat([*sampled, seen.landmarks, _relative(seen.world)], dim=2))
        return functional.gelu(self.norm(torch.cat([maps, points], dim=1) + self.where))


class _Guess(nn.Module):
    """The landmark network's own answer to what is added to the mean hand, and a token."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Linear(6 * _POINTS + 3, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.token = nn.Linear(hidden, width)
        self.out = nn.Linear(hidden, NUM_6D + NUM_BETAS + 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, seen: Seen) -> tuple[RawMano, Tensor]:
        alone = torch.stack([seen.presence, seen.right, _DECIMETRES * seen.field], dim=1)
        points = torch.cat([seen.landmarks, _relative(seen.world)], dim=2)
        x = self.first(torch.cat([points.flatten(1), alone], dim=1))
        pose, betas, cam = self.out(x).split([NUM_6D, NUM_BETAS, 3], dim=1)
        return RawMano(pose.unflatten(1, (NUM_JOINTS, 6)), betas, cam), self.token(x)


def _usual() -> ManoMean:
    """A flat hand in a crop that is a quarter of a metre wide, as its regions are."""
    return flat_mean()._replace(cam=torch.tensor([8.0, 0.0, 0.0]))


class _Places(nn.Module):
    """Where joints are in the crop: from their tokens, the hand as a whole, and two opinions."""

    def __init__(self, width: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.joint = nn.Parameter(0.1 * torch.randn(_POINTS, hidden))
        self.of_hand = nn.Linear(dim, hidden)
        self.of_token = nn.Linear(width + 4, hidden)
        last = nn.Linear(hidden, 3)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.out = nn.Sequential(
            nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last
        )

    def forward(
        self, tokens: Tensor, vector: Tensor, projected: Tensor, landmarks: Tensor
    ) -> Tensor:
        """Places (B, 21, 2), -0.5..0.5; `projected` is so, `landmarks` (B, 21, 3) -1..1."""
        marked = landmarks[..., :2] / 2
        apart = marked - projected
        seen = torch.cat([tokens, 2 * _DECIMETRES * apart.detach(), 2 * marked], dim=2)
        x = self.out(self.of_token(seen) + self.of_hand(vector)[:, None] + self.joint)
        moved, share = x[..., :2] / _DECIMETRES, x[..., 2:].sigmoid()
        return (projected + share * apart + moved).float()


def _relative(world: Tensor) -> Tensor:
    return _DECIMETRES * (world - world[:, :1])


def seen_of_evidence(evidence: Evidence, field: NDArray[np.float64], device: str) -> Seen:
    """What is shown of N crops whose `Seen.field` is `field` (N,)."""
    arrays = {**evidence._asdict(), "field": field}
    return Seen(
        *(
            torch.from_numpy(np.ascontiguousarray(arrays[name], dtype=np.float32)).to(device)
            for name in Seen._fields
        )
    )


def open_hamer_small(path: Path, given: HandModel | None = None) -> tuple[HamerSmall, HandModel]:
    """The network of a run's `weights.safetensors`, and the right hand that it was trained with.

    That is the free hand, or else has to be the `given` one. Raises AssetError for a file that is
    absent, damaged, of another network or of a hand that is not at hand.
    """
    tensors, notes = read_weight_file(path)
    free = load_hand_model()
    wanted = str(notes.get("hand_model", free.model_id))
    model = next((m for m in (free, given) if m is not None and m.model_id == wanted), None)
    if model is None:
        raise AssetError(
            f"{path} was trained with the hand model {wanted!r}: give that one as the hand model"
        )
    sizes = notes.get("config")
    try:
        network = HamerSmall(model, HamerSmallConfig(**sizes) if isinstance(sizes, dict) else None)
    except (TypeError, ValueError) as error:
        raise AssetError(f"{path} is no file of HaMeR small: its sizes are {sizes}") from error
    if problems := misfits(network.weights(), tensors):
        raise AssetError(f"{path} is no file of HaMeR small:\n" + "\n".join(problems))
    network.load_weights(tensors)
    return network.eval(), model
