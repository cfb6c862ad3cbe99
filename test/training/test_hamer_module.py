"""HaMeR's training: two optimisers that resume, a judge that learns, networks that begin anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import safe_open
from safetensors.torch import load_file

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.checkpoints import open_reconstructor
from hand_mesh_ros.networks.discriminator import Discriminator
from hand_mesh_ros.networks.hamer_small import HamerSmall, HamerSmallConfig, Seen, open_hamer_small
from hand_mesh_ros.training.curves import read_history
from hand_mesh_ros.training.hamer_losses import HamerTruth, discriminator_loss, rotations_of
from hand_mesh_ros.training.mocap import Recorded
from hand_mesh_ros.training.recipes import Recipe, read_recipe, smoke
from hand_mesh_ros.training.run import run
from hand_mesh_ros.training.settings import RecipeError
from hand_mesh_ros.training.tasks import create_task

HAMER = """\
name: tiny-hamer
task: hamer
data:
  train: {source: cell, count: 8, options: {width: 160, height: 120}}
  validation: {source: cell, count: 4, options: {width: 160, height: 120}}
model:
  network: published
  backbone: {width: 16, depth: 1, heads: 2, mlp_ratio: 2, drop_path: 0.3}
  decoder: {dim: 16, depth: 1, heads: 2, dim_head: 8, mlp_dim: 16}
optimiser: {rate: 0.003, warmup_steps: 1}
trainer: {epochs: 3, batch: 4, accelerator: cpu, devices: 1, ema: 0.5}
"""
Make = Callable[..., Recipe]


@pytest.fixture
def hamer(tmp_path: Path) -> Make:
    """`hamer("key=value", ...)`: the recipe above with changes."""
    (tmp_path / "hamer.yaml").write_text(HAMER)
    return lambda *changes: read_recipe(str(tmp_path / "hamer.yaml"), changes)


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class _Broken(Exception):
    pass


def test_a_run_broken_off_resumes_to_the_same_weights_of_both(
    hamer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    report = run(hamer(), whole, quiet=True)
    assert report["steps"] == 12  # of two optimisers
    saved = ModelCheckpoint.on_train_epoch_end

    def broken(self: ModelCheckpoint, trainer: lightning.Trainer, module: Any) -> None:
        saved(self, trainer, module)
        if trainer.current_epoch == 1 and self.monitor is None:
            raise _Broken

    with monkeypatch.context() as patched:
        patched.setattr(ModelCheckpoint, "on_train_epoch_end", broken)
        with pytest.raises(_Broken):
            run(hamer(), part, quiet=True)
    run(hamer(), part, resume=True, quiet=True)
    for name in ("state_dict", "current_model_state"):
        states = [
            torch.load(folder / "last.ckpt", weights_only=False)[name] for folder in (whole, part)
        ]
        assert any(key.startswith("judge.") for key in states[0])
        assert _same(*states)
    assert read_history(part) == read_history(whole)


def test_both_learn_and_parts_sum_to_the_loss(hamer: Make, tmp_path: Path) -> None:
    run(hamer("trainer.epochs=5", "data.validation.count=2"), tmp_path / "run", quiet=True)
    history = read_history(tmp_path / "run")
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert history["train_judge"][-1] < 0.9 * history["train_judge"][0]
    parts = [
        history[f"train_{name}"]
        for name in ("keypoints_2d", "keypoints_3d", "global_orient", "hand_pose", "betas",
                     "adversarial")
    ]  # fmt: skip
    assert np.sum(parts, axis=0) == pytest.approx(history["train_loss"], rel=1e-4)


def test_without_its_opinion_the_judge_is_left_alone(hamer: Make, tmp_path: Path) -> None:
    recipe = hamer("trainer.epochs=1", "losses={adversarial: 0.0}", "trainer.ema=0.0")
    before = create_task(recipe).state_dict()
    run(recipe, tmp_path / "run", quiet=True)
    after = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["state_dict"]
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert any(k.startswith("network.mano_head.") for k in moved)
    assert not any("discriminator" in k or k.startswith("judge.") for k in moved)
    assert not any(k.startswith("network.mano.") for k in moved)


def test_accumulated_batches_are_one_step_and_a_clip_holds_them(
    hamer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of two, accumulated, have the gradient of one of four."""
    plain = ("trainer.epochs=1", "data.train.count=4", "trainer.ema=0.0",
             "model.backbone={width: 16, depth: 1, heads: 2, mlp_ratio: 2, drop_path: 0.0}",
             "losses={adversarial: 0.0}", "model.reduction=mean")  # fmt: skip
    module = type(create_task(hamer(*plain)))
    original, gradients = module.on_before_optimizer_step, []

    def seen(self: Any, optimiser: Any) -> None:
        original(self, optimiser)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))

    monkeypatch.setattr(module, "on_before_optimizer_step", seen)
    for name, more in {
        "whole": ["optimiser.clip=0"],
        "halves": ["optimiser.clip=0", "trainer.batch=2", "trainer.accumulate=2"],
        "clipped": ["optimiser.clip=0.001"],
    }.items():
        assert run(hamer(*plain, *more), tmp_path / name, quiet=True)["steps"] == 1
    whole, halves, clipped = gradients
    assert whole.norm() > 0.01
    torch.testing.assert_close(halves, whole, atol=1e-4 * float(whole.abs().max()), rtol=1e-3)
    # two groups, each by its own norm
    assert 0 < clipped.norm() <= 0.001 * np.sqrt(2) * 1.01


