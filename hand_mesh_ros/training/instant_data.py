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
from hand_mesh_ros.training.instants import (
    INSTANT_FIELDS,
    LABEL_FIELDS,
    TRUTH_FIELDS,
    Array,
    InstantStore,
    StoreError,
)
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
        if not supply.counts:
            raise RecipeError(f"{recipe.file}: data.{split}.store must name a store of instants")
        stores = [self._store(name, split) for name in supply.counts]
        self._check_alike(stores)
        device = (
            Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()
        )
        rng = np.random.default_rng([recipe.seed, epoch, 5])
        chosen = []
        for number, (store, count) in enumerate(zip(stores, supply.counts.values(), strict=True)):
            rows = _rows(store, number, self._views)
            if split == "train":
                rows = rows[np.resize(rng.permutation(len(rows)), count)]
            chosen.append(rows[:count])
        rows = np.concatenate(chosen)
        if split == "train" and len(stores) > 1:
            rows = rng.permutation(rows)
        rows = rows[device.part :: device.parts]
        size = recipe.trainer.batch
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        if split == "train" and len(batches) > 1 and len(batches[-1]) < size:
            batches = batches[:-1]  # a torn batch's samples would weigh more than others
        blind = frozenset(n for n, name in enumerate(supply.counts) if name in supply.unlabelled)
        made = _Batches(stores, batches, self._fields, self._views, blind)
        return DataLoader(made, batch_size=None)

    def _check_alike(self, stores: Sequence[InstantStore]) -> None:
        """RecipeError unless the stores' instants fit into one batch."""
        shapes = [
            {name: array.shape[1:] for name, array in store.read([0], self._fields).items()}
            for store in stores
        ]
        for store, own in zip(stores, shapes, strict=True):
            for name, shape in own.items():
                if shape != shapes[0][name]:
                    raise RecipeError(
                        f"{self.recipe.file}: {name} of the store {store.folder} is {shape}, of "
                        f"{stores[0].folder} {shapes[0][name]}: make them with equal --views"
                    )

    def _store(self, name: str, split: Split) -> InstantStore:
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
        self, stores: Sequence[InstantStore], batches: list[NDArray[np.int64]],
        fields: Sequence[str], views: Views, unlabelled: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self._stores, self._batches, self._fields, self._views = stores, batches, fields, views
        self._unlabelled = unlabelled

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._batches:
            arrays: dict[str, Array] = {}
            for number in np.unique(rows[:, 0]):
                here = rows[:, 0] == number
                for name, array in self._read(self._stores[number], *rows[here, 1:].T).items():
                    if name not in arrays:
                        arrays[name] = np.empty((len(rows), *array.shape[1:]), array.dtype)
                    hidden = number in self._unlabelled and name in TRUTH_FIELDS
                    arrays[name][here] = np.nan if hidden else array
            batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
            yield {k: made.float() if made.is_floating_point() else made
                   for k, made in batch.items()}  # fmt: skip

    def _read(
        self, store: InstantStore, instant: NDArray[np.int64], view: NDArray[np.int64]
    ) -> dict[str, Array]:
        fields = [*self._fields, *({"valid"} - set(self._fields))]
        instants, inverse = np.unique(instant, return_inverse=True)
        return {
            name: array[inverse, view]
            if self._views == "one" and name not in INSTANT_FIELDS
            else array[inverse]
            for name, array in store.read(instants, fields).items()
        }


def _rows(store: InstantStore, number: int, views: Views) -> NDArray[np.int64]:
    """Store, instant and view (N, 3) of what can be used: valid views, or instants that have one.

    Raises StoreError where that is nothing.
    """
    valid = store.whole("valid")
    found = np.argwhere(valid)
    if views == "all":
        found = np.stack([np.flatnonzero(valid.any(1)), np.zeros(valid.any(1).sum(), int)], axis=1)
    if not len(found):
        raise StoreError(f"{store.folder}: no view of it can be used")
    return np.concatenate([np.full((len(found), 1), number), found], axis=1)


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
