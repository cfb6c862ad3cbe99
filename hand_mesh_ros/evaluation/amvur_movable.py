"""AMVUR's answers to single pictures as functions of a few numbers, to be moved by a picture.

All numbers 0 is the network's answer; one of them at 1 is one of the network's own sigmas away.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.layout import NUM_JOINTS
from hand_mesh_ros.networks.amvur import AmvurNetwork
from hand_mesh_ros.networks.amvur_calibration import Calibrated
from hand_mesh_ros.networks.amvur_prior import Cues, place
from hand_mesh_ros.networks.mano_layer import ManoLayer

_TURNS: Final = 3 * NUM_JOINTS
NUMBERS: Final = _TURNS + 3
_INDEPENDENT = 4  # so many landmarks would tell the camera as much as 21, which err together
_GAUSS_NEWTON = 8


class Placed(NamedTuple):
    """N hands: vertices (N, V, 3) and joints (N, 21, 3), m relative to the wrist in the crops'

    axes; uv (N, V, 2), the vertices' places in the crops, -1..1; depth (N, V) m before the camera.
    """

    vertices: Tensor
    joints: Tensor
    uv: Tensor
    depth: Tensor


class MovableHands:
    """Hands of N crops: the prior's, with the regressor's residuals, which turn with the palm.

    What moves: rotations of all joints in their own axes, by the covariance that the prior tells
    of them, and a camera (size and place in the crop), which is the best for the places that the
    network tells, with the covariance that these places' sigmas give it. Betas stay.
    ``joints`` (N, 21, 3) is the answer, ``known`` what the network says of its errors;
    ``turn_factor`` (N, 48, 48) times the first numbers are the turns.
    """

    def __init__(self, network: AmvurNetwork, layer: ManoLayer, cues: Cues) -> None:
        with torch.no_grad():
            hands = network(cues)
            self.known: Calibrated = network.calibrated(hands)
            self.joints: Tensor = hands.joints
            self.rotations, self.betas = hands.prior.rotations, hands.prior.betas
            self.focal = cues.focal
            posed = layer(self.rotations, self.betas)
            mesh = posed.vertices - posed.joints[:, :1]
            self._of_vertices = network.whole_mesh(hands, mesh) - mesh
            self._of_joints = hands.joints - (posed.joints - posed.joints[:, :1])
            factor = hands.prior.factor[:, :_TURNS]
            self.turn_factor = torch.linalg.cholesky(factor @ factor.transpose(1, 2))
            self.camera, self._camera = fitted_camera(
                hands.joints, hands.uv, self.known.uv_sigma, cues.focal, hands.prior.camera
            )
        self._layer = layer

    def __len__(self) -> int:
        return len(self.joints)

    def __call__(self, numbers: Tensor) -> Placed:
        """The hands (N) of numbers (N, 51): rotations first, then the camera."""
        turns = (self.turn_factor @ numbers[:, :_TURNS, None]).unflatten(1, (NUM_JOINTS, 3))[..., 0]
        rotations = self.rotations @ exp_so3(turns)
        posed = self._layer(rotations, self.betas)
        wrist = posed.joints[:, :1]
        # a row vector times this is turned as the palm was
        turned = self.rotations[:, 0] @ rotations[:, 0].transpose(1, 2)
        vertices = posed.vertices - wrist + self._of_vertices @ turned
        joints = posed.joints - wrist + self._of_joints @ turned
        camera = self.camera + (self._camera @ numbers[:, _TURNS:, None])[..., 0]
        uv = place(vertices, camera, self.focal)
        far = self.focal / (10 * camera[:, 0].exp())
        return Placed(vertices, joints, uv, vertices[..., 2] + far[:, None])


def fitted_camera(
    points: Tensor, uv: Tensor, sigma: Tensor, focal: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Cameras (N, 3), as `place` takes them, that best put points (N, 21, 3) at uv (N, 21, 2).

    With the Cholesky factors (N, 3, 3) of their covariances; ``sigma`` (N, 21) of the places,
    ``focal`` (N,), ``start`` (N, 3). Gauss-Newton.
    """
    camera = start
    for _ in range(_GAUSS_NEWTON):
        found = place(points, camera, focal)
        jacobian = _by_camera(points, camera, focal, found) / sigma[..., None, None]
        jacobian = jacobian.flatten(1, 2)
        off = ((uv - found) / sigma[..., None]).flatten(1)
        information = jacobian.transpose(1, 2) @ jacobian
        step = torch.linalg.solve(information, jacobian.transpose(1, 2) @ off[..., None])
        camera = camera + step[..., 0]
    together = points.shape[1] / _INDEPENDENT
    return camera, torch.linalg.cholesky(together * torch.linalg.inv(information))


def _by_camera(points: Tensor, camera: Tensor, focal: Tensor, uv: Tensor) -> Tensor:
    """Derivatives (N, P, 2, 3) of places ``uv`` by the camera's numbers, see `place`."""
    scale = 10 * camera[:, :1, None].exp()
    along = points[..., 2:] * scale / focal[:, None, None]
    near = (1 + along).clamp(min=0.2)
    by_size = (scale * points[..., :2] - uv * along) / near
    by_place = torch.eye(2).to(uv) / near[..., None]
    return torch.cat([by_size[..., None], by_place], dim=-1)
