"""What can be learnt, by name: each a function (recipe) that gives a LightningModule.

A task's module has `network`, with `weights()` for the file that is kept, and logs `val_pa_mpjpe`
(mm), by which checkpoints are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import RecipeError

if TYPE_CHECKING:
    from lightning import LightningModule

TASKS: dict[str, str] = {
    "mano": "hand_mesh_ros.training.module:ManoModule",
}


def create_task(recipe: Recipe) -> LightningModule:
    """The module of `recipe.task`, also "module:function"; RecipeError for an unknown one."""
    where = TASKS.get(recipe.task, recipe.task)
    module, colon, function = where.partition(":")
    if not colon:
        raise RecipeError(
            f"{recipe.file}: task is {recipe.task!r}; choose one of {', '.join(TASKS)}"
        )
    make: Callable[[Recipe], LightningModule] = getattr(import_module(module), function)
    return make(recipe)
