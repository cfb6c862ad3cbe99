"""A run goes on with the recipe that it was begun with, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import RecipeError

FILE = "recipe.yaml"
# Where and how fast it runs, not what comes out.
_FREE = (
    "name", "description", "file", "data.workers", "trainer.accelerator", "trainer.devices",
    "trainer.nodes", "trainer.strategy", "trainer.log", "trainer.keep",
)  # fmt: skip


def write_recipe(recipe: Recipe, out: Path) -> None:
    """`recipe.yaml` in the folder of a run, complete: with what was left to defaults."""
    import yaml

    values = plain(recipe)
    values.pop("file")
    (out / FILE).write_text(yaml.safe_dump(values, sort_keys=False))


def check_same(recipe: Recipe, out: Path) -> None:
    """RecipeError with the first key in which `out`'s recipe differs."""
    import yaml

    path = out / FILE
    if not path.is_file():
        raise RecipeError(f"{path} is missing: the run in {out} cannot be resumed")
    before, now = _flat(yaml.safe_load(path.read_text())), _flat(plain(recipe))
    for key in sorted(before.keys() | now.keys()):
        if key not in _FREE and before.get(key) != now.get(key):
            raise RecipeError(
                f"{recipe.file}: {key} is {now.get(key)}, but the run in {out} was begun with "
                f"{before.get(key)}: resume with that, or choose another --out"
            )


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists: what YAML can write."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
