"""SiMA-Hand's training: losses, teaching, and that the networks can learn at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.training.recipes import Recipe, read_recipe, smoke
from hand_mesh_ros.training.run import run
from hand_mesh_ros.training.settings import RecipeError
from hand_mesh_ros.training.sima_losses import (
    HandTruth,
    SimaWeights,
    Teaching,
    TeachingWeights,
    sima_losses,
    surface_losses,
)
from hand_mesh_ros.training.sima_module import (
    SimaMvrModule,
    SimaSvrModule,
    crop_axes_of,
    errors_of,
    hidden_evidence,
    some_missing,
)
from hand_mesh_ros.training.tasks import create_task

HANDS, VIEWS = 2, 3


def drawn(seed: int = 0) -> dict[str, Tensor]:
    """A batch of hands in several cameras, whose evidence says nothing of them."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    axes = rotations_from_6d(noise(HANDS, VIEWS, 6))
    world = rotations_from_6d(noise(HANDS, 6))
    local = rotations_from_6d(torch.tensor([1.0, 0, 0, 0, 1, 0]) + 0.2 * noise(HANDS, 15, 6))
    rotations = torch.cat(
        [(axes @ world[:, None])[:, :, None], local[:, None].expand(-1, VIEWS, -1, -1, -1)], 2
    )
    betas = noise(HANDS, 10)[:, None].expand(-1, VIEWS, -1)
    posed = ManoLayer(load_hand_model())(rotations.flatten(0, 1), betas.flatten(0, 1))
    joints = (posed.joints - posed.joints[:, :1]).unflatten(0, (HANDS, VIEWS))
    return {
        "valid": torch.ones(HANDS, VIEWS, dtype=torch.bool),
        "middle": noise(HANDS, VIEWS, 14, 14, 112), "coarse": noise(HANDS, VIEWS, 7, 7, 192),
        "landmarks": 0.4 * noise(HANDS, VIEWS, 21, 3), "world": joints + 0.01 * noise(21, 3),
        "joints": joints, "uv": 0.4 * noise(HANDS, VIEWS, 21, 2),
        "rotations": rotations, "betas": betas.clone(),
        "R_crop_camera": axes, "T_camera_world": torch.eye(4).expand(HANDS, VIEWS, 4, 4),
        "left": torch.zeros(HANDS, dtype=torch.bool),
        "visible_share": torch.rand(HANDS, VIEWS, generator=random),
    }  # fmt: skip


