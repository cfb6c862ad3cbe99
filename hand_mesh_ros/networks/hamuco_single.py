"""HaMuCo's single-view estimators: the published one on a ResNet, a small one on evidence.

Both give one hand for each crop (`SingleViews`) and the maps that the cross-view network looks at.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.networks.evidence import COARSE, MIDDLE

POSE = 6 * NUM_JOINTS
ZERO_POSE = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(NUM_JOINTS)


class RawHands(NamedTuple):
    """N hands as a network's numbers: `pose6d` (N, 96), `betas` (N, 10), `camera` (N, 3).

    Six numbers a joint are the first two columns of its total rotation (the published network has
    the same six in another order). The camera is the logarithm of the scale and the wrist's place
    (`place_hands`); published is the scale itself behind a ReLU, which has no gradient once dead.
    """

    pose6d: Tensor
    betas: Tensor
    camera: Tensor


class SingleViews(NamedTuple):
    """What one view says. `sure` (N, 21): how far each joint is to be believed, positive.

    maps: `fine` ones (N, C, h, w) to sample at joints and the `deep` one (N, C, h, w).
    """

    raw: RawHands
    sure: Tensor
    fine: tuple[Tensor, ...]
    deep: Tensor


class SingleView(Protocol):
    """``sampled`` and ``deep`` are the channels of all fine maps together and of the deep one,

    ``cells`` how many cells the deep one has.
    """

    sampled: int
    deep: int
    cells: int

    def __call__(self, *inputs: Tensor) -> SingleViews: ...


def place_hands(joints: Tensor, camera: Tensor, field: Tensor | None = None) -> Tensor:
    """Where points (N, P, 3), m relative to the wrist, are in the crop (N, P, 2), -1..1.

    Near the wrist, at (tx, ty), a decimetre is `exp(s)` half-widths. `field` (N,), half the crop's
    width over its focal length, makes it the perspective of a calibrated camera, nearer points
    larger; None is the published weak perspective.
    """
    scale = 10 * camera[:, :1, None].exp()
    flat = scale * joints[..., :2] + camera[:, None, 1:]
    if field is None:
        return flat
    depth = 1 + scale * joints[..., 2:] * field[:, None, None]
    return flat / depth.clamp(min=0.3)


def sample_at(maps: tuple[Tensor, ...], uv: Tensor) -> Tensor:
    """Features (N, P, C) of maps (N, C, h, w) at places (N, P, 2) of the crop, -1..1.

    JFS: joint features, published with align_corners on maps; here the crop's edge is the maps'.
    """
    grid = uv[:, :, None]
    found = [
        nn.functional.grid_sample(m, grid, padding_mode="border", align_corners=False)[..., 0]
        for m in maps
    ]
    return torch.cat(found, dim=1).transpose(1, 2)


class ResNetSingleView(nn.Module):
    """As published: ResNet's last map, averaged, and three independent heads.

    12.0 M parameters with ResNet-18; without the published mean pose of MANO, about which the
    rotations here are not. Views are equally sure.
    `weights`: the backbone's file, None for the one in the cache; "" leaves it untrained.
    """

    def __init__(self, backbone: str = "resnet18", weights: str | None = None) -> None:
        super().__init__()
        from hand_mesh_ros.networks.resnet import BasicBlock, Bottleneck, ResNet

        if weights == "":
            counts = (2, 2, 2, 2) if backbone == "resnet18" else (3, 4, 6, 3)
            block = Bottleneck if backbone == "resnet50" else BasicBlock
            self.backbone = ResNet(block, counts)
        else:
            from hand_mesh_ros.networks.backbones import create_backbone

            made = create_backbone(backbone, weights)
            if not isinstance(made, ResNet):
                raise ValueError(f"features {backbone!r}: evidence, or a ResNet")
            self.backbone = made
        self.deep = width = self.backbone.channels
        self.sampled, self.cells = width // 8 + width // 4 + width // 2, 64
        self.pose, self.shape, self.camera = (
            nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.1), nn.Linear(width, n))
            for n in (POSE, NUM_BETAS, 3)
        )
        begin_with(self.pose[-1], ZERO_POSE)
        for head in (self.shape, self.camera):
            begin_with(head[-1], torch.zeros(()))

    def forward(self, images: Tensor) -> SingleViews:
        """images (N, 3, 256, 256) in 0..1."""
        *fine, deep = self.backbone.maps(images)
        x = deep.mean((2, 3))
        raw = RawHands(self.pose(x), self.shape(x), self.camera(x))
        return SingleViews(raw, x.new_ones(len(x), 21), tuple(fine), deep)


class EvidenceSingleView(nn.Module):
    """The small one: what the landmark network sees of a crop, and says of it, to one hand.

    Its coarse map narrowed and flattened, its middle map at the landmarks, and the landmarks
    themselves, through a few residual layers.
    """

    sampled, deep, cells = MIDDLE[1], COARSE[1], COARSE[0] ** 2

    def __init__(self, hidden: int = 512, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.narrow = nn.Linear(COARSE[1], 16)
        self.joint = nn.Linear(MIDDLE[1], 24)
        before = 16 * self.cells + 21 * (24 + 6) + 2
        self.into = nn.Sequential(nn.LayerNorm(before), nn.Linear(before, hidden))
        self.layers = nn.ModuleList(_Residual(hidden, dropout) for _ in range(layers))
        self.out = nn.Sequential(
            nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, POSE + NUM_BETAS + 3 + 21)
        )
        # a right hand that points up with its palm to the camera needs no more than the zero pose
        begin_with(self.out[-1], torch.cat([ZERO_POSE, torch.zeros(NUM_BETAS + 3 + 21)]))

    def forward(
        self, middle: Tensor, coarse: Tensor, landmarks: Tensor, world: Tensor, presence: Tensor,
        right: Tensor,
    ) -> SingleViews:  # fmt: skip
        """Fields of `networks.evidence.Evidence`, N of each, channels last."""
        fine, deep = middle.permute(0, 3, 1, 2), coarse.permute(0, 3, 1, 2)
        at = sample_at((fine,), landmarks[..., :2].detach())
        middle_of_hand = world - world.mean(1, keepdim=True)
        x = torch.cat(
            [
                nn.functional.gelu(self.narrow(coarse)).flatten(1),
                nn.functional.gelu(self.joint(at)).flatten(1),
                landmarks.flatten(1),
                20 * middle_of_hand.flatten(1),
                presence[:, None],
                right[:, None],
            ],
            dim=1,
        )
        x = self.into(x)
        for layer in self.layers:
            x = layer(x)
        pose, betas, camera, sure = self.out(x).split([POSE, NUM_BETAS, 3, 21], dim=1)
        return SingleViews(
            RawHands(pose, betas, camera), nn.functional.softplus(sure) + 1e-3, (fine,), deep
        )


class _Residual(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Dropout(dropout), nn.Linear(width, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def begin_with(layer: nn.Module, bias: Tensor) -> None:
    """An untrained answer of `bias`, whatever is seen, but for a little."""
    assert isinstance(layer, nn.Linear)
    nn.init.normal_(layer.weight, std=0.01)
    with torch.no_grad():
        layer.bias.copy_(bias.expand_as(layer.bias))
