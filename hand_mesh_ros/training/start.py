"""Fine-tuning: a network that begins with the weights of another run's file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor

from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.weight_files import misfits, read_weights
from hand_mesh_ros.training.settings import RecipeError

# What files may leave out altogether: the network's own stays.
_MAY_LACK = ("backbone.", "discriminator.", "initialized")


class Kept(Protocol):
    """A network whose weights are kept in a file, as all tasks' `network` is."""

    def weights(self) -> dict[str, Tensor]: ...
    def load_weights(self, weights: dict[str, Tensor]) -> None: ...


def start_file(start: str) -> Path:
    """The file that `model.start` means: a path, or the plain name of weights that ship."""
    path = Path(start).expanduser()
    if path.suffix or len(path.parts) > 1:
        return path
    return Path(__file__).parents[1] / "networks" / "weights" / f"{start}.safetensors"


def begin_with(network: Kept, path: Path, recipe: str) -> None:
    """Loads the `weights.safetensors` of a run into a network of the same kind.

    A file without any of the backbone (of a run that left it frozen) or the discriminator leaves
    the network's own. What the network says it does not keep (`not_kept`) is not read.
    Raises RecipeError, which names the file and, in full, the weights that do not fit.
    """
    try:
        found = read_weights(path)
    except AssetError as error:
        raise RecipeError(f"{recipe}: model.start: {error}") from error
    own = network.weights()
    found = {k: v for k, v in found.items() if not k.startswith(getattr(network, "not_kept", ()))}
    for part in _MAY_LACK:
        if not any(key.startswith(part) for key in found):
            found = {k: v for k, v in own.items() if k.startswith(part)} | found
    problems = misfits(own, found)
    if problems:
        raise RecipeError(
            f"{recipe}: model.start: {path} is of another network:\n" + "\n".join(problems)
        )
    network.load_weights({key: found.get(key, value) for key, value in own.items()})
