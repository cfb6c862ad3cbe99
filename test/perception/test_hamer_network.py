"""HaMeR and WiLoR behind the backends' door: published crops in, the networks' answers out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.checkpoints import open_reconstructor
from hand_mesh_ros.networks.convert import save_reconstructor
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.perception.build import build_backend, build_pipeline
from hand_mesh_ros.perception.cut_crops import Regions, cut, in_images
from hand_mesh_ros.perception.estimate import HandViews, NetworkOptions, create_backend
from hand_mesh_ros.perception.learned_fit import LearnedFit
from hand_mesh_ros.perception.network_sigma import SigmaRule, sigma_file
from hand_mesh_ros.types import Camera, Frame, View


@pytest.fixture(scope="module")
def checkpoints(shared_data: Path) -> Path:
    return shared_data / "parity"


@pytest.fixture(scope="module")
def io(checkpoints: Path) -> dict[str, np.ndarray]:
    return dict(np.load(checkpoints / "hamer_tiny_io.npz"))


def views_of(io: dict[str, np.ndarray]) -> list[View]:
    """The fixture's boxes as views: their landmarks' box is the box."""
    image = np.ascontiguousarray(io["pp.image_bgr"][..., ::-1])
    K = np.array([[800.0, 0, 470], [0, 820, 365], [0, 0, 1]])
    camera = Camera("camera", 960, 720, K)
    views = []
    for box, right in zip(io["pp.boxes_xyxy"], io["pp.right"], strict=True):
        steps = np.linspace(0, 1, 21)[:, None]
        uv = box[:2] + steps * (box[2:] - box[:2])
        roi = rois_from_landmarks(uv)[0]
        views.append(
            View(0, camera, uv, np.full(21, 500.0), np.zeros((21, 3)), 0.9, float(right), roi,
                 Frame(camera, 0, image))
        )  # fmt: skip
    return views


@pytest.mark.parametrize("kind", ["hamer", "wilor"])
def test_answers_are_the_networks_own_on_the_published_crops(
    checkpoints: Path, io: dict[str, np.ndarray], kind: str
) -> None:
    """From whole frames and boxes, left and right; back in the image by the published rule."""
    path = checkpoints / f"{kind}_tiny.pt"
    made, models = build_backend(kind, None, NetworkOptions(path, precision="float32"))
    assert isinstance(made, LearnedFit) and made.network.card.model_id == models["right"].model_id
    views = views_of(io)
    rois = np.stack([made.network.region(view) for view in views])
    np.testing.assert_allclose(rois[:, :2], io["pp.box_center"], atol=1e-9)
    np.testing.assert_allclose(rois[:, 2], io["pp.box_size"], atol=1e-9)
    regions = Regions(tuple(views), rois, io["pp.right"] == 0, np.arange(3))
    told = made.network(cut(regions, made.network.card.rule, "cpu"))
    with torch.inference_mode():
        wanted = open_reconstructor(path)(torch.from_numpy(io["pp.crops"]))
    assert told.rotations is not None
    np.testing.assert_allclose(told.rotations, wanted.rotations, atol=1e-5)
    relative = wanted.joints - wanted.joints[:, :1]
    np.testing.assert_allclose(told.joints, relative, atol=1e-6)
    places = wanted.joints_2d.numpy().copy()
    places[io["pp.right"] == 0, :, 0] *= -1
    pixels = places * io["pp.box_size"][:, None, None] + io["pp.box_center"][:, None]
    np.testing.assert_allclose(in_images(told, regions).uv, pixels, atol=1e-3)


def untrained(path: Path) -> Path:
    """A small HaMeR of the free hand, whose file holds no hand model."""
    torch.manual_seed(0)
    sizes = HamerConfig(
        ViTConfig(width=32, depth=1, heads=2),
        DecoderConfig(context_dim=32, dim=16, depth=1, heads=2, dim_head=8, mlp_dim=16),
    )
    save_reconstructor(Hamer(sizes, load_hand_model()).eval(), path)
    return path


def test_a_hand_of_whatever_it_says_is_metric_and_knows_its_sigma(
    tmp_path: Path, io: dict[str, np.ndarray]
) -> None:
    """Untrained, and believed because the landmarks know nothing better."""
    path = untrained(tmp_path / "hamer.safetensors")
    SigmaRule(calibration="of a test").save(sigma_file(path))
    made, models = build_backend("hamer", None, NetworkOptions(path, jitter=2))
    assert isinstance(made, LearnedFit)
    assert made.network.card.sigma.calibration == "of a test"
    free: HandModel = load_hand_model()
    assert models["right"].model_id == free.model_id
    views = views_of(io)
    hands = [HandViews((v,), None, 9.0 if v.right > 0.5 else -9.0) for v in views]
    for hand, estimate in zip(hands, made.estimate(hands), strict=True):
        assert estimate is not None
        assert estimate.side == ("right" if hand.right > 0.5 else "left")
        assert estimate.scale_source == "model_prior"
        assert np.isfinite(estimate.covariance).all()
        assert 0.1 < estimate.joints[:, 2].mean() < 5  # by the real camera, not one of 5000 px
        np.testing.assert_allclose(wrist_frame(estimate.joints, estimate.side), estimate.wrist)
    assert made.estimate([]) == []


def test_what_is_missing_or_does_not_fit_is_named(tmp_path: Path, checkpoints: Path) -> None:
    hamer, wilor = checkpoints / "hamer_tiny.pt", checkpoints / "wilor_tiny.pt"
    with pytest.raises(AssetError, match=r"'wilor' needs a checkpoint.*CC-BY-NC-ND"):
        build_backend("wilor", None, None)
    with pytest.raises(AssetError, match=r"none\.ckpt: no such file.*geopavlakos/hamer.*MIT"):
        build_backend("hamer", None, NetworkOptions(tmp_path / "none.ckpt"))
    with pytest.raises(AssetError, match="is a WiLoR checkpoint"):
        build_backend("hamer", None, NetworkOptions(wilor))
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used"):
        build_backend("hamer", None, NetworkOptions(hamer, device="cuda:99"))
    with pytest.raises(ValueError, match="'double': it is one of auto"):
        build_backend("hamer", None, NetworkOptions(hamer, precision="double"))
    with pytest.raises(ValueError, match="jitter is 99"):
        build_backend("hamer", None, NetworkOptions(hamer, jitter=99))
    with pytest.raises(ValueError, match="'landmarks' has no network of its own"):
        create_backend("landmarks", network=NetworkOptions(hamer))
    with pytest.raises(ValueError, match="'hamer' looks at images"):
        build_pipeline(backend="hamer", network=NetworkOptions(hamer), images=False)
    sigma_file(path := untrained(tmp_path / "hamer.safetensors")).write_text("{}")
    with pytest.raises(ValueError, match=r"hamer\.safetensors\.sigma\.json is no calibration"):
        build_backend("hamer", None, NetworkOptions(path))
