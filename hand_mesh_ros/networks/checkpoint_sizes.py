"""The sizes of a published kind of network, from the shapes of its tensors.

Heads leave no trace in the shapes: files of other than the published widths have to say them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import Any, Final

from torch import Tensor

from hand_mesh_ros.networks.hamer import HAMER, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.vit import VIT_H_HAMER, ViTConfig
from hand_mesh_ros.networks.wilor import WilorConfig

_LAYERS: Final = "mano_head.transformer.transformer.layers."


def hamer_config(state: Mapping[str, Tensor], notes: Mapping[str, Any]) -> HamerConfig:
    """Raises KeyError for a tensor that is absent, ValueError for heads that are or do not fit."""
    return HamerConfig(_backbone(state, notes), _decoder(state, notes))


def wilor_config(state: Mapping[str, Tensor], notes: Mapping[str, Any]) -> WilorConfig:
    """As `hamer_config`."""
    sampling = _section(notes, "config").get("sampling", "published")
    if sampling not in ("published", "aligned"):
        raise ValueError(f"its sampling is {sampling!r}; it is 'published' or 'aligned'")
    return WilorConfig(_backbone(state, notes), sampling)


def _backbone(state: Mapping[str, Tensor], notes: Mapping[str, Any]) -> ViTConfig:
    width = state["backbone.pos_embed"].shape[-1]
    patch = state["backbone.patch_embed.proj.weight"].shape[-1]
    tokens = state["backbone.pos_embed"].shape[1] - 1  # without the class token's place
    columns = isqrt(tokens * 3 // 4)  # crops are 4 high and 3 wide
    rows = tokens // max(columns, 1)
    heads = _note(notes, ("config", "backbone", "heads"), ("hyper", "num_heads"))
    if heads is None and width == VIT_H_HAMER.width:
        heads = VIT_H_HAMER.heads
    if heads is None:
        raise ValueError(_unknown(f"backbone of width {width}", "{'num_heads': N}"))
    hidden = state["backbone.blocks.0.mlp.fc1.weight"].shape[0]
    return replace(
        VIT_H_HAMER,
        width=width,
        depth=_count(state, "backbone.blocks."),
        heads=heads,
        mlp_ratio=hidden // width,
        image=(rows * patch, columns * patch),
        patch=patch,
    )


def _decoder(state: Mapping[str, Tensor], notes: Mapping[str, Any]) -> DecoderConfig:
    dim = state["mano_head.transformer.pos_embedding"].shape[-1]
    inner = state[f"{_LAYERS}0.1.fn.to_q.weight"].shape[0]
    heads = _note(notes, ("config", "decoder", "heads"), ("hyper", "dec", "heads"))
    usual = HAMER.decoder
    if heads is None and inner == usual.heads * usual.dim_head:
        heads = usual.heads
    if heads is None:
        raise ValueError(_unknown(f"decoder of width {inner}", "{'dec': {'heads': N}}"))
    return DecoderConfig(
        context_dim=state[f"{_LAYERS}0.1.fn.to_kv.weight"].shape[1],
        dim=dim,
        depth=_count(state, _LAYERS),
        heads=heads,
        dim_head=inner // heads,
        mlp_dim=state[f"{_LAYERS}0.2.fn.net.0.weight"].shape[0],
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _note(notes: Mapping[str, Any], *paths: tuple[str, ...]) -> int | None:
    """The first positive whole number at one of the paths."""
    for *sections, name in paths:
        at: Mapping[str, Any] = notes
        for section in sections:
            at = _section(at, section)
        value = at.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _section(notes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = notes.get(name)
    return section if isinstance(section, Mapping) else {}


def _unknown(what: str, how: str) -> str:
    return (
        f"it does not say how many heads its {what} has, which no tensor shows: save it as "
        f"{{'state_dict': ..., 'hyper': {how}}}"
    )
