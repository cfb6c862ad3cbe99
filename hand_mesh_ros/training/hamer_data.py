"""Batches of `HamerExample` by a recipe."""

from __future__ import annotations

from hand_mesh_ros.training.data import HandData
from hand_mesh_ros.training.datasets import MakesExample
from hand_mesh_ros.training.hamer_examples import MakeHamerExample
from hand_mesh_ros.training.recipes import Augmentation, Recipe


class HamerData(HandData):
    """`HandData` of HaMeR's own crops; box_scale as in `MakeHamerExample`."""

    def __init__(self, recipe: Recipe, box_scale: float) -> None:
        super().__init__(recipe)
        self._box_scale = box_scale

    def examples(self, augmentation: Augmentation | None, seed: int) -> MakesExample:
        return MakeHamerExample(self.model_ids, augmentation, seed, self._box_scale)
