"""Runs of tiny recipes: what they leave, resuming, learning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.backbones import create_backbone
from hand_mesh_ros.training.curves import read_history
from hand_mesh_ros.training.recipes import read_recipe, smoke
from hand_mesh_ros.training.run import run
from hand_mesh_ros.training.settings import RecipeError
from hand_mesh_ros.training.tasks import create_task

Tiny = Callable[..., Any]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_weights_card_and_report(tiny: Tiny, tmp_path: Path) -> None:
    recipe, out = tiny(), tmp_path / "run"
    report = run(recipe, out, quiet=True)
    assert json.loads((out / "report.json").read_text()) == report
    assert (report["epochs"], report["steps"]) == (3, 6)
    assert 0 < report["metrics"]["val_pa_mpjpe"] < report["metrics"]["val_mpjpe"]
    weights = _weights(out)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    # MANO's arrays may not be given away: none of them is in the file
    assert {name.split(".")[0] for name in weights} == {"backbone", "head"}
    module = create_task(recipe)
    module.network.load_weights({name: value.float() for name, value in weights.items()})
    with safe_open(out / "weights.safetensors", "pt") as file:
        assert "task: mano" in file.metadata()["recipe"]
    card = (out / "model_card.md").read_text()
    for words in ("A test.", "source `cell`", "seed 0", "val_pa_mpjpe", "commit"):
        assert words in card
    # the last checkpoint's average, at half precision, is what was kept
    average = torch.load(out / "last.ckpt", weights_only=False)["state_dict"]
    head = average["network.head.out.weight"].half()
    assert torch.equal(head, weights["head.out.weight"])


def test_equal_runs_give_equal_weights_and_other_seeds_do_not(tiny: Tiny, tmp_path: Path) -> None:
    made = {}
    for name, changes in {"a": [], "b": [], "c": ["seed=1"]}.items():
        run(tiny("trainer.epochs=1", *changes), tmp_path / name, quiet=True)
        made[name] = _weights(tmp_path / name)
    assert _same(made["a"], made["b"])
    assert not _same(made["a"], made["c"])


_RUN_AND_DIE = """
import os, signal, sys
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from pathlib import Path
from hand_mesh_ros.training.recipes import read_recipe
from hand_mesh_ros.training.run import run
torch.set_num_threads(1)
saved = ModelCheckpoint.on_train_epoch_end
def die(self, trainer, module):
    saved(self, trainer, module)
    if trainer.current_epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
