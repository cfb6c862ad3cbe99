"""The backend `hamuco`: answers of any number of views, hands in the synthetic cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.perception.hamuco_network import HamucoNetwork, open_hamuco
from hand_mesh_ros.perception.learned import CropBatch
from hand_mesh_ros.perception.network_sigma import SigmaRule


@pytest.fixture(scope="module")
def backend() -> HamucoNetwork:
    from hand_mesh_ros.networks.hamuco import Hamuco

    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    network = Hamuco(load_hand_model())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return HamucoNetwork(network, "free", "cpu", SigmaRule())


def _batch(groups: list[int], order: list[int] | None = None) -> CropBatch:
    rng = np.random.default_rng(0)
    count = len(groups)
    crops = torch.from_numpy(rng.integers(0, 255, (count, 3, 224, 224)).astype(np.float32))
    axes = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    axes *= np.sign(np.linalg.det(axes))[:, None, None]
    centres = -0.6 * axes[:, 2]
    which = list(range(count)) if order is None else order
    group = np.array(groups)
    return CropBatch(crops[which], group[which], axes[which], np.full(count, 0.2), centres[which])


def test_crops_of_several_hands_come_in_any_order(backend: HamucoNetwork) -> None:
    groups, order = [3, 3, 3, 0, 7, 7], [4, 1, 3, 5, 0, 2]
    plain, other = backend(_batch(groups)), backend(_batch(groups, order))
    np.testing.assert_allclose(plain.joints[order], other.joints, atol=1e-4)
    np.testing.assert_allclose(plain.uv[order], other.uv, atol=1e-3)
    assert plain.uv_sigma is not None and (plain.uv_sigma > 0).all()


def test_a_hand_is_no_business_of_the_others(backend: HamucoNetwork) -> None:
    """Padding to the most views of a hand changes nothing of those with fewer, one included."""
    whole = backend(_batch([0, 0, 0, 1, 1, 2]))
    rng_same = _batch([0, 0, 0, 1, 1, 2])
    for rows in ([0, 1, 2], [3, 4], [5]):
        part = CropBatch(
            rng_same.crops[rows], rng_same.group[rows], rng_same.axes[rows], rng_same.field[rows],
            rng_same.centres[rows],  # type: ignore[index]
        )  # fmt: skip
        np.testing.assert_allclose(backend(part).joints, whole.joints[rows], atol=1e-4)


def test_views_of_one_hand_are_answered_together(backend: HamucoNetwork) -> None:
    together, apart = backend(_batch([0, 0, 0])), backend(_batch([0, 1, 2]))
    assert np.abs(together.joints - apart.joints).max() > 1e-3


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(AssetError, match="not of HaMuCo"):
        open_hamuco(path, load_hand_model())
    save_file({"a": torch.zeros(2)}, path, metadata={"hamuco": '{"features": "evidence"}'})
    with pytest.raises(AssetError, match="not of this HaMuCo"):
        open_hamuco(path, load_hand_model())


@pytest.mark.parametrize("seen", [4, 1])
def test_hands_of_the_synthetic_cell(seen: int) -> None:
    """Both hands, by the weights that ship, through the whole pipeline: metric in several views."""
    from hand_mesh_ros.perception.build import build_pipeline
    from hand_mesh_ros.render.synthetic import SyntheticCell
    from hand_mesh_ros.types import FrameSet

    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    cell = SyntheticCell(cameras=4, hands=("right", "left"), seconds=0.2, width=640, height=360)
    pipeline, _ = build_pipeline(backend="hamuco")
    for number in range(3):
        frames = cell.frame_set(number).frames[:seen]
        hands = pipeline.process(FrameSet(frames)).hands
    truth = {hand.side: hand for hand in cell.ground_truth(2)}
    assert sorted(hand.estimate.side for hand in hands) == ["left", "right"]
    for hand in hands:
        found, true = hand.estimate, truth[hand.estimate.side].joints
        assert np.isfinite(found.covariance).all()
        apart = np.linalg.norm(found.joints - true, axis=-1)
        relative = np.linalg.norm(found.joints - found.joints[0] - true + true[0], axis=-1)
        assert relative.mean() < 0.025
        if seen == 4:
            assert apart.mean() < 0.012 and len(found.view_indices) == 4