def test_what_a_run_leaves_opens_as_hamer_and_begins_another(hamer: Make, tmp_path: Path) -> None:
    run(hamer("trainer.epochs=1"), tmp_path / "first", quiet=True)
    path = tmp_path / "first" / "weights.safetensors"
    opened = open_reconstructor(path, "hamer")
    assert opened.config.backbone.heads == 2 and opened.hand_model is not None
    with safe_open(path, "pt") as file:
        # MANO's arrays may not be given away: none of them is in the file
        assert not any(key.startswith("mano.") for key in file.keys())
    begun = create_task(hamer(f"model.start={path}"))
    kept = load_file(path)
    assert all(torch.equal(begun.network.state_dict()[k].half(), v) for k, v in kept.items())
    # a checkpoint as it is published: a hand model in it, and no discriminator
    state = {k: v for k, v in begun.network.state_dict().items() if "discriminator" not in k}
    assert any(key.startswith("mano.") for key in state)
    torch.save({"state_dict": state}, tmp_path / "published.ckpt")
    again = create_task(hamer(f"model.start={tmp_path / 'published.ckpt'}"))
    heads = [task.network.mano_head.decpose.weight for task in (begun, again)]
    assert torch.equal(*heads)
    with pytest.raises(RecipeError, match="another network"):
        create_task(hamer(f"model.start={path}", "model.decoder.dim=8"))


_RUN = """
import sys
import torch
from pathlib import Path
from hand_mesh_ros.training.recipes import read_recipe
from hand_mesh_ros.training.run import run
torch.set_num_threads(1)
run(read_recipe(sys.argv[1], sys.argv[3:]), Path(sys.argv[2]), quiet=True)
"""


@pytest.mark.slow
def test_two_processes_train_both_together(hamer: Make, tmp_path: Path) -> None:
    hamer()
    script = tmp_path / "both.py"  # a file: Lightning starts the second process by its name
    script.write_text(_RUN)
    root = Path(__file__).resolve().parents[2]
    changes = ["trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true",
               "trainer.batch=2"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, script, tmp_path / "hamer.yaml", tmp_path / "run", *changes],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["epochs"], report["steps"]) == (3, 12)
    history = read_history(tmp_path / "run")
    assert history["train_judge"][-1] < history["train_judge"][0]


