"""What can be learnt, by name: each a function (recipe) that gives a LightningModule.

A task's module has `network`, with `weights()` for the file that is kept and `load_weights` for
beginning with one (`model.start` of any recipe), and logs `val_pa_mpjpe` (mm), by which checkpoints
are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import RecipeError

if TYPE_CHECKING:
    from lightning import LightningModule

TASKS: dict[str, str] = {
    "mano": "hand_mesh_ros.training.module:ManoModule",
    "hamer": "hand_mesh_ros.training.hamer_module:HamerModule",
    "amvur": "hand_mesh_ros.training.amvur_module:AmvurModule",
    "hamuco": "hand_mesh_ros.training.hamuco_module:HamucoModule",
    "hand-mask": "hand_mesh_ros.training.mask_module:HandMaskModule",
    "sima-mvr": "hand_mesh_ros.training.sima_module:SimaMvrModule",
    "sima-svr": "hand_mesh_ros.training.sima_module:SimaSvrModule",
}


def create_task(recipe: Recipe) -> LightningModule:
    """The module of `recipe.task`, also "module:function", begun as `model.start` says.

    `start` is a file of weights that a run of the same kind of network left, or the plain name of
    some that ship (`hamuco`); without it networks begin as their task makes them. Raises
    RecipeError for an unknown task and for such a file that is missing, broken or of another
    network.
    """
    where = TASKS.get(recipe.task, recipe.task)
    module, colon, function = where.partition(":")
    if not colon:
        raise RecipeError(
            f"{recipe.file}: task is {recipe.task!r}; choose one of {', '.join(TASKS)}"
        )
    make: Callable[[Recipe], LightningModule] = getattr(import_module(module), function)
    model = dict(recipe.model)
    start = model.pop("start", None)
    made = make(replace(recipe, model=model))
    if start is not None:
        from hand_mesh_ros.training.start import begin_with, start_file

        network: Any = made.network
        begin_with(network, start_file(str(start)), recipe.file)
    return made