def module(name: str, *changes: str) -> Any:
    """A recipe's module, without a trainer to log to."""
    recipe = read_recipe(name, changes)
    made: Any = create_task(recipe)
    made.log = lambda *args, **kwargs: None
    made.log_dict = lambda *args, **kwargs: None
    return made


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-view network's file of weights, untrained but for its fusions' last layers."""
    from safetensors.torch import save_file

    made = module("sima-mvr-renders")
    for name, parameter in made.network.named_parameters():
        if "fusion.outer" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("teacher") / "weights.safetensors"
    recipe = "task: sima-mvr\nmodel: {}\ndata: {}\n"
    weights = {k: v.contiguous() for k, v in made.network.weights().items()}
    save_file(weights, path, metadata={"recipe": recipe})
    return path


UNTAUGHT = ("model.teacher=null", "model.begin=false", "losses.hidden=0")


def test_a_batch_can_be_learnt_by_heart() -> None:
    made = module("sima-svr-renders", *UNTAUGHT)
    batch = drawn()
    optimiser = torch.optim.Adam(made.parameters(), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=110, pct_start=0.15)
    for _ in range(110):
        optimiser.zero_grad()
        made.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    made.eval()
    with torch.no_grad():
        hands = made.network.together(batch, batch["valid"])
        errors = errors_of(hands, *made._truth(batch, batch["valid"], whole=True))
    assert errors["mpvpe"].mean() < 3.0
    assert errors["pa_mpjpe"].mean() < 2.0


def test_perfect_hands_have_no_loss_and_unknown_ones_no_gradient() -> None:
    made = module("sima-svr-renders", *UNTAUGHT)
    batch = drawn()
    truth, _ = made._truth(batch, batch["valid"])
    hands = made.network.together(batch, batch["valid"])
    perfect = made.layer(batch["rotations"].flatten(0, 1), batch["betas"].flatten(0, 1))
    root = truth.joints0[:, :1]
    place = root - perfect.joints[:, :1]
    unturned = batch["rotations"].flatten(0, 1).clone()
    unturned[:, 0] = torch.eye(3)
    right = hands._replace(
        vertices0=made.layer(unturned, batch["betas"].flatten(0, 1)).vertices,
        joints0=truth.joints0, rotation=truth.rotation, vertices=perfect.vertices + place,
        joints=perfect.joints + place, uv=truth.uv,
    )  # fmt: skip
    kept, faces = made.network.head_vertices, made.network.head_faces
    for name, value in sima_losses(right, truth, kept, faces, SimaWeights()).items():
        # edges of a face are at right angles to its own normal
        assert float(value) < 1e-5, name
    nothing = HandTruth(*(torch.full_like(t, torch.nan) for t in truth))
    parts = sima_losses(hands, nothing, kept, faces, SimaWeights())
    total = torch.stack(list(parts.values())).sum()
    total.backward()
    assert float(total.detach()) == 0
    gradients = [p.grad for p in made.network.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() and not g.any() for g in gradients)
    first = sima_losses(hands, truth, kept, faces, SimaWeights(), oriented=False)
    assert set(first) == {"vertices0", "joints0", "uv", "normal", "edge"}


def test_surface_losses_of_a_plane() -> None:
    flat = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    normal, edge = surface_losses(2 * flat, flat, faces)
    assert float(normal) == 0
    assert float(edge) == pytest.approx(float(torch.tensor([1, 2**0.5, 1]).mean()))
    lifted = flat.clone()
    lifted[0, 0, 2] = 1.0
    assert float(surface_losses(lifted, flat, faces)[0]) > 0.2


def test_a_student_is_drawn_to_its_teacher_and_the_teacher_stays(teacher: Path) -> None:
    silent = "losses.hand={unit: 0, uv: 0, normal: 0, rotation: 0}"  # no truths
    told = (f"model.teacher={teacher}", "model.begin=false", "seed=1", "losses.hidden=0", silent)
    made = module("sima-svr-renders", *told)
    frozen = [p.clone() for p in made._teacher[0].parameters()]
    assert not set(map(id, made.parameters())) & set(map(id, made._teacher[0].parameters()))
    batch = drawn()
    seen: dict[str, list[float]] = {}
    made.log_dict = lambda parts, **_: [
        seen.setdefault(k, []).append(float(v)) for k, v in parts.items()
    ]
    optimiser = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(40):
        optimiser.zero_grad()
        made.training_step(batch, 0).backward()
        optimiser.step()
    for name in ("hsfe", "hofe", "told_vertices", "told_rotation"):
        values = seen[f"train_{name}"]
        assert np.mean(values[-5:]) < 0.8 * values[0], name
    for before, after in zip(frozen, made._teacher[0].parameters(), strict=True):
        assert torch.equal(before, after)
    # at test there is nothing of the teacher's: neither in the weights nor in the answer
    untaught = module("sima-svr-renders", *UNTAUGHT)
    assert set(made.network.weights()) == set(untaught.network.weights())


def test_a_teacher_teaches_hands_whose_truth_nobody_knows(teacher: Path) -> None:
    """A batch's second hand has no truth: its loss is the teacher's alone, and has a gradient."""
    made = module("sima-svr-renders", f"model.teacher={teacher}", "losses.hidden=0")
    batch = drawn()
    for name in ("joints", "uv", "rotations", "betas", "visible_share"):
        batch[name][1] = torch.nan
    parts: dict[str, float] = {}
    made.log_dict = lambda told, **_: parts.update(told)
    made.training_step(batch, 0).backward()
    assert all(np.isfinite(float(value)) for value in parts.values()) and len(parts) > 8
    gradients = [p.grad for p in made.network.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)
    for name in batch:  # nothing is known of either: no truth's loss is left
        if name in ("joints", "uv", "rotations", "betas"):
            batch[name][0] = torch.nan
    made.training_step(batch, 0).backward()
    taught = {"train_hsfe", "train_hofe", "train_told_vertices", "train_told_rotation"}
    assert {name for name, value in parts.items() if float(value) > 0} == taught


def test_a_student_may_begin_with_what_its_teacher_has(teacher: Path) -> None:
    begun = module("sima-svr-renders", f"model.teacher={teacher}", "model.begin=true")
    apart = module("sima-svr-renders", f"model.teacher={teacher}", "model.begin=false", "seed=1")
    of_teacher = begun._teacher[0].state_dict()
    shared = [k for k in begun.network.state_dict() if k in of_teacher]
    assert any(k.startswith("trunk") for k in shared)
    for key in shared:
        assert torch.equal(begun.network.state_dict()[key], of_teacher[key])
    assert any(
        not torch.equal(apart.network.state_dict()[k], of_teacher[k]) for k in shared
    )
    with pytest.raises((RecipeError, AssetError), match="nowhere"):
        module("sima-svr-renders", "model.teacher=nowhere.safetensors")


def test_each_way_of_teaching_is_a_switch(teacher: Path) -> None:
    made = module("sima-svr-renders", f"model.teacher={teacher}")
    batch = drawn()
    with torch.no_grad():
        target = made._teacher[0].together(batch, batch["valid"], crop_axes_of(batch))
    hands = made.network.together(batch, batch["valid"])
    off = TeachingWeights(shape=0, orientation=0)
    for change, parts in (
        ({}, set()), ({"shape": 1.0}, {"hsfe"}), ({"orientation": 1.0}, {"hofe"}),
        ({"vertices": 1.0}, {"told_vertices"}), ({"rotation": 1.0}, {"told_rotation"}),
        ({"shape": 1.0, "generator": "plain"}, {"hsfe"}),
    ):  # fmt: skip
        teaching = Teaching(32, made.network.coarsest, replace(off, **change))
        assert set(teaching(hands, target, made.network.head_vertices)) == parts
        assert (teaching.generator is None) == (change.get("generator") == "plain")
    made.network.zero_grad()
    views = len(hands.uv)
    shown = torch.full((views,), torch.nan)
    shown[0] = 0.0
    teaching = Teaching(32, made.network.coarsest, replace(off, rotation=1.0, occluded=9.0))
    plain = (hands.rotation - target.rotation).square().flatten(1).mean(1)
    wanted = (10 * plain[0] + plain[1:].sum()) / (10 + views - 1)
    told = teaching(hands, target, made.network.head_vertices, shown)["told_rotation"]
    assert float(told.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    teaching = Teaching(32, made.network.coarsest, replace(off, orientation=1.0))
    teaching(hands, target, made.network.head_vertices)["hofe"].backward()
    reached = {
        name.split(".")[0]
        for name, p in made.network.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    assert reached == {"geometry", "map_adapter", "latent_adapter", "map_encoder", "regressor"}


def test_views_are_missing_in_training_but_never_all() -> None:
    torch.manual_seed(0)
    valid = torch.ones(400, 3, dtype=torch.bool)
    valid[:, 2] = False
    kept = some_missing(valid, 0.5)
    assert kept.any(1).all() and not kept[:, 2].any()
    assert 0.7 < kept[:, :2].float().mean() < 0.8  # a half, and both where both would be gone
    assert some_missing(valid, 0.0) is valid


def test_hidden_evidence_is_a_part_of_it() -> None:
    torch.manual_seed(0)
    batch = drawn()
    hidden = hidden_evidence(batch, 0.999)
    for name in ("middle", "coarse"):
        changed = (hidden[name] != batch[name]).any(-1)
        assert 0.02 < changed.float().mean() < 0.7
    moved = (hidden["landmarks"] != batch["landmarks"]).any(-1)
    assert (moved == (hidden["world"] != batch["world"]).any(-1)).all() and not moved.all()
    assert hidden["uv"] is batch["uv"]
    same = hidden_evidence(batch, 0.0)
    assert torch.equal(same["coarse"], batch["coarse"])


def test_axes_of_left_hands_are_those_of_the_mirrored_world() -> None:
    batch = drawn()
    batch["left"][1] = True
    axes = crop_axes_of(batch)
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]))
    assert torch.allclose(axes[0], batch["R_crop_camera"][0])
    assert torch.allclose(axes[1], mirror @ batch["R_crop_camera"][1] @ mirror)


def test_the_same_rotation_in_all_views_is_what_the_teacher_is_told() -> None:
    batch = drawn()
    axes = crop_axes_of(batch)
    world = axes.mT @ batch["rotations"][:, :, 0]
    assert torch.allclose(world, world[:, :1].expand_as(world), atol=1e-5)


RECIPES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "sima-mvr-renders": (SimaMvrModule, ()),
    "sima-svr-renders": (SimaSvrModule, ("model.teacher=null", "model.begin=false")),
    "sima-mvr-hanco": (SimaMvrModule, ()),
    "sima-svr-dexycb": (SimaSvrModule, ("model.teacher=null", "model.begin=false")),
}


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_run(name: str, tmp_path: Path) -> None:
    pytest.importorskip("warp", reason="the training renderer needs warp-lang")
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    kind, changes = RECIPES[name]
    recipe: Recipe = smoke(read_recipe(name, changes))
    report = run(recipe, tmp_path, quiet=True)
    assert report["steps"] == 4
    assert set(report["metrics"]) >= {"val_mpjpe", "val_mpvpe", "val_pa_mpjpe", "val_pa_mpvpe"}
    assert np.isfinite(list(report["metrics"].values())).all()
