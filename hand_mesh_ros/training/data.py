"""What Lightning asks for batches: on-demand samples or shards, the same in every run of a seed.

An epoch's samples are a function of the recipe and the epoch's number alone, so a resumed run sees
what an uninterrupted one would have seen. On demand, that is so for any number of workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
from torch.utils.data import DataLoader

from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.training.datasets import MakeExample, MakesExample, OnDemand, Streamed
from hand_mesh_ros.training.examples import Example
from hand_mesh_ros.training.recipes import Augmentation, Recipe
from hand_mesh_ros.training.settings import RecipeError
from hand_mesh_ros.training.shards import Share, shard_files
from hand_mesh_ros.training.sources import Split


class HandData(lightning.LightningDataModule):
    """Batches of `Example` by a recipe; the trainer must reload the training's every epoch."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        model = hand_model_of(recipe)
        self.model_ids = frozenset({model.model_id, mirror_model(model).model_id})

    def examples(self, augmentation: Augmentation | None, seed: int) -> MakesExample:
        """What makes examples of samples; another kind of them has another."""
        return MakeExample(self.recipe.data.crop, self.model_ids, augmentation, seed)

    def train_dataloader(self) -> DataLoader[Example]:
        return self.loader("train", self.trainer.current_epoch if self.trainer else 0)

    def val_dataloader(self) -> DataLoader[Example]:
        return self.loader("validation")

    def loader(self, split: Split, epoch: int = 0) -> DataLoader[Example]:
        """Batches of this device's share of an epoch."""
        recipe, data = self.recipe, self.recipe.data
        train = split == "train"
        supply = data.train if train else data.validation
        device = (
            Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()
        )
        # as many for every device in training, or some would wait for others for ever
        each = supply.count // device.parts if train else -(-supply.count // device.parts)
        if each == 0:
            raise RecipeError(
                f"{recipe.file}: data.{split}.count is {supply.count}, for {device.parts} devices"
            )
        seed = int(np.random.default_rng([recipe.seed, epoch]).integers(2**31))
        augmentation = data.augmentation if train else None
        make = self.examples(augmentation, seed)
        dataset: Any
        if supply.source is not None:
            begin = supply.first + supply.count * epoch + device.part
            numbers = range(begin, begin + each * device.parts, device.parts)
            dataset = OnDemand(supply.source, split, supply.options, numbers, make)
        else:
            files = shard_files(str(supply.shards))
            dataset = Streamed(files, make, each, data.shuffle if train else 0, device)
        return DataLoader(
            dataset,
            batch_size=recipe.trainer.batch,
            num_workers=data.workers,
            # the samples of a torn last batch would weigh more than others
            drop_last=train and each >= recipe.trainer.batch * max(data.workers, 1),
            # forking a process that has run torch's or a rasteriser's threads can hang
            multiprocessing_context="spawn" if data.workers else None,
        )


def steps_per_epoch(recipe: Recipe, devices: int = 1) -> int:
    """Optimiser steps of an epoch, which the learning rate is planned by; at least 1."""
    trainer = recipe.trainer
    return max(recipe.data.train.count // (trainer.batch * trainer.accumulate * devices), 1)


def hand_model_of(recipe: Recipe) -> HandModel:
    """The right hand's model that the recipe's MANO parameters belong to."""
    path = recipe.data.hand_model
    return load_hand_model(None if path is None else Path(path))
