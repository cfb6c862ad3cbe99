"""AMVUR: a model-based prior, and a regressor of joints and vertices that is tied to it.

After Jiang et al., A Probabilistic Attention Model with Occlusion-aware Texture Regression (CVPR
2023), with what its published objective lacks: variances that mean something (see
`training.amvur_losses`), and a residual to the prior's mean instead of a second absolute answer.
Hands are right ones, in the axes of their crops, relative to the wrist.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.mesh_subset import mesh_subset
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.amvur_calibration import Calibrated, Calibration
from hand_mesh_ros.networks.amvur_covariance import (
    CovarianceHead,
    Form,
    JointCovariance,
    SampleSize,
    point_log_variance,
)
from hand_mesh_ros.networks.amvur_points import PointsOf, TangentPoints, propagated
from hand_mesh_ros.networks.amvur_prior import Cues, PixelSampler, PriorHands, PriorNet, place
from hand_mesh_ros.networks.amvur_transformer import AmvurTransformer, Cross
from hand_mesh_ros.networks.evidence import COARSE, FINE, MIDDLE

_LOG_CM = (math.log(0.05), math.log(10.0))
_LOG_UV = (math.log(0.004), math.log(1.0))


@dataclass(frozen=True)
class AmvurSettings:
    """A network's size and shape; a recipe's `model`.

    features: the landmark network's evidence, or a backbone by name whose vector and three maps
    are taken. vertices: tokens of the mesh. hidden and outputs: widths within and after each
    stage. cross, depth, heads, ffn, dropout: see `amvur_transformer`. pixel_aligned: tokens see
    the maps where their points are. maps: which of the evidence's they see. map_width: what each
    map is narrowed to. prior: residuals are
    added to the prior's mean (False: to a relaxed hand). covariance, rank: see `amvur_covariance`.
    uv: places in the crop are corrections of the landmark network's, or projected joints.
    """

    features: Literal["evidence", "hrnet_w64", "hrnet_w32", "hrnet_w18"] = "evidence"
    vertices: int = 48
    hidden: tuple[int, ...] = (64, 32)
    outputs: tuple[int, ...] = (48, 32)
    depth: int = 1
    heads: int = 2
    ffn: int = 2
    dropout: float = 0.0
    cross: Cross = "two_way"
    pixel_aligned: bool = True
    maps: tuple[Literal["fine", "middle", "coarse"], ...] = ("middle", "coarse")
    map_width: int = 24
    prior: bool = True
    prior_hidden: int = 384
    prior_rank: int = 4
    covariance: Form = "full"
    rank: int = 6
    uv: Literal["landmarks", "projected"] = "landmarks"
    weights: str | None = None

    def __post_init__(self) -> None:
        if len(self.hidden) != len(self.outputs) or not self.hidden:
            raise ValueError("hidden and outputs must be as long as each other, at least 1")
        if any(width % self.heads for width in self.hidden):
            raise ValueError(f"hidden must be multiples of heads, {self.heads}")
        if self.vertices < 16:
            raise ValueError("vertices must be at least 16")


PUBLISHED = AmvurSettings(
    features="hrnet_w64", vertices=195, hidden=(1024, 256, 64), outputs=(512, 128, 64), depth=4,
    heads=4, ffn=4, dropout=0.1, cross="one_way", pixel_aligned=False, map_width=0,
    prior_hidden=512, covariance="sampled", uv="projected",
)  # fmt: skip
"""The published widths; its own code leaves 2.2 M of its 64.2 M parameters unused."""


class AmvurHands(NamedTuple):
    """What AMVUR says of N crops; points are metres relative to the wrist, in the crops' axes.

    prior: the model-based branch, base its points (N, 21 + C) with the Jacobian of the first of
    them, base_factor (N, 21 + K, 3, 62) of those points' covariance. joints (N, 21, 3) and
    vertices (N, C, 3): the answer. log_sigma (N, C, 3) of the vertices, of metres. covariance of
    the joints. uv (N, 21, 2) places in the crop with uv_log_sigma (N, 21); visible (N, 21) logits.
    """

    prior: PriorHands
    base: PointsOf
    base_factor: Tensor
    joints: Tensor
    vertices: Tensor
    log_sigma: Tensor
    covariance: JointCovariance
    uv: Tensor
    uv_log_sigma: Tensor
    visible: Tensor


class AmvurNetwork(nn.Module):
    """`Cues` of N crops to `AmvurHands`; `amvur_prior.evidence_cues`, or `BackboneCues`, make them.

    The hand model is no part of `weights()`. ValueError where it has too few vertices.
    """

    nearest: Tensor
    mixture: Tensor
    near_joints: Tensor

    def __init__(self, model: HandModel, settings: AmvurSettings | None = None) -> None:
        super().__init__()
        settings = settings or AmvurSettings()
        self.settings = settings
        subset = mesh_subset(model, settings.vertices)
        self.points = TangentPoints(model, subset.chosen)
        self.register_buffer("nearest", torch.tensor(subset.nearest), persistent=False)
        mixture = torch.tensor(subset.weights, dtype=torch.float32)
        self.register_buffer("mixture", mixture, persistent=False)
        self.backbone: nn.Module | None = None
        sizes = {"fine": FINE[1], "middle": MIDDLE[1], "coarse": COARSE[1]}
        vector, channels, cues = COARSE[1], tuple(sizes[name] for name in settings.maps), True
        if settings.features != "evidence":
            from hand_mesh_ros.networks.backbones import create_backbone

            self.backbone = create_backbone(settings.features, settings.weights)
            vector = int(self.backbone.channels)  # type: ignore[arg-type]
            channels, cues = tuple(self.backbone.local_channels), False  # type: ignore[arg-type]
        self.sampler = PixelSampler(channels, settings.map_width)
        seen = self.sampler.channels
        self.prior = PriorNet(
            self.points, vector, seen, settings.prior_hidden, settings.prior_rank, cues
        )
        # a token: template, where the prior puts it, what the pixels there say, the vector
        before = 3 + (3 + seen + 32 if settings.pixel_aligned else vector)
        self.vector = nn.Linear(vector, 32) if settings.pixel_aligned else None
        self.of_joint = nn.Linear(11, before) if cues else None
        count = 21 + settings.vertices
        self.transformer = AmvurTransformer(
            before, settings.hidden, settings.outputs, count, settings.depth, settings.heads,
            settings.ffn, settings.cross, settings.dropout,
        )  # fmt: skip
        width = settings.outputs[-1]
        self.of_vertex = nn.Linear(width, 6)  # residual in decimetres, log-sigma in centimetres
        self.of_place = nn.Linear(width, 3 + 3 + 1)  # residual, place and its sigma, visible
        for head in (self.of_vertex, self.of_place):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            self.of_place.bias[5] = math.log(0.05)
        # a joint from the vertices about it: the mean of the nearest to begin with
        self.regressor = nn.Parameter(_regressor(self.points.rest))
        self.spread = CovarianceHead(settings.covariance, width, settings.rank)
        self.size = SampleSize(count) if settings.covariance == "sampled" else None
        self.calibration = Calibration()
        self.train()

    def forward(self, cues: Cues, jacobian_of: int = 21) -> AmvurHands:
        """`jacobian_of`: how many points the prior's covariance is told of, joints first."""
        maps = self.sampler.narrowed(cues.maps) if self._looks else []
        marks = None
        if cues.landmarks is not None:
            marks = self.sampler(maps, cues.landmarks[..., :2])
        prior = self.prior(cues, marks)
        base = self.points(prior.rotations, prior.betas, jacobian_of)
        factor = propagated(base.jacobian.detach(), prior.factor)
        at = base.points.detach() if self.settings.prior else self._relaxed(cues)
        tokens = self._tokens(cues, at, prior, marks, maps)
        found = self.transformer(tokens)
        told, of_vertices = self.of_place(found[:, :21]), self.of_vertex(found[:, 21:])
        moved = 0.1 * of_vertices[..., :3]
        joints = at[:, :21] + 0.1 * told[..., :3]
        joints = joints + torch.einsum("jc,nci->nji", self.regressor, moved)
        joints = torch.cat([torch.zeros_like(joints[:, :1]), joints[:, 1:]], dim=1)
        if self.settings.uv == "landmarks" and cues.landmarks is not None:
            uv = cues.landmarks[..., :2] + 0.1 * told[..., 3:5]
        else:
            uv = place(joints, prior.camera, cues.focal)
        return AmvurHands(
            prior=prior,
            base=base,
            base_factor=factor,
            joints=joints,
            vertices=at[:, 21:] + moved,
            log_sigma=self._vertex_log_sigma(of_vertices[..., 3:]),
            covariance=self.spread(found[:, 1:21], factor[:, 1:21]),
            uv=uv,
            uv_log_sigma=told[..., 5].clamp(*_LOG_UV),
            visible=told[..., 6],
        )

    def calibrated(self, hands: AmvurHands) -> Calibrated:
        """What is known of the errors, by the temperatures that are kept with the weights."""
        known: Calibrated = self.calibration(
            self.joint_covariance(hands), hands.uv_log_sigma, hands.visible
        )
        return known

    def together(self, hands: AmvurHands) -> Tensor:
        """(N, 21, 3, 21, 3) m^2 of all joints together, by the same temperatures."""
        whole = hands.covariance.full()
        if self.size is not None:
            size: Tensor = self.size(point_log_variance(hands.covariance, hands.log_sigma))
            whole = size.square() * whole
        return torch.as_tensor(self.calibration.together(whole, hands.visible))

    def joint_covariance(self, hands: AmvurHands) -> Tensor:
        """(N, 20, 3, 3) m^2 of the joints beyond the wrist, before any calibration."""
        marginal = hands.covariance.marginal()
        if self.size is None:
            return marginal
        size: Tensor = self.size(point_log_variance(hands.covariance, hands.log_sigma))
        return size[..., None].square() * marginal

    def whole_mesh(self, hands: AmvurHands, prior_vertices: Tensor) -> Tensor:
        """All vertices (N, V, 3) of the answer from those of the prior's mean (`ManoLayer`).

        `prior_vertices` relative to the wrist. The tokens' residuals are spread over the surface.
        """
        moved = hands.vertices - hands.base.points[:, 21:]
        return prior_vertices + (self.mixture[..., None] * moved[:, self.nearest]).sum(2)

    @property
    def notes(self) -> dict[str, Any]:
        """What `perception.amvur_network.open_amvur` needs beside the weights."""
        return {"amvur": asdict(self.settings) | {"weights": None}}

    def weights(self) -> dict[str, Tensor]:
        """What was trained."""
        return dict(self.state_dict())

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """The reverse of `weights`; KeyError names what is missing or does not belong here."""
        wrong = set(weights) ^ set(self.weights())
        if wrong:
            raise KeyError(f"weights do not fit this network: {', '.join(sorted(wrong)[:5])} ...")
        self.load_state_dict(weights)

    def _vertex_log_sigma(self, numbers: Tensor) -> Tensor:
        """Of metres; centimetres are what is learnt, but by the published objective."""
        if self.size is not None:
            return numbers.clamp(-6, 3)
        return numbers.clamp(*_LOG_CM) + math.log(0.01)

    @property
    def _looks(self) -> bool:
        return self.settings.pixel_aligned or self.settings.features == "evidence"

    def _relaxed(self, cues: Cues) -> Tensor:
        """A relaxed hand's points (N, 21 + C, 3), turned as the palm is."""
        frame, _ = self.prior.frame(cues)
        return self.points.rest @ frame.transpose(-1, -2)

    def _tokens(
        self, cues: Cues, at: Tensor, prior: PriorHands, marks: Tensor | None, maps: list[Tensor]
    ) -> Tensor:
        """(N, 21 + C, F)."""
        template = (10 * self.points.rest).expand(len(at), -1, -1)
        if self.vector is None:
            vector = cues.vector[:, None].expand(-1, at.shape[1], -1)
            return torch.cat([template, vector], dim=-1)
        vector = self.vector(cues.vector)[:, None].expand(-1, at.shape[1], -1)
        uv = place(at, prior.camera.detach(), cues.focal)
        seen = self.sampler(maps, uv if marks is None else uv[:, 21:])
        if marks is not None:
            seen = torch.cat([marks, seen], dim=1)
        tokens = torch.cat([template, 10 * at, seen, vector], dim=-1)
        if self.of_joint is None or cues.landmarks is None or cues.world is None:
            return tokens
        world = 10 * (cues.world - cues.world[:, :1])
        told = [cues.landmarks, cues.landmarks[..., :2] - uv[:, :21], world - 10 * at[:, :21]]
        joints = self.of_joint(torch.cat([*told, world], dim=-1))
        return torch.cat([tokens[:, :21] + joints, tokens[:, 21:]], dim=1)


class BackboneCues(nn.Module):
    """Crops (N, 3, S, S) uint8 to `Cues` by a backbone with a vector and three maps (HRNet)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, crops: Tensor, focal: Tensor) -> Cues:
        vector, maps = self.backbone.vector_and_maps(crops.float() / 255)  # type: ignore[operator]
        return Cues(vector, tuple(x.permute(0, 2, 3, 1) for x in maps), focal)


def _regressor(rest: Tensor, nearest: int = 8) -> Tensor:
    """Weights (21, C) of the vertices about each joint, rows that sum to one."""
    gap = torch.cdist(rest[:21], rest[21:])
    chosen = gap.topk(min(nearest, gap.shape[1]), largest=False).indices
    return torch.zeros_like(gap).scatter(1, chosen, 1 / chosen.shape[1])
