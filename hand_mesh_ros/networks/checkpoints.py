"""HaMeR and WiLoR from their checkpoints, or from files that `hand-mesh model convert` makes.

Everything a network needs is in its checkpoint, also the hand model and the mean; files that were
converted without a hand model are given one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.hand.loading import WHERE
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano, hand_model_in
from hand_mesh_ros.networks.checkpoint_sizes import hamer_config, wilor_config
from hand_mesh_ros.networks.hamer import HAMER, Hamer, HamerConfig
from hand_mesh_ros.networks.weight_files import misfits, read_weight_file
from hand_mesh_ros.networks.wilor import WILOR, Wilor, WilorConfig

Kind = Literal["hamer", "wilor"]

MANO_ID: Final = "mano_right"
"""The hand model that published weights were trained with, as `load_hand_model` names it."""

_NEEDLESS: Final = ("discriminator.", "mano.")  # of training; and read by `hand_model_in`
_WHERE: Final = WHERE.partition(";")[0] + "."


@dataclass(frozen=True)
class _Published:
    """A kind of network, and where its weights are to be had."""

    title: str
    mark: str  # keys that only it has begin with this
    source: str
    make: Callable[..., Hamer | Wilor]
    usual: HamerConfig | WilorConfig
    sizes: Callable[[Mapping[str, Tensor], Mapping[str, Any]], HamerConfig | WilorConfig]


_KINDS: Final[Mapping[Kind, _Published]] = {
    "hamer": _Published(
        "HaMeR",
        "mano_head.",
        "`hamer.ckpt` of https://github.com/geopavlakos/hamer (its code is MIT; it holds MANO, "
        "which is for non-commercial research and not to be passed on)",
        Hamer,
        HAMER,
        hamer_config,
    ),
    "wilor": _Published(
        "WiLoR",
        "refine_net.",
        "`wilor_final.ckpt` of https://github.com/rolpotamias/WiLoR (CC-BY-NC-ND-4.0; it holds "
        "MANO, which is for non-commercial research and not to be passed on)",
        Wilor,
        WILOR,
        wilor_config,
    ),
}


def source_of(kind: Kind) -> str:
    """Where the weights of a kind of network are to be had, and under which licence."""
    return _KINDS[kind].source


class Checkpoint(NamedTuple):
    """What a file says of a network.

    state: its tensors without the hand model's and without what only training uses. hand_model:
    the one in the file, if there is one. trained_with: the name of the one it was trained with.
    """

    kind: Kind
    config: HamerConfig | WilorConfig
    state: dict[str, Tensor]
    hand_model: HandModel | None
    trained_with: str


def open_reconstructor(
    path: str | Path, kind: Kind | None = None, hand_model: HandModel | None = None
) -> Hamer | Wilor:
    """The network of a file, on the CPU, in single precision and evaluation mode.

    kind: what it has to be; None takes what it is. hand_model: instead of the file's own.
    Raises AssetError as `read_checkpoint_of`, and for a file without a hand model where none is
    given, or for a hand model other than the network was trained with.
    """
    path = Path(path).expanduser()
    found = read_checkpoint_of(path, kind)
    model = _hand_model(path, found, hand_model)
    with torch.device("meta"):  # neither memory nor time for weights that are replaced at once
        network = _KINDS[found.kind].make(found.config)
    network.mano = CheckpointMano(model)
    network.hand_model = model
    network.load_state_dict(found.state, strict=False, assign=True)
    return network.eval()


def read_checkpoint_of(path: Path, kind: Kind | None = None) -> Checkpoint:
    """What is in a file, of which everything fits: the sizes are those of its tensors.

    Raises AssetError if there is no such file, saying where it is to be had; if it cannot be
    read without running it; if it is another network's; and, with all keys in full, if tensors
    are missing, too many or of other shapes.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        wanted = [kind] if kind else list(_KINDS)
        raise AssetError(f"{path}: no such file. Get " + ", or ".join(map(source_of, wanted)))
    tensors, notes = read_weight_file(path)
    kind = _kind(path, tensors, kind)
    published = _KINDS[kind]
    kept = {k: v for k, v in tensors.items() if not k.startswith(_NEEDLESS) and k != "initialized"}
    try:
        config = published.sizes(kept, notes)
    except (LookupError, ArithmeticError):  # something is amiss: the whole list will say what
        config = published.usual
    except ValueError as error:
        raise AssetError(f"{path} holds a {published.title}, but {error}") from error
    with torch.device("meta"):
        expected = published.make(config).state_dict()
    ours = {k: v for k, v in expected.items() if not k.startswith("mano.")}
    if problems := misfits(ours, kept):
        raise AssetError(f"{path} is no whole {published.title}:\n" + "\n".join(problems))
    trained_with = str(notes.get("hand_model", MANO_ID))
    try:
        model = hand_model_in(tensors, trained_with)
    except ValueError as error:
        raise AssetError(f"{path}: {error}") from error
    return Checkpoint(kind, config, kept, model, trained_with)


def _kind(path: Path, tensors: Mapping[str, Tensor], wanted: Kind | None) -> Kind:
    for kind, published in _KINDS.items():
        if any(key.startswith(published.mark) for key in tensors):
            if wanted in (None, kind):
                return kind
            raise AssetError(
                f"{path}: this is a {published.title} checkpoint, and one of "
                f"{_KINDS[wanted].title} is needed: name the other file, or use it as '{kind}'"
            )
    starts = sorted({key.split(".")[0] for key in tensors})
    alone = " (a backbone alone cannot make a hand)" if {"blocks", "backbone"} & {*starts} else ""
    raise AssetError(
        f"{path}: this is a checkpoint of neither {' nor '.join(k.title for k in _KINDS.values())}"
        f"{alone}; its keys begin with {', '.join(starts[:12])}"
    )


def _hand_model(path: Path, found: Checkpoint, given: HandModel | None) -> HandModel:
    free = load_hand_model()
    trained_with_free = found.trained_with == free.model_id
    if given is None:
        model = found.hand_model or (free if trained_with_free else None)
        if model is None:
            raise AssetError(
                f"{path} holds no hand model and was trained with {found.trained_with!r}: give "
                f"MANO_RIGHT.pkl or the original checkpoint as the hand model. {_WHERE}"
            )
        return model
    if given.side != "right":
        raise AssetError(f"hand model '{given.model_id}' is a left hand; give the right one")
    if trained_with_free != (given.model_id == free.model_id):
        raise AssetError(
            f"{path} was trained with the hand model {found.trained_with!r}, and its numbers mean "
            f"another hand with {given.model_id!r}: give the one it was trained with. {_WHERE}"
        )
    return given
