"""The task `hamuco`: it learns without truth, and it can learn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="the extra [train] is not installed")

from hand_mesh_ros.hand.model import load_hand_model  # noqa: E402
from hand_mesh_ros.networks.mano_head import rotations_from_6d  # noqa: E402
from hand_mesh_ros.networks.mano_points import ManoPoints  # noqa: E402
from hand_mesh_ros.training.hamuco_module import HamucoModule  # noqa: E402
from hand_mesh_ros.training.pseudo_labels import (  # noqa: E402
    fitted_labels,
    label_fit,
    landmark_marks,
)
from hand_mesh_ros.training.recipes import read_recipe  # noqa: E402

B, V = 3, 4
_TRUTH = ("joints", "uv", "rotations", "betas", "wrist", "visibility", "visible_share")


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    """Hands of the model in four real cameras, with landmarks where they are and maps of noise."""
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    pose = torch.eye(3).repeat(B, 16, 1, 1)
    pose[:, 0] = rotations_from_6d(torch.randn(B, 6))
    hands = ManoPoints(load_hand_model())(pose, torch.zeros(B, 10))
    T = np.tile(np.eye(4), (B, V, 1, 1))
    T[..., :3, :3] = rotations_from_6d(torch.randn(B, V, 6)).double().numpy()
    T[..., :3, 3] = [0, 0, 0.6]
    in_view = [
        np.einsum("bvij,bpj->bvpi", T[..., :3, :3], p.double().numpy())
        for p in (hands.marks, hands.joints)
    ]
    local = in_view[0] + T[..., None, :3, 3]
    focal = 5.0
    middle = local[:, :, 9, :2] / local[:, :, 9, 2:]
    # the crop's camera looks at the hand: here simply by its shift, a little of which stays
    T[..., :2, 3] -= 0.6 * middle
    local = in_view[0] + T[..., None, :3, 3]
    landmarks = focal * local[..., :2] / local[..., 2:]
    numbers = {
        "middle": rng.normal(size=(B, V, 14, 14, 112)),
        "coarse": rng.normal(size=(B, V, 7, 7, 192)),
        "landmarks": np.concatenate([landmarks, np.zeros((B, V, 21, 1))], -1),
        "world": in_view[0],
        "presence": np.ones((B, V)),
        "right": np.ones((B, V)),
        "joints": in_view[1],
    }
    out = {k: torch.tensor(v, dtype=torch.float32) for k, v in numbers.items()}
    K = np.diag([focal * 112, focal * 112, 1])
    # the crop is the whole picture, whose middle the lens looks through
    crop_matrix = torch.tensor([[1.0, 0, -111.5], [0, 1, -111.5]]).double()
    out |= {
        "D": torch.zeros(B, V, 8, dtype=torch.float64),
        "K": torch.tensor(np.tile(K, (B, V, 1, 1))),
        "T_camera_world": torch.tensor(T),
        "R_crop_camera": torch.eye(3, dtype=torch.float64).repeat(B, V, 1, 1),
        "crop_matrix": crop_matrix.repeat(B, V, 1, 1),
        "left": torch.zeros(B, dtype=torch.bool),
        "valid": torch.ones(B, V, dtype=torch.bool),
    }
    fields = {k: v.numpy() for k, v in out.items()}
    labels = fitted_labels(fields, landmark_marks(fields), label_fit())
    return out | {k: torch.from_numpy(v) for k, v in labels.items()}


def _module(*changes: str) -> HamucoModule:
    return HamucoModule(read_recipe("hamuco-renders", changes))


def test_labels_are_where_the_views_agree(batch: dict[str, torch.Tensor]) -> None:
    away = (batch["label_uv"] - batch["landmarks"][..., :2]).norm(dim=-1)
    assert away.max() < 0.01  # about a pixel of the crop
    true = batch["world"] - batch["world"][:, :, :1]
    size = true.norm(dim=-1).mean() / batch["label_points"].norm(dim=-1).mean()
    assert (batch["label_points"] - true).norm(dim=-1).max() < 0.006
    assert size == pytest.approx(1, abs=0.03)


def test_one_view_that_is_wrong_is_outvoted(batch: dict[str, torch.Tensor]) -> None:
    fields = {k: v.numpy().copy() for k, v in batch.items()}
    fields["landmarks"][:, 1, :, 0] += 0.4
    labels = fitted_labels(fields, landmark_marks(fields), label_fit())
    away = np.linalg.norm(labels["label_uv"] - batch["landmarks"][..., :2].numpy(), axis=-1)
    said = np.linalg.norm(fields["landmarks"][:, 1] - batch["landmarks"].numpy()[:, 1], axis=-1)
    assert np.median(away) < 0.05 < np.median(said)


def test_no_truth_enters_a_loss(batch: dict[str, torch.Tensor]) -> None:
    module = _module()
    module.eval()
    with_truth = module.losses(batch, even=True)
    spoiled = batch | {name: torch.full_like(batch["world"], torch.nan) for name in _TRUTH}
    for name, value in module.losses(spoiled, even=True).items():
        torch.testing.assert_close(value, with_truth[name], atol=0, rtol=0)
    without = {name: value for name, value in batch.items() if name not in _TRUTH}
    assert module.losses(without, even=False).keys() == with_truth.keys()


def test_validation_measures_what_has_a_truth(batch: dict[str, torch.Tensor]) -> None:
    found = []
    for hidden in (range(0), range(1, B)):
        module = _module()
        module.eval()
        module.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer
        given = {**batch, "joints": batch["joints"].clone()}
        given["joints"][list(hidden)] = torch.nan
        module.validation_step(given, 0)
        one = {name: value[:1] for name, value in batch.items()}
        module.validation_step({**one, "joints": torch.full_like(one["joints"], torch.nan)}, 1)
        found.append([float(m.compute()) for m in (module.val_pa, module.val_cross,
                                                   module.val_single)])  # fmt: skip
        assert int(module.val_single.weight) == V * (B - len(hidden))
    assert np.isfinite(found).all() and found[0] != found[1]


def test_film_goes_on_from_the_weights_that_ship() -> None:
    from hand_mesh_ros.networks.weight_files import read_weights
    from hand_mesh_ros.training.start import start_file
    from hand_mesh_ros.training.tasks import create_task

    recipe = read_recipe("hamuco-video")
    network = create_task(recipe).network
    kept = read_weights(start_file("hamuco"))
    assert kept.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, kept[name].to(value.dtype))
    assert start_file("runs/hamuco") == Path("runs/hamuco")
    assert start_file("hamer.ckpt") == Path("hamer.ckpt")


def test_every_loss_moves_the_network(batch: dict[str, torch.Tensor]) -> None:
    module = _module("losses.bones=0.1")
    with torch.no_grad():
        for p in module.network.parameters():
            p.add_(0.02 * torch.randn_like(p))
    for name, value in module.losses(batch, even=False).items():
        module.zero_grad()
        value.backward(retain_graph=True)
        total = sum(p.grad.abs().sum() for p in module.parameters() if p.grad is not None)
        assert total > 0, name


def test_one_batch_is_learnt_by_heart(batch: dict[str, torch.Tensor]) -> None:
    """The relative joints too, which are in no loss: four views and their consistency tell them."""
    small = ("hidden=128", "layers=1", "surface=8", "cross.blocks=1", "cross.located=15",
             "cross.sampled=32", "labels=landmarks")  # fmt: skip
    module = _module(*(f"model.{change}" for change in small), "losses.pose=0.001")
    module.eval()  # without dropout
    optimiser = torch.optim.AdamW(module.network.parameters(), 1e-3)
    steps = 200
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        optimiser.zero_grad()
        loss = torch.stack(list(module.losses(batch, step % 2 == 0).values())).sum()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        from hand_mesh_ros.training.hamuco_module import _cameras, _pa_mm

        axes, field, centres = _cameras(batch)
        single, cross = module.network(batch, batch["valid"], axes, field, None, centres)
    for hands in (single, cross):
        away = 112 * (hands.marks_uv - batch["landmarks"][..., :2]).norm(dim=-1)
        assert away.mean() < 2  # pixels
        assert _pa_mm(hands.points.joints.flatten(0, 1), batch["joints"].flatten(0, 1)).mean() < 8


def test_the_published_configuration_learns_from_a_stores_pictures(
    batch: dict[str, torch.Tensor],
) -> None:
    module = _module("model.features=resnet18", 'model.weights=""', "model.labels=landmarks")
    assert "image" in module.store_fields and "coarse" not in module.store_fields
    some = {name: value[:1, :2] if value.ndim > 1 else value[:1] for name, value in batch.items()}
    some["image"] = torch.randint(0, 255, (1, 2, 112, 112, 3), dtype=torch.uint8)
    loss = torch.stack(list(module.losses(some, even=True).values())).sum()
    loss.backward()
    first = module.network.single.backbone.conv1.weight  # type: ignore[union-attr]
    assert loss.isfinite() and first.grad is not None and first.grad.abs().sum() > 0


def test_views_and_cameras_are_dropped_at_random() -> None:
    from hand_mesh_ros.training.hamuco_module import _some_views

    torch.manual_seed(0)
    mask = torch.ones(400, 4, dtype=torch.bool)
    mask[:, 3] = False
    kept = _some_views(mask, 1.0)
    assert not kept[:, 3].any() and kept.any(1).all()
    counts = torch.bincount(kept.sum(1), minlength=4).tolist()
    assert counts[0] == 0 and min(counts[1:4]) > 80
    assert (_some_views(mask, 0.0) == mask).all()


def test_labels_come_in_rounds(tmp_path: Path) -> None:
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.networks.hamuco import Hamuco
    from hand_mesh_ros.training.instant_data import _tiny
    from hand_mesh_ros.training.pseudo_labels import ensure_labels, refreshed

    try:
        store = _tiny("validation")
    except AssetError as error:
        pytest.skip(str(error))
    copy = Path(shutil.copytree(store, tmp_path / "store"))
    for old in copy.glob("part-*/label*"):
        old.unlink()

    def said() -> tuple[int, np.ndarray]:
        (part,) = copy.glob("part-*")
        number = json.loads((part / "labels.json").read_text())["round"]
        return number, np.load(part / "label_points.npy")

    assert ensure_labels(copy) == 1
    first = said()
    torch.manual_seed(0)
    assert refreshed(copy, Hamuco(load_hand_model())) == 1
    second = said()
    assert (first[0], second[0]) == (1, 2)
    both = np.isfinite(first[1]) & np.isfinite(second[1])
    assert both.any() and not np.allclose(first[1][both], second[1][both])


def test_every_ablation_is_a_recipe_that_learns(batch: dict[str, torch.Tensor]) -> None:
    from hand_mesh_ros.evaluation.hamuco_ablations import VARIANTS

    full = set(_module().losses(batch, even=True))
    for name, switches in VARIANTS.items():
        module = _module(*switches)
        parts = module.losses(batch, even=True, masked=True)
        assert torch.stack(list(parts.values())).sum().isfinite()
        without = {"consistency": "no consistency", "distill": "no distillation"}
        for part, said in without.items():
            assert (part in parts) == (said not in name)
        assert ("points" in parts) == name.startswith("full") and set(parts) <= full
        attention = module.network.cross.blocks[0].attention
        assert (attention is None) == ("no cross-view attention" in name)
