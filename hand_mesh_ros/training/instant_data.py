"""Batches of stored instants for Lightning; see `instants`.

A task that is trained on stores says what it reads: its module has `store_fields`, names of
`instants.VIEW_FIELDS` and `INSTANT_FIELDS`, and `store_views`: "all" for batches (B, V, ...) of
instants with a `valid` (B, V) mask, or "one" for batches (B, ...) of single valid views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hand_mesh_ros.training.instant_sources import STORES, folder_of
from hand_mesh_ros.training.instants import INSTANT_FIELDS, LABEL_FIELDS, InstantStore, StoreError
from hand_mesh_ros.training.recipes import SMOKE_STORE, Recipe, Supply
from hand_mesh_ros.training.settings import RecipeError
from hand_mesh_ros.training.shards import Share
from hand_mesh_ros.training.sources import Split

Batch = dict[str, Tensor]
Views = Literal["one", "all"]


class ReadsStores(Protocol):
    """What a task's module says of its batches."""

    store_fields: Sequence[str]
    store_views: Views


class InstantData(lightning.LightningDataModule):
    """Batches of a recipe's stores; the training's order is new in every epoch."""

    def __init__(self, recipe: Recipe, reads: ReadsStores) -> None:
        super().__init__()
        self.recipe = recipe
        self._fields, self._views = tuple(reads.store_fields), reads.store_views
        self._stores: dict[str, InstantStore] = {}

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader("train", self.trainer.current_epoch if self.trainer else 0)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader("validation")

    def loader(self, split: Split, epoch: int = 0) -> DataLoader[Batch]:
        """Batches of this device's share of an epoch."""
        recipe = self.recipe
        supply: Supply = getattr(recipe.data, split)
        if supply.store is None:
            raise RecipeError(f"{recipe.file}: data.{split}.store must name a store of instants")
        store = self._store(supply, split)
        rows = _rows(store, self._views)
        device = (
            Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()
        )
        if split == "train":
            order = np.random.default_rng([recipe.seed, epoch, 5]).permutation(len(rows))
            rows = rows[np.resize(order, supply.count)]
        else:
            rows = rows[: supply.count]
        rows = rows[device.part :: device.parts]
        size = recipe.trainer.batch
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        if split == "train" and len(batches) > 1 and len(batches[-1]) < size:
            batches = batches[:-1]  # a torn batch's samples would weigh more than others
        return DataLoader(_Batches(store, batches, self._fields, self._views), batch_size=None)

    def _store(self, supply: Supply, split: Split) -> InstantStore:
        name = str(supply.store)
        if name not in self._stores:
            folder = Path(name) if "/" in name else folder_of(name)
            if name == SMOKE_STORE:
                folder = _tiny(split)
            if LABEL_FIELDS.keys() & set(self._fields):
                from hand_mesh_ros.training.pseudo_labels import ensure_labels

                ensure_labels(folder)
            self._stores[name] = InstantStore(folder, {*self._fields, "valid"})
        return self._stores[name]


class _Batches(IterableDataset[Batch]):
    def __init__(
        self, store: InstantStore, batches: list[NDArray[np.int64]], fields: Sequence[str],
        views: Views,
    ) -> None:  # fmt: skip
        self._store, self._batches, self._fields, self._views = store, batches, fields, views

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        fields = [*self._fields, *({"valid"} - set(self._fields))]
        for rows in self._batches:
            instants, inverse = np.unique(rows[:, 0], return_inverse=True)
            read = self._store.read(instants, fields)
            batch: Batch = {}
            for name, array in read.items():
                chosen = array[inverse]
                if self._views == "one" and name not in INSTANT_FIELDS:
                    chosen = array[inverse, rows[:, 1]]
                made = torch.from_numpy(np.ascontiguousarray(chosen))
                batch[name] = made.float() if made.is_floating_point() else made
            yield batch


def _rows(store: InstantStore, views: Views) -> NDArray[np.int64]:
    """Instant and view (N, 2) of what can be used: valid views, or instants that have one."""
    valid = store.whole("valid")
    if views == "one":
        return np.argwhere(valid)
    found = np.flatnonzero(valid.any(1))
    return np.stack([found, np.zeros_like(found)], axis=1)


def _tiny(split: Split) -> Path:
    """A store of eight instants, for `--smoke` on a machine that has no other."""
    from hand_mesh_ros.training.instant_writer import StoreRequest, write_part

    folder = folder_of(f"{SMOKE_STORE}-{split}")
    try:
        InstantStore(folder)
    except StoreError:
        options = {**STORES[split].options, "size": 128}
        write_part(StoreRequest("renders", options, 8, 4, None), folder, 0)
    return folder
