"""The published networks' own outputs beside ours, array by array.

Fixtures are tiny variants of the published HaMeR and WiLoR with random weights, run by the
published classes: `hamer_tiny.pt`, `hamer_tiny_io.npz`, `wilor_tiny.pt`, `wilor_tiny_io.npz` and
`wilor_tiny_inrange_io.npz`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hand_mesh_ros.geometry.crop_camera import (
    FOCAL,
    full_translation,
    mirrored_camera,
    published_focal,
    published_intrinsics,
)
from hand_mesh_ros.geometry.published_crops import (
    blur_sigma,
    box_squares,
    square_crops,
    square_matrix,
)
from hand_mesh_ros.networks.checkpoints import open_reconstructor
from hand_mesh_ros.networks.crop_sampler import sample, standardised, upload
from hand_mesh_ros.networks.discriminator import Discriminator
from hand_mesh_ros.networks.hamer import Hamer
from hand_mesh_ros.networks.reconstruction import Reconstruction, reconstruct
from hand_mesh_ros.networks.weight_files import read_weights
from hand_mesh_ros.networks.wilor import Wilor
from hand_mesh_ros.training.hamer_losses import (
    HamerTruth,
    HamerWeights,
    adversarial_loss,
    hamer_parts,
    rotations_of,
    weighted_sum,
)

Array = NDArray[Any]


# Of the fixtures: what goes in, and what other rooms than the networks' answer for.
_NOT_COMPARED: Final = (
    "img", "gt.", "override.", "pp.image_bgr", "pp.boxes_xyxy", "pp.right", "pp.img_size",
    "metric.", "pck.", "seconds_batch1",
)  # fmt: skip
_TINY: Final = 1e-30


class Compared(NamedTuple):
    """An output of ours and the published one, of the same shape."""

    name: str
    ours: Array
    published: Array

    @property
    def max_abs(self) -> float:
        """The largest difference; infinite where something is not a number."""
        difference = np.abs(self.ours.astype(np.float64) - self.published)
        return float(difference.max()) if np.isfinite(difference).all() else float("inf")

    @property
    def max_rel(self) -> float:
        """`max_abs` of the largest magnitude in the published array."""
        return self.max_abs / max(float(np.abs(self.published).max()), _TINY)


def hamer_outputs(folder: Path) -> list[Compared]:
    """Features, decoder, parameters, hands, losses, gradients, crops and camera of HaMeR.

    Raises AssetError or FileNotFoundError for fixtures that are not there.
    """
    theirs = _arrays(folder / "hamer_tiny_io.npz")
    network = open_reconstructor(folder / "hamer_tiny.pt", "hamer")
    assert isinstance(network, Hamer)
    discriminator = _discriminator(folder / "hamer_tiny.pt")
    ours: dict[str, Any] = {}

    features = network.features(torch.tensor(theirs["img"]))
    token = network.mano_head.transformer(features.flatten(2).mT)
    raw = network.regress(features)
    hands = reconstruct(raw, network.mano)
    head = network.mano_head
    ours |= {
        "backbone_feat": features,
        "token_out": token[:, None],
        "decpose_out": raw.pose6d.flatten(1) - head.init_hand_pose,
        "decshape_out": raw.betas - head.init_betas,
        "deccam_out": raw.cam - head.init_cam,
        **_named(hands),
    }
    ours |= _losses(network, discriminator, hands, theirs)
    ours |= _crops(network, theirs)
    return list(_compared(ours, theirs))


def wilor_outputs(folder: Path) -> list[Compared]:
    """Coarse estimate, features, refinement, parameters and hands of WiLoR, of both fixtures."""
    network = open_reconstructor(folder / "wilor_tiny.pt", "wilor")
    assert isinstance(network, Wilor)
    rows: list[Compared] = []
    for name, prefix in (("wilor_tiny_io.npz", ""), ("wilor_tiny_inrange_io.npz", "inrange.")):
        theirs = _arrays(folder / name)
        override = {k: torch.tensor(v) for k, v in theirs.items() if k.startswith("override.")}
        network.load_state_dict(
            {key.removeprefix("override."): value for key, value in override.items()}, strict=False
        )
        with torch.no_grad():
            ours = _wilor(network, torch.tensor(theirs["img"]))
        rows += [row._replace(name=prefix + row.name) for row in _compared(ours, theirs)]
    return rows


def _wilor(network: Wilor, images: Tensor) -> dict[str, Any]:
    coarse = network.coarse(images)
    first = reconstruct(coarse.raw, network.mano)
    net = network.refine_net
    maps = net.deconv(coarse.features)
    samples = net.sample(maps, first.vertices, first.cam)
    change = net.read(samples)
    return {
        "coarse.cam": coarse.raw.cam,
        "coarse.pose6d": coarse.raw.pose6d.flatten(1),
        "coarse.betas": coarse.raw.betas,
        "img_feat": coarse.features,
        **{f"deconv{k}": features for k, features in enumerate(maps)},
        "refine_feat": samples,
        "dec_pose": change.pose6d.flatten(1),
        "dec_shape": change.betas,
        "dec_cam": change.cam,
        **_named(network(images)),
    }


def _named(hands: Reconstruction) -> dict[str, Any]:
    """A result under the names of the published one."""
    return {
        "pred_cam": hands.cam,
        "pred_cam_t": hands.cam_t,
        "focal_length": np.full((len(hands.cam), 2), FOCAL),
        "pred_mano_params.global_orient": hands.rotations[:, :1],
        "pred_mano_params.hand_pose": hands.rotations[:, 1:],
        "pred_mano_params.betas": hands.betas,
        "pred_keypoints_3d": hands.joints,
        "pred_vertices": hands.vertices,
        "pred_keypoints_2d": hands.joints_2d,
    }


def _losses(
    network: Hamer,
    discriminator: Discriminator,
    hands: Reconstruction,
    theirs: Mapping[str, Array],
) -> dict[str, Any]:
    weights = HamerWeights()
    parts = hamer_parts(hands, _truth(theirs))
    loss = weighted_sum(parts, weights)
    verdicts = discriminator(hands.rotations[:, 1:], hands.betas)
    adversarial = adversarial_loss(verdicts)
    total = loss + weights.adversarial * adversarial
    total.backward()
    gradients = {f"grad.{k}": p.grad for k, p in network.named_parameters() if p.grad is not None}
    return {
        **{f"losses.loss_{name}": value for name, value in parts.items()},
        "losses.loss": loss,
        "disc_out": verdicts,
        "loss_adv": adversarial,
        "loss_total": total,
        **gradients,
    }


def _truth(theirs: Mapping[str, Array]) -> HamerTruth:
    def of(name: str) -> Tensor:
        return torch.tensor(theirs[f"gt.{name}"])

    pose = torch.cat([of("mano_params.global_orient"), of("mano_params.hand_pose")], dim=1)
    masks = (of(f"has_mano_params.{name}") for name in ("global_orient", "hand_pose", "betas"))
    points = (of("keypoints_2d"), of("keypoints_3d"))
    return HamerTruth(*points, rotations_of(pose), of("mano_params.betas"), *masks)


def _crops(network: Hamer, theirs: Mapping[str, Array]) -> dict[str, Any]:
    """Crops by the CPU and by the device's sampler, what the network makes of them, and where."""
    image = np.ascontiguousarray(theirs["pp.image_bgr"][..., ::-1])
    mirrored = theirs["pp.right"] == 0
    centres, sides = box_squares(theirs["pp.boxes_xyxy"])
    crops = square_crops(image, centres, sides, mirrored)
    sampled = sample(
        upload([image], "cpu"),
        np.zeros(len(crops), np.int64),
        square_matrix(centres, sides, mirrored),
        crops.shape[-1],
        "zero",
        blur_sigma(sides),
    )
    with torch.no_grad():
        hands = network(torch.tensor(crops))
    size = np.array(image.shape[1::-1])
    cam = mirrored_camera(hands.cam.numpy(), mirrored)
    return {
        "pp.crops": crops,
        "pp.crops (on the device)": standardised(sampled),
        "pp.box_center": centres,
        "pp.box_size": sides,
        "pp.pred_cam_unflipped": hands.cam,
        "pp.pred_vertices_unflipped": hands.vertices,
        "pp.scaled_focal": published_focal(size),
        "pp.cam_t_full": full_translation(cam, centres, sides, published_intrinsics(size)),
    }


def _compared(ours: Mapping[str, Any], theirs: Mapping[str, Array]) -> Iterator[Compared]:
    """What both have; raises ValueError where ours lacks one or has another shape."""
    outputs = {name for name in theirs if not name.startswith(_NOT_COMPARED) or name == "img_feat"}
    if missing := outputs - ours.keys():
        raise ValueError(f"published outputs without one of ours: {', '.join(sorted(missing))}")
    for name, value in ours.items():
        source = name.partition(" (")[0]
        if source not in outputs:
            continue  # as gradients of other layers, or samples that only one fixture has
        array = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != theirs[source].shape:
            raise ValueError(f"{name}: {array.shape} beside the published {theirs[source].shape}")
        yield Compared(name, array, theirs[source])


def _arrays(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _discriminator(path: Path) -> Discriminator:
    prefix = "discriminator."
    state = {k[len(prefix) :]: v for k, v in read_weights(path).items() if k.startswith(prefix)}
    network = Discriminator()
    network.load_state_dict(state)
    return network