ModelCheckpoint.on_train_epoch_end = die
run(read_recipe(sys.argv[1]), Path(sys.argv[2]), quiet=True)
"""


def test_a_killed_run_resumes_to_the_same_weights(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny()
    run(recipe, tmp_path / "whole", quiet=True)
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    died = subprocess.run(
        [sys.executable, "-c", _RUN_AND_DIE, tmp_path / "tiny.yaml", tmp_path / "part"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not (tmp_path / "part" / "weights.safetensors").exists()
    report = run(recipe, tmp_path / "part", resume=True, quiet=True)
    assert report["steps"] == 6
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "part"))
    # the first session's epochs are in the history, too
    assert read_history(tmp_path / "part") == read_history(tmp_path / "whole")


def test_mixed_precision_trains_and_differs_little(tiny: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="[train-more] is not installed")
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        recipe = tiny(f"trainer.precision={precision}", "trainer.log=tensorboard")
        found[precision] = run(recipe, tmp_path / precision, quiet=True)["metrics"]["val_loss"]
        assert list((tmp_path / precision / "logs").glob("events.out.tfevents.*"))
    assert found["bf16-mixed"] != found["32-true"]
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], rel=0.03)


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
def test_two_processes_train_together(tiny: Tiny, tmp_path: Path) -> None:
    """DDP on the CPU: half the steps of one process, which sees every second sample."""
    tiny()
    script = tmp_path / "both.py"  # a file: Lightning starts the second process by its name
    script.write_text(_RUN)
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    changes = ["trainer.devices=2", "trainer.strategy=ddp", "data.validation.count=5"]
    done = subprocess.run(
        [sys.executable, script, tmp_path / "tiny.yaml", tmp_path / "run", *changes],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["epochs"], report["steps"]) == (3, 3)
    assert 0 < report["metrics"]["val_pa_mpjpe"] < 60


def test_a_run_begins_with_what_another_left(tiny: Tiny, tmp_path: Path) -> None:
    run(tiny("trainer.epochs=1"), tmp_path / "first", quiet=True)
    path = tmp_path / "first" / "weights.safetensors"
    first = _weights(tmp_path / "first")
    begun = create_task(tiny(f"model.start={path}", "seed=5")).network.weights()
    assert all(torch.equal(begun[k].half(), first[k]) for k in first)
    report = run(tiny(f"model.start={path}", "trainer.epochs=1"), tmp_path / "second", quiet=True)
    assert report["steps"] == 2 and not _same(first, _weights(tmp_path / "second"))
    assert f"start: {path}" in (tmp_path / "second" / "recipe.yaml").read_text()
    # without a backbone (of a run that left it frozen) the network's own stays
    head = {k: v for k, v in first.items() if k.startswith("head.")}
    save_file(head, tmp_path / "head.safetensors")
    begun = create_task(tiny(f"model.start={tmp_path}/head.safetensors")).network.weights()
    assert all(torch.equal(begun[k].half(), v) for k, v in head.items())
    assert not torch.equal(begun["backbone.0.weight"].half(), first["backbone.0.weight"])
    for changes, message in (
        ([f"model.start={path}", "model.hidden=8"], "another network:\nof other shape.*head"),
        ([f"model.start={path}", "model.frozen=true"], "unexpected .*backbone.0.weight"),
        (["model.start=nowhere.safetensors"], "tiny.yaml: model.start: nowhere.safetensors"),
    ):
        with pytest.raises(RecipeError, match=message):
            create_task(tiny(*changes))


def test_a_backbones_weights_are_a_file_of_the_recipe(tiny: Tiny, tmp_path: Path) -> None:
    state = {k: v + 1 for k, v in create_backbone("densestack").state_dict().items()}
    save_file(state, tmp_path / "stack.safetensors")
    module = create_task(
        tiny("model.backbone=densestack", f"model.weights={tmp_path}/stack.safetensors")
    )
    own = module.network.backbone.state_dict()
    assert all(torch.equal(own[k], state[k]) for k in state)
    with pytest.raises(ValueError, match="brings its own weights"):
        create_task(tiny("model.weights=a.pth"))


def test_a_folder_with_a_run_is_not_written_over(tiny: Tiny, tmp_path: Path) -> None:
    run(tiny("trainer.epochs=1"), tmp_path / "run", quiet=True)
    with pytest.raises(FileExistsError, match="--resume"):
        run(tiny("trainer.epochs=1"), tmp_path / "run", quiet=True)
    with pytest.raises(RecipeError, match="optimiser.rate is 0.1, .*begun with 0.003"):
        changed = tiny("trainer.epochs=1", "optimiser.rate=0.1")
        run(changed, tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.width=3", "tiny.yaml: unknown key model.width; known are backbone"),
        ("losses.uv=-1", "tiny.yaml: losses.uv must not be negative"),
        ("task=dance", "tiny.yaml: task is 'dance'; choose one of mano"),
        ("trainer.strategy=fsdp", "tiny.yaml: trainer.ema must be 0 with strategy fsdp"),
    ],
)
def test_what_a_task_cannot_use_is_told(
    tiny: Tiny, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(tiny(change), tmp_path / "run", quiet=True)


def test_training_learns_a_handful_of_samples(tiny: Tiny, tmp_path: Path) -> None:
    """Four hands, seen again and again as they are: errors fall to a third, and of poses too."""
    from hand_mesh_ros.training.data import HandData

    recipe = tiny("data.train.count=4", "model.channels=16", "model.hidden=64")
    torch.manual_seed(0)
    module, data = create_task(recipe), HandData(recipe)
    (batch,) = list(data.loader("validation"))
    optimiser = torch.optim.Adam(module.network.parameters(), lr=3e-3)

    def errors() -> tuple[float, float]:
        module.eval()
        module.val_mpjpe.reset()
        module.val_pa_mpjpe.reset()
        with torch.no_grad():
            module.validation_step(batch, 0)
        return module.val_mpjpe.compute().item(), module.val_pa_mpjpe.compute().item()

    module.log = lambda *args, **kwargs: None  # there is no trainer to log to
    module.log_dict = lambda *args, **kwargs: None
    before = errors()
    for _ in range(400):
        optimiser.zero_grad()
        module.training_step(batch, 0).backward()
        optimiser.step()
    after = errors()
    assert after[0] < before[0] / 3
    assert after[1] < before[1] / 3


@pytest.mark.parametrize("name", ["landmark-trunk-mano", "frozen-trunk-mano"])
def test_shipped_recipes_run(name: str, tmp_path: Path) -> None:
    pytest.importorskip("warp", reason="the training renderer needs warp-lang")
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    report = run(smoke(read_recipe(name)), tmp_path, quiet=True)
    assert report["steps"] == 4
    assert report["metrics"]["val_pa_mpjpe"] < 60
    frozen = all(key.startswith("head.") for key in _weights(tmp_path))
    assert frozen == (name == "frozen-trunk-mano")