def test_another_backbone_by_name(hamer: Make, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "backbone_of_patches.py").write_text(
        "from torch import nn\n\nclass Tiny(nn.Conv2d):\n    channels = 8\n\n"
        "def make():\n    return Tiny(3, 8, 32, stride=32)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    report = run(
        hamer("trainer.epochs=1", "model.backbone='backbone_of_patches:make'"), tmp_path / "run",
        quiet=True,
    )  # fmt: skip
    assert report["metrics"]["val_pa_mpjpe"] > 0
    kept = load_file(tmp_path / "run" / "weights.safetensors")
    assert kept["where"].shape == (1, 64, 8) and "backbone.weight" in kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.network=large", "network"),
        ("model.judge_rate=0", "judge_rate"),
        ("model.backbone.widht=3", "widht"),
        ("model.decoder.context_dim=3", "width 3"),
        ("losses={keypoints_2d: -1}", "keypoints_2d"),
        ("model.mocap=nowhere.npz", "nowhere.npz"),
        ("model={network: small}", "data.train.store"),
        ("data.train={store: smoke, count: 8}", "no crops"),
    ],
)
def test_bad_recipes_say_what_is_wrong(hamer: Make, change: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        create_task(hamer(change))


def _truth(known: list[float]) -> HamerTruth:
    torch.manual_seed(1)
    flags = torch.tensor(known)
    return HamerTruth(
        torch.zeros(len(known), 21, 3), torch.zeros(len(known), 21, 4),
        rotations_of(torch.randn(len(known), 48)), torch.randn(len(known), 10), flags, flags, flags,
    )  # fmt: skip


def test_the_judge_learns_to_tell_recorded_hands(tmp_path: Path) -> None:
    """Recorded ones hardly bend, a network's are anything."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mocap.npz",
        hand_pose=0.1 * rng.standard_normal((50, 48)), betas=0.1 * rng.standard_normal((50, 10)),
    )  # fmt: skip
    recorded = Recorded(str(tmp_path / "mocap.npz"), "recipe")
    torch.manual_seed(0)
    judge, truth = Discriminator(), _truth([1.0] * 8)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        rotations, betas = recorded.draw(truth)
        assert len(betas) == 16
        fake = judge(truth.rotations[:, 1:], truth.betas)
        loss = discriminator_loss(fake, judge(rotations, betas))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert judge(*recorded.draw(truth)).mean() > 0.7 > 0.3 > fake.mean()


def test_recorded_hands_are_the_batch_s_own_where_there_is_no_file(tmp_path: Path) -> None:
    truth = _truth([1.0, 0.0, 1.0])
    rotations, betas = Recorded(None, "recipe").draw(truth)
    assert torch.equal(betas, truth.betas[[0, 2]])
    assert torch.equal(rotations, truth.rotations[[0, 2], 1:])
    np.savez(tmp_path / "bad.npz", hand_pose=np.zeros((3, 45)), betas=np.zeros((3, 10)))
    with pytest.raises(RecipeError, match=r"\(3, 45\)"):
        Recorded(str(tmp_path / "bad.npz"), "recipe")


def _seen(batch: int, seed: int = 0) -> Seen:
    g = torch.Generator().manual_seed(seed)
    return Seen(
        torch.randn(batch, 14, 14, 112, generator=g), torch.randn(batch, 7, 7, 192, generator=g),
        torch.rand(batch, 21, 3, generator=g) - 0.5, 0.05 * torch.randn(batch, 21, 3, generator=g),
        torch.ones(batch), torch.ones(batch), 0.1 + 0.3 * torch.rand(batch, generator=g),
    )  # fmt: skip


def test_the_small_network_answers_with_and_without_a_surface() -> None:
    torch.manual_seed(0)
    network = HamerSmall(load_hand_model(), HamerSmallConfig(dim=32, depth=1, hidden=16)).eval()
    seen = _seen(3)
    with torch.inference_mode():
        full, projected = network.answer(seen)
        bare, again = network.answer(seen, surface=False)
        alone = network(Seen(*(value[1:2] for value in seen)))
    assert full.vertices.shape == (3, load_hand_model().num_vertices, 3)
    assert bare.vertices.shape == (3, 0, 3)
    torch.testing.assert_close(bare.joints, full.joints, atol=1e-6, rtol=0)
    torch.testing.assert_close(again, projected, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.joints, full.joints[1:2], atol=1e-6, rtol=0)
    # by the crop's own pinhole camera: half a crop is `field` of the distance
    points = full.joints + full.cam_t[:, None]
    expected = points[..., :2] / points[..., 2:] / (2 * seen.field[:, None, None])
    torch.testing.assert_close(projected, expected, atol=1e-5, rtol=0)


def test_tokens_are_hidden_in_training_only() -> None:
    torch.manual_seed(0)
    network = HamerSmall(load_hand_model(), HamerSmallConfig(dim=32, depth=1, dropped=0.5))
    tokens = torch.ones(8, 70, 4)
    shown = network.hidden(tokens)
    assert ((shown == 0) | (shown == 1)).all() and (shown[..., 0] == shown[..., 3]).all()
    assert 0.4 < shown.mean() < 0.6
    assert torch.equal(network.eval().hidden(tokens), tokens)


def test_the_small_recipe_runs_and_its_file_opens(tmp_path: Path) -> None:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    recipe = smoke(read_recipe("hamer-small", ["model.depth=1", "model.dim=32"]))
    run(recipe, tmp_path / "run", quiet=True)
    path = tmp_path / "run" / "weights.safetensors"
    network, model = open_hamer_small(path)
    assert network.config.depth == 1 and model.model_id == load_hand_model().model_id
    kept = load_file(path)
    assert all(torch.equal(network.weights()[k], v.float()) for k, v in kept.items())
    with pytest.raises(AssetError, match="no such file"):
        open_hamer_small(tmp_path / "nothing.safetensors")
    from safetensors.torch import save_file

    save_file(kept, tmp_path / "other.safetensors", {"config": json.dumps({"depth": 2})})
    with pytest.raises(AssetError, match="missing"):
        open_hamer_small(tmp_path / "other.safetensors")
    save_file(kept, tmp_path / "mano.safetensors", {"hand_model": json.dumps("mano_right")})
    with pytest.raises(AssetError, match="mano_right"):
        open_hamer_small(tmp_path / "mano.safetensors")
