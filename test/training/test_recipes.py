"""Recipes: what is read, and what is refused with the file's and the key's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hand_mesh_ros.training.recipes import Supply, read_recipe, recipe_names, smoke
from hand_mesh_ros.training.resume import plain, write_recipe
from hand_mesh_ros.training.settings import RecipeError

GOOD = """\
name: mine
task: mano
data:
  train: {source: cell, count: 10}
  validation: {source: cell, count: 5}
optimiser: {rate: 1}
"""


def test_shipped_recipes_are_valid_and_named_as_their_files() -> None:
    names = recipe_names()
    assert "landmark-trunk-mano" in names
    for name in names:
        recipe = read_recipe(name)
        assert recipe.name == name
        assert recipe.description


def test_whole_numbers_serve_as_floats(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    rate = read_recipe(str(path)).optimiser.rate
    assert rate == 1.0 and isinstance(rate, float)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("rate: 1", "rate: fast", "optimiser.rate must be float"),
        ("rate: 1", "rate: -1", "optimiser.rate must be greater than 0"),
        ("rate: 1", "speed: 1", "unknown key optimiser.speed; known are rate"),
        ("task: mano\n", "", "task is missing"),
        ("source: cell, count: 10", "source: cell, count: 1.5", "data.train.count must be int"),
        ("source: cell, count: 10", "count: 10", "data.train.source, shards or store"),
        ("source: cell, count: 5", "source: cell, shards: x, count: 5", "data.validation.source"),
        ("source: cell, count: 10", "stores: {a: 0}, count: 10", "data.train.stores.a must be a"),
        ("source: cell, count: 10", "stores: {a: x}, count: 10", "data.train.stores.a must be a"),
        ("source: cell, count: 5", "store: a, stores: {b: 1}, count: 5", "data.validation.source"),
        ("optimiser: {rate: 1}", "trainer: {precision: 8}", "trainer.precision is 8; choose 32-"),
        ("optimiser: {rate: 1}", "trainer: {ema: 1.0}", "trainer.ema must be at least 0"),
        ("optimiser: {rate: 1}", "optimiser: fast", "optimiser must be a mapping"),
        ("optimiser: {rate: 1}", "trainer: {deterministic: 1}", "deterministic must be bool"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    path = tmp_path / "mine.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(RecipeError) as raised:
        read_recipe(str(path))
    assert str(raised.value).startswith("mine.yaml: ")
    assert key in str(raised.value)


def test_unknown_recipes_and_broken_yaml_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe 'nothing'.*landmark-trunk-mano"):
        read_recipe("nothing")
    path = tmp_path / "broken.yaml"
    path.write_text("name: [")
    with pytest.raises(RecipeError, match="broken.yaml: cannot be read"):
        read_recipe(str(path))


def test_changes_reach_nested_keys(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    recipe = read_recipe(str(path), ["trainer.precision=bf16-mixed", "model.channels=3", "seed=4"])
    assert recipe.trainer.precision == "bf16-mixed"
    assert recipe.model == {"channels": 3}
    assert recipe.seed == 4
    with pytest.raises(RecipeError, match="key.key=value"):
        read_recipe(str(path), ["seed"])
    with pytest.raises(RecipeError, match="name is a value"):
        read_recipe(str(path), ["name.x=1"])


def test_what_is_written_reads_as_the_same_recipe(tmp_path: Path) -> None:
    recipe = read_recipe("landmark-trunk-mano", ["data.augmentation.scale=0.2"])
    write_recipe(recipe, tmp_path)
    again = read_recipe(str(tmp_path / "recipe.yaml"))
    assert {**plain(again), "file": ""} == {**plain(recipe), "file": ""}


def test_stores_have_their_parts_of_an_epoch() -> None:
    assert Supply(10, store="a").counts == {"a": 10}
    assert Supply(10, source="cell").counts == {}
    assert Supply(10, stores={"a": 0.8, "b": 0.2}).counts == {"a": 8, "b": 2}
    for count in range(1, 40):
        parts = Supply(count, stores={"a": 3, "b": 1, "c": 3}).counts
        assert sum(parts.values()) == count
        assert all(abs(parts[k] - count * w / 7) < 1 for k, w in {"a": 3, "b": 1, "c": 3}.items())
    short = smoke(read_recipe("hamuco-video"))
    assert short.data.train.counts == {"smoke": 8} and short.data.train.stores == {}


def test_smoke_is_short_and_on_the_cpu() -> None:
    short = smoke(read_recipe("landmark-trunk-mano", ["trainer.precision=16-mixed"]))
    assert short.data.train.count * short.trainer.epochs <= 32
    assert (short.trainer.accelerator, short.trainer.precision) == ("cpu", "32-true")
