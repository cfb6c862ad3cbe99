"""SiMA-Hand's networks from files of weights: those that come along, or a run's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.assets import AssetError, home
from hand_mesh_ros.networks.sima import Sima, SimaSettings
from hand_mesh_ros.networks.weight_files import misfits, read_weight_file

FOLDER = Path(__file__).parent / "weights"
Kind = Literal["sima_mvr", "sima_svr"]


def open_sima(kind: Kind, model: HandModel, path: Path | None = None) -> Sima:
    """The network of `path`, a `weights.safetensors` of a run; None: those that come along.

    `model` is the right hand that it was trained with. Raises AssetError for a file that is absent,
    damaged or of another network or hand model.
    """
    path = weights_path(kind) if path is None else path
    file = read_weight_file(path)
    said = _recipe(path, file.notes)
    values = {k: v for k, v in said.get("model", {}).items() if k not in ("teacher", "begin")}
    values["multi"] = said.get("task") == "sima-mvr"
    if said.get("task") != kind.replace("_", "-"):
        raise AssetError(f"{path} is of the task {said.get('task')!r}, not of {kind}")
    network = Sima(model, _settings(SimaSettings, values), hierarchy_cache())
    problems = misfits(network.weights(), file.tensors)
    if problems:
        raise AssetError(
            f"{path} is of another network, or of another hand than {model.model_id} with its "
            f"{model.num_vertices} vertices:\n" + "\n".join(problems)
        )
    network.load_weights(file.tensors)
    return network.eval()


def weights_path(kind: Kind) -> Path:
    """The file that comes along."""
    return FOLDER / f"{kind}.safetensors"


def trained_with(path: Path) -> HandModel:
    """The right hand model that a file's recipe names; AssetError if that is not to be had."""
    said = _recipe(path, read_weight_file(path).notes)
    named = said.get("data", {}).get("hand_model")
    try:
        return load_hand_model(None if named is None else Path(named))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} was trained with the hand model {named}: {error}") from error


def _recipe(path: Path, notes: Mapping[str, Any]) -> dict[str, Any]:
    import yaml

    text = notes.get("recipe")
    said = yaml.safe_load(text) if isinstance(text, str) else None
    if not isinstance(said, dict):
        raise AssetError(f"{path} does not say by what recipe it was made: it is no run's file")
    return said


def hierarchy_cache() -> Path:
    """Where mesh hierarchies are kept."""
    return home() / "meshes"


def _settings(cls: Any, values: Mapping[str, Any]) -> Any:
    """Nested settings from plain values; a file that was written by a run has only good ones."""
    hints = get_type_hints(cls)
    known = {field.name for field in fields(cls)}

    def made(name: str, value: Any) -> Any:
        if is_dataclass(hints[name]):
            return _settings(hints[name], value)
        return tuple(value) if isinstance(value, list) else value

    return cls(**{name: made(name, value) for name, value in values.items() if name in known})
