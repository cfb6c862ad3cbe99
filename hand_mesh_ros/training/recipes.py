"""Recipes: everything that a training run is made of, in one YAML file.

A recipe names a task (what is learnt), data, a model, losses, an optimiser and a trainer. All but
what the task reads for itself (`model`, `losses`) is the same for every task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from hand_mesh_ros.training.settings import RecipeError, settings_from

FOLDER = Path(__file__).parent / "recipes"
SMOKE_STORE = "smoke"  # made when it is asked for, unlike all other stores
Precision = Literal["32-true", "16-mixed", "bf16-mixed", "64-true"]


def _positive(value: float, name: str) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be greater than 0, not {value}")


def _not_negative(value: float, name: str) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must not be negative, not {value}")


@dataclass(frozen=True)
class Supply:
    """Where samples come from: a `source` on demand, or `shards`, a `store` or several `stores` on

    disk; one of them. store: of instants (`training.instants`), by its name or folder (with a "/").
    stores: several of them, each with its part of an epoch, in any unit.
    unlabelled: those stores whose truths training is not shown, as if they had none.
    source: a name of `sources.SOURCES`, or "module:function"; it is given `options`.
    shards: a pattern of tar files as webdataset expands it ("train-{000..099}.tar"), or a folder;
        relative paths are seen from where the command runs.
    count: samples an epoch. first: seed of the first; a source's later epochs go on from there.
    """

    count: int
    source: str | None = None
    shards: str | None = None
    store: str | None = None
    first: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    stores: Mapping[str, float] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _positive(self.count, "count")
        for name in self.unlabelled:
            if name != self.store and name not in self.stores:
                raise ValueError(f"unlabelled: {name} is not one of the stores")
        _not_negative(self.first, "first")
        places = (self.source, self.shards, self.store, self.stores or None)
        if sum(place is not None for place in places) != 1:
            raise ValueError("source, shards or store must be given, and only one of them")
        for name, part in self.stores.items():
            if isinstance(part, bool) or not isinstance(part, (int, float)) or not part > 0:
                raise ValueError(f"stores.{name} must be a number greater than 0, not {part!r}")

    @property
    def counts(self) -> dict[str, int]:
        """Samples an epoch of each store, by its name; none without stores."""
        if self.store is not None:
            return {self.store: self.count}
        ends = [0]
        whole = sum(self.stores.values())
        for part in accumulate(self.stores.values()):
            ends.append(round(self.count * part / whole))
        return {name: b - a for name, a, b in zip(self.stores, ends, ends[1:], strict=False)}


@dataclass(frozen=True)
class Augmentation:
    """How crops differ from the region that landmarks give; one standard deviation each.

    scale: of the logarithm of the side. shift: share of the side. rotation: radians.
    gain: of the logarithm of each colour's brightness. noise: of pixels, levels of 255.
    """

    scale: float = 0.1
    shift: float = 0.04
    rotation: float = 0.25
    gain: float = 0.1
    noise: float = 2.0

    def __post_init__(self) -> None:
        for name in ("scale", "shift", "rotation", "gain", "noise"):
            _not_negative(getattr(self, name), name)


@dataclass(frozen=True)
class DataSettings:
    """`train` is new in every epoch, if it is made on demand; `validation` is always the same.

    workers: processes that make samples beside the training. shuffle: samples of shards that are
    held to be mixed. hand_model: the model that MANO parameters belong to (None: the free hand).
    """

    train: Supply
    validation: Supply
    augmentation: Augmentation = Augmentation()
    crop: int = 224
    workers: int = 0
    shuffle: int = 1000
    hand_model: str | None = None

    def __post_init__(self) -> None:
        _positive(self.crop, "crop")
        _not_negative(self.workers, "workers")
        _not_negative(self.shuffle, "shuffle")


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW, with a linear warm-up and then a cosine that ends at `final` times the rate.

    backbone_rate: the backbone's learning rate as a share of `rate`. clip: largest norm of the
    gradient, 0 for any.
    """

    rate: float = 1e-3
    backbone_rate: float = 0.1
    weight_decay: float = 0.01
    warmup_steps: int = 100
    final: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        _positive(self.rate, "rate")
        for name in ("backbone_rate", "weight_decay", "warmup_steps", "final", "clip"):
            _not_negative(getattr(self, name), name)


@dataclass(frozen=True)
class TrainerSettings:
    """Lightning's own words; `strategy` ddp or fsdp for more than one device.

    epochs: the run's length, which the learning rate is planned for. accumulate: batches a step.
    """

    epochs: int = 10
    batch: int = 32
    accumulate: int = 1
    accelerator: str = "auto"
    devices: int | None = None
    nodes: int = 1
    strategy: str = "auto"
    precision: Precision = "32-true"
    ema: float = 0.999
    deterministic: bool = True
    log: Literal["tensorboard", "csv"] = "csv"
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "nodes"):
            _positive(getattr(self, name), name)
        _not_negative(self.keep, "keep")
        if self.devices is not None:
            _positive(self.devices, "devices")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 (none) and less than 1, not {self.ema}")


@dataclass(frozen=True)
class Recipe:
    """See the module. `task` is a name of `tasks.TASKS` or "module:function"."""

    name: str
    task: str
    data: DataSettings
    description: str = ""
    seed: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Any] = field(default_factory=dict)
    optimiser: OptimiserSettings = OptimiserSettings()
    trainer: TrainerSettings = TrainerSettings()
    file: str = "recipe"

    def __post_init__(self) -> None:
        _not_negative(self.seed, "seed")


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_recipe(name_or_path: str, changes: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by its name, or any YAML file; `changes` are "key.key=value".

    Raises RecipeError, which names the file and the key.
    """
    import yaml

    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name_or_path}.yaml"
        if not path.is_file():
            raise RecipeError(
                f"no recipe {name_or_path!r}: give a .yaml file or one of "
                f"{', '.join(recipe_names())}"
            )
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: the whole file must be a mapping")
    for change in changes:
        _change(values, change)
    values.pop("file", None)
    return replace(settings_from(Recipe, values, path.name), file=path.name)


def _change(values: dict[str, Any], change: str) -> None:
    import yaml

    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {change}: write it as key.key=value")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {change}: {parent} is a value, it has no {last}")
    values[last] = yaml.safe_load(text)


def smoke(recipe: Recipe) -> Recipe:
    """The same recipe for some seconds on a CPU: two short epochs of few samples."""

    def few(supply: Supply, count: int) -> Supply:
        store = SMOKE_STORE if supply.counts else None
        return replace(supply, count=min(supply.count, count), store=store, stores={})

    data = replace(
        recipe.data,
        train=few(recipe.data.train, 8),
        validation=few(recipe.data.validation, 4),
        workers=0,
    )
    trainer = replace(
        recipe.trainer, epochs=2, batch=min(recipe.trainer.batch, 4), accumulate=1, devices=1,
        nodes=1, accelerator="cpu", strategy="auto", precision="32-true",
    )  # fmt: skip
    optimiser = replace(recipe.optimiser, warmup_steps=1)
    return replace(recipe, data=data, trainer=trainer, optimiser=optimiser)
