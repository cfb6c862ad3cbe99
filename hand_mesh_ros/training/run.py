"""A recipe, run: Lightning's trainer, and what a run leaves behind.

The folder of a run holds `recipe.yaml` (as it was run), `last.ckpt` (to resume from) and the best
checkpoints, the logs, `history.csv` with a line an epoch, and in the end `weights.safetensors`
(half precision, moving average), `curves.png`, `model_card.md` and `report.json`.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from hand_mesh_ros.training.data import HandData, hand_model_of
from hand_mesh_ros.training.ema import MovingAverage
from hand_mesh_ros.training.history import History
from hand_mesh_ros.training.instant_data import InstantData, ReadsStores
from hand_mesh_ros.training.model_card import commit, model_card
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.resume import check_same, write_recipe
from hand_mesh_ros.training.settings import RecipeError
from hand_mesh_ros.training.tasks import create_task

LAST = "last.ckpt"
# Few workers are the recipe's choice, a folder with files in it is a resumed run's, and the rest
# is between Lightning and torch.
_KNOWN_WARNINGS = (
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*warn_only=True.*",
    ".*in eval mode at the start of training.*",
)


def run(recipe: Recipe, out: Path, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Train a recipe into the folder `out`; returns the report that is also in `report.json`.

    With `resume` it goes on from `last.ckpt`, if there is one, and ends with the weights that an
    uninterrupted run would have. Checkpoints are made at the ends of epochs.
    Raises RecipeError if the recipe cannot be used, or is not the one that `out` was begun with;
    FileExistsError if `out` holds a run and `resume` is not set.
    """
    _check(recipe)
    last = out / LAST
    if last.exists() and not resume:
        raise FileExistsError(f"{out} holds a run: go on with it by --resume, or choose another")
    if last.exists():
        check_same(recipe, out)
    out.mkdir(parents=True, exist_ok=True)
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    module: Any = create_task(recipe)
    stored = bool(recipe.data.train.counts)
    data: lightning.LightningDataModule
    if hasattr(module, "data"):  # a task may have batches of its own kind
        data = module.data()
    else:
        data = InstantData(recipe, _reads(module, recipe)) if stored else HandData(recipe)
    trainer = _trainer(recipe, out, quiet, module)
    if trainer.is_global_zero:
        write_recipe(recipe, out)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        for known in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=known)
        trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None,
                    weights_only=False)  # fmt: skip
        seconds = time.perf_counter() - begin
        if trainer.interrupted:
            raise KeyboardInterrupt
        # the moving average is in the model now
        (metrics,) = trainer.validate(module, data, verbose=False)
    report = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(seconds, 1),
        "commit": commit(),
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
    }
    if trainer.is_global_zero:
        _write(module, recipe, report, out)
    return report


def _reads(module: Any, recipe: Recipe) -> ReadsStores:
    if not hasattr(module, "store_fields"):
        raise RecipeError(f"{recipe.file}: the task {recipe.task!r} is not trained on stores")
    reads: ReadsStores = module
    return reads


def _check(recipe: Recipe) -> None:
    trainer = recipe.trainer
    if trainer.ema and trainer.strategy.startswith("fsdp"):
        raise RecipeError(
            f"{recipe.file}: trainer.ema must be 0 with strategy fsdp, which has no whole weights "
            "to average"
        )


def _trainer(
    recipe: Recipe, out: Path, quiet: bool, module: lightning.LightningModule
) -> lightning.Trainer:
    how, best_by = recipe.trainer, getattr(module, "best_by", "val_pa_mpjpe")
    # a task with several optimisers clips and accumulates by itself
    alone = module.automatic_optimization
    logger: Logger = CSVLogger(out, name="logs", version="")
    if how.log == "tensorboard":
        logger = TensorBoardLogger(out, name="logs", version="")
    callbacks: list[Callback] = [_Seeded(recipe.seed), History(out), _kept(out, Path(LAST).stem)]
    if how.keep:
        unit = "mm" if best_by.endswith("mpjpe") else ""
        best = _kept(out, f"{{epoch:03d}}-{{{best_by}:.2f}}{unit}", best_by, how.keep)
        callbacks.append(best)
    if how.ema:
        callbacks.append(MovingAverage(how.ema))
    # what it tells of itself at every start; warnings remain
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if not quiet:
        from lightning.pytorch.callbacks import RichProgressBar

        callbacks += [RichProgressBar(), LearningRateMonitor("step")]
    return lightning.Trainer(
        accelerator=how.accelerator,
        devices=how.devices or "auto",
        num_nodes=how.nodes,
        strategy=how.strategy,
        precision=how.precision,
        max_epochs=how.epochs,
        accumulate_grad_batches=how.accumulate if alone else 1,
        gradient_clip_val=(recipe.optimiser.clip or None) if alone else None,
        deterministic="warn" if how.deterministic else False,
        logger=logger,
        callbacks=callbacks,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        # every epoch has its own samples, shared out among devices by `HandData`
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_progress_bar=not quiet,
        enable_model_summary=not quiet,
    )


def _kept(out: Path, filename: str, monitor: str | None = None, count: int = 1) -> ModelCheckpoint:
    """Checkpoints after an epoch's end, so that a resumed run begins with the next one."""
    return ModelCheckpoint(
        out,
        filename=filename,
        auto_insert_metric_name=False,
        monitor=monitor,
        save_top_k=count,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class _Seeded(Callback):
    """Random numbers of a step (dropout) depend on its number, not on what ran before.

    Of an epoch would not do: Lightning draws from the generator in another order after a resume.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, *args: Any) -> None:
        step = trainer.fit_loop.total_batch_idx
        torch.manual_seed((self._seed + 1) * 1_000_003 + step + trainer.global_rank * 500_009)


def _write(module: Any, recipe: Recipe, report: dict[str, Any], out: Path) -> None:
    from safetensors.torch import save_file

    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in module.network.weights().items()
    }
    words = {
        "recipe": (out / "recipe.yaml").read_text(),
        "report": json.dumps(report),
        "hand_model": json.dumps(hand_model_of(recipe).model_id),
        # what a network's reader needs beside the tensors
        **{name: json.dumps(value) for name, value in getattr(module.network, "notes", {}).items()},
    }
    save_file(weights, out / "weights.safetensors", metadata=words)
    count = sum(value.numel() for value in weights.values())
    (out / "model_card.md").write_text(model_card(recipe, report, count))
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
