"""Checkpoints of HaMeR and WiLoR: read in every form, refused with a reason, and converted."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from hand_mesh_ros.cli import app
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano
from hand_mesh_ros.networks.checkpoints import open_reconstructor
from hand_mesh_ros.networks.convert import convert, save_reconstructor
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.networks.wilor import Wilor, WilorConfig

VIT = ViTConfig(width=24, depth=2, heads=3, image=(64, 48))
DECODER = DecoderConfig(context_dim=24, dim=16, depth=2, heads=2, dim_head=4, mlp_dim=12)
HYPER = {"num_heads": 3, "dec": {"heads": 2}}
CROPS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def _network(kind: str) -> Hamer | Wilor:
    """With every published key; the hand model is the free one.

    Its pose directions lie in memory as the published ones do: transposed.
    """
    torch.manual_seed(1)
    free = load_hand_model()
    network: Hamer | Wilor
    if kind == "hamer":
        network = Hamer(HamerConfig(VIT, DECODER), free, training_parts=True)
    else:
        network = Wilor(WilorConfig(VIT), free, training_parts=True)
    network.mano.posedirs = network.mano.posedirs.mT.contiguous().mT
    return network.eval()


def _saved(folder: Path, kind: str = "hamer", **more: Any) -> Path:
    path = folder / f"{kind}.ckpt"
    torch.save({"state_dict": _network(kind).state_dict(), "hyper": HYPER, **more}, path)
    return path


def _vertices(network: Hamer | Wilor) -> Tensor:
    with torch.no_grad():
        return network(CROPS).vertices


def _assert_same(ours: Tensor, theirs: Tensor) -> None:
    """But for rounding: products run in another order where numbers lie in another one."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["hamer", "wilor"])
def test_a_checkpoint_alone_is_enough(tmp_path: Path, kind: str) -> None:
    """Sizes, mean, hand model and weights are in it; the discriminator is left there."""
    original = _network(kind)
    opened = open_reconstructor(_saved(tmp_path, kind))
    assert opened.config == original.config and not opened.training
    assert not any(k.startswith(("discriminator", "init")) for k in opened.state_dict())
    assert not any(value.is_meta for value in opened.state_dict().values())
    _assert_same(_vertices(opened), _vertices(original))
    assert opened.hand_model is not None and opened.hand_model.side == "right"
    np.testing.assert_array_equal(opened.hand_model.faces, load_hand_model().faces)


def test_every_form_of_file_is_read(tmp_path: Path) -> None:
    state = _network("hamer").state_dict()
    config = json.dumps({"backbone": {"heads": 3}, "decoder": {"heads": 2}})
    tensors = tmp_path / "a.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, tensors, {"config": config})
    half = tmp_path / "half.pt"
    floats = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"state_dict": floats, "hyper": HYPER}, half)
    lightning = _saved(tmp_path, epoch=3, global_step=7)
    expected = _vertices(_network("hamer"))
    for path, tolerance in ((tensors, 1e-6), (lightning, 1e-6), (half, 2e-3)):
        opened = open_reconstructor(path, "hamer")
        assert all(p.dtype == torch.float32 for p in opened.parameters())
        torch.testing.assert_close(_vertices(opened), expected, rtol=0, atol=tolerance)
    bare = tmp_path / "bare.pth"
    torch.save(state, bare)
    with pytest.raises(AssetError, match="does not say how many heads .* width 24"):
        open_reconstructor(bare)


def test_published_heads_need_not_be_said(tmp_path: Path) -> None:
    """Bare files of the published widths; a shallow network keeps this small."""
    config = HamerConfig(
        ViTConfig(depth=1), DecoderConfig(dim=8, depth=1, mlp_dim=4)
    )
    with torch.device("meta"):
        network = Hamer(config)
    network.to_empty(device="cpu")
    network.mano = CheckpointMano(load_hand_model())
    path = tmp_path / "bare.ckpt"
    torch.save(network.state_dict(), path)
    assert open_reconstructor(path).config == config


def test_configuration_objects_become_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As published: yacs' CfgNode, a dictionary of a class that need not be installed."""
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module = ModuleType("yacs.config")
    module.CfgNode = node  # type: ignore[attr-defined]
    path = tmp_path / "yacs.ckpt"
    vit = replace(VIT, width=1280, heads=16, depth=1)
    network = Hamer(
        HamerConfig(vit, DecoderConfig(depth=1, dim=8, mlp_dim=4)), load_hand_model()
    ).eval()
    hyper = {"cfg": node(LR=1e-5, MODEL=node(TYPE="vit")), "options": argparse.Namespace(seed=1)}
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "yacs", ModuleType("yacs"))
        patched.setitem(sys.modules, "yacs.config", module)
        torch.save({"state_dict": network.state_dict(), "hyper_parameters": hyper}, path)
    with pytest.raises(Exception, match="yacs"):
        torch.load(path, weights_only=True)
    _assert_same(_vertices(open_reconstructor(path)), _vertices(network))


class _Malice:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return exec, (f"open({str(self.witness)!r}, 'w').close()", "")


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    path = _saved(tmp_path, hyper_parameters=_Malice(witness))
    with pytest.raises(AssetError, match="'__builtin__.exec'.*nothing was executed"):
        open_reconstructor(path)
    assert not witness.exists()
    # it would have
    with pytest.raises(TypeError):
        torch.load(path, weights_only=False)


def test_another_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="this is a WiLoR checkpoint, and one of HaMeR is needed"):
        open_reconstructor(_saved(tmp_path, "wilor"), "hamer")
    with pytest.raises(AssetError, match="this is a HaMeR checkpoint, and one of WiLoR is needed"):
        open_reconstructor(_saved(tmp_path), "wilor")
    backbone = tmp_path / "vitpose_backbone.pth"
    torch.save({"state_dict": _network("hamer").backbone.state_dict()}, backbone)
    with pytest.raises(
        AssetError, match=r"neither HaMeR nor WiLoR \(a backbone alone .* begin with blocks"
    ):
        open_reconstructor(backbone)


def test_an_absent_file_tells_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="geopavlakos/hamer .*MIT.* MANO.*non-commercial") as told:
        open_reconstructor(tmp_path / "a.ckpt", "hamer")
    assert "WiLoR" not in str(told.value)
    with pytest.raises(AssetError, match="rolpotamias/WiLoR .CC-BY-NC-ND-4.0"):
        open_reconstructor(tmp_path / "a.ckpt")


def test_counts_of_batches_may_be_missing(tmp_path: Path) -> None:
    state = _network("wilor").state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(state) - len(old) == 3
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": old, "hyper": HYPER}, path)
    opened = open_reconstructor(path)
    _assert_same(_vertices(opened), _vertices(_network("wilor")))
    assert not any(value.is_meta for value in opened.state_dict().values())


def test_missing_and_unexpected_keys_are_told_in_full(tmp_path: Path) -> None:
    state = _network("hamer").state_dict()
    gone = ["backbone.blocks.1.norm1.weight", "mano_head.deccam.bias", "backbone.last_norm.bias"]
    for key in gone:
        del state[key]
    state["mano_head.extra"] = torch.zeros(3)
    state["backbone.blocks.0.norm2.bias"] = torch.zeros(7)
    path = tmp_path / "part.ckpt"
    torch.save({"state_dict": state, "hyper": HYPER}, path)
    with pytest.raises(AssetError) as told:
        open_reconstructor(path)
    lines = str(told.value).splitlines()
    assert lines[0] == f"{path} is no whole HaMeR:"
    assert lines[1].startswith("missing (3): ") and all(key in lines[1] for key in gone)
    assert lines[2] == "unexpected (1): mano_head.extra"
    assert lines[3] == "of other shape (1): backbone.blocks.0.norm2.bias (7,) instead of (24,)"
    del state["backbone.pos_embed"]  # without which not even the sizes can be had
    torch.save({"state_dict": state, "hyper": HYPER}, path)
    with pytest.raises(AssetError, match=r"missing \(\d+\): backbone.pos_embed"):
        open_reconstructor(path)
    torch.save({"state_dict": _network("hamer").state_dict(), "hyper": {"num_heads": 7}}, path)
    with pytest.raises(AssetError, match="a HaMeR, but width 24 is not a multiple of heads 7"):
        open_reconstructor(path)


def test_a_hand_model_in_parts_or_in_another_order_is_told(tmp_path: Path) -> None:
    state = _network("hamer").state_dict()
    path = tmp_path / "mano.ckpt"
    torch.save({"state_dict": state | {"mano.joint_map": torch.arange(21)}, "hyper": HYPER}, path)
    with pytest.raises(AssetError, match="joint_map is not the published order"):
        open_reconstructor(path)
    del state["mano.posedirs"], state["mano.parents"]
    torch.save({"state_dict": state, "hyper": HYPER}, path)
    with pytest.raises(AssetError, match="lacks mano.posedirs, mano.parents"):
        open_reconstructor(path)


def _renamed(model_id: str = "somebodys_mano", **changes: Any) -> HandModel:
    return replace(load_hand_model(), model_id=model_id, **changes)


def test_the_hand_model_is_the_one_that_was_trained_with(tmp_path: Path) -> None:
    """A file without one says whose numbers it holds; a given one comes before the file's own."""
    free, mano = load_hand_model(), _renamed()
    out = tmp_path / "a.safetensors"
    convert(_saved(tmp_path), out)
    with pytest.raises(AssetError, match="holds no hand model .*'mano_right': give MANO_RIGHT.pkl"):
        open_reconstructor(out)
    with pytest.raises(AssetError, match=f"another hand with '{free.model_id}'"):
        open_reconstructor(out, hand_model=free)
    with pytest.raises(AssetError, match="is a left hand"):
        open_reconstructor(out, hand_model=_renamed(side="left"))
    larger = _renamed(v_template=free.v_template * 1.1)
    small, large = (open_reconstructor(out, hand_model=model) for model in (mano, larger))
    assert small.hand_model is mano
    assert 1e-3 < (_vertices(small) - _vertices(large)).abs().max() < 0.03
    given = open_reconstructor(_saved(tmp_path), hand_model=larger)
    torch.testing.assert_close(_vertices(given), _vertices(large))

    # trained with the free hand: it need not be said, and nothing else will do
    save_reconstructor(_network("hamer"), out)
    own = open_reconstructor(out)
    assert own.hand_model is not None and own.hand_model.model_id == free.model_id
    _assert_same(_vertices(own), _vertices(_network("hamer")))
    with pytest.raises(AssetError, match="another hand with 'somebodys_mano'"):
        open_reconstructor(out, hand_model=mano)
    with pytest.raises(ValueError, match="has no hand model"):
        save_reconstructor(Hamer(HamerConfig(VIT, DECODER)), out)


@pytest.mark.parametrize("kind", ["hamer", "wilor"])
def test_what_is_converted_answers_the_same(tmp_path: Path, kind: str) -> None:
    source, out = _saved(tmp_path, kind), tmp_path / "deep" / f"{kind}.safetensors"
    done = convert(source, out, with_hand_model=True)
    assert done.kind == kind and done.with_hand_model and done.size == out.stat().st_size
    with safe_open(out, framework="pt") as file:
        keys, notes = list(file.keys()), file.metadata()
    assert len(keys) == done.tensors
    assert notes["kind"] == kind and notes["hand_model"] == "mano_right"
    assert notes["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads(notes["config"])["backbone"]["heads"] == 3
    unused = ("discriminator", "initialized", "mano.hand_", "mano.pose_mean", "mano.vertex_")
    assert not [key for key in keys if key.startswith(unused)]
    opened, again = open_reconstructor(source), open_reconstructor(out)
    assert again.config == opened.config
    with torch.no_grad():
        for a, b in zip(opened(CROPS), again(CROPS), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("precision", "error"), [("fp16", 2e-4), ("bf16", 2e-3)])
def test_half_precision_halves_and_hardly_moves(
    tmp_path: Path, precision: str, error: float
) -> None:
    source = _saved(tmp_path)
    whole = convert(source, tmp_path / "a.safetensors")
    half = convert(source, tmp_path / "b.safetensors", precision)  # type: ignore[arg-type]
    assert 0.4 < half.size / whole.size < 0.65
    with safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        kept = {key: file.get_tensor(key).dtype for key in file.keys()}
    assert kept["backbone.blocks.0.attn.qkv.weight"] == (
        torch.float16 if precision == "fp16" else torch.bfloat16
    )
    assert kept["backbone.last_norm.bias"] == kept["mano_head.init_hand_pose"] == torch.float32
    opened = open_reconstructor(tmp_path / "b.safetensors", hand_model=_renamed())
    moved = (_vertices(opened) - _vertices(open_reconstructor(source))).abs().max()
    assert 0 < moved < error


def test_convert_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    source = _saved(tmp_path)
    with pytest.raises(AssetError, match="is a .safetensors"):
        convert(source, tmp_path / "out.pt")
    out = tmp_path / "out.safetensors"
    convert(source, out)
    with pytest.raises(AssetError, match="name another file"):
        convert(out, out)
    with pytest.raises(AssetError, match="holds no hand model that could be kept"):
        convert(out, tmp_path / "b.safetensors", with_hand_model=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hamer.ckpt", "out.safetensors"]


def test_the_command_says_what_was_left_out(tmp_path: Path) -> None:
    source, out = str(_saved(tmp_path)), str(tmp_path / "a.safetensors")
    runner = CliRunner()
    done = runner.invoke(app, ["model", "convert", source, out])
    assert done.exit_code == 0 and "holds no hand model, as MANO's licence" in done.output
    done = runner.invoke(app, ["model", "convert", source, out, "--with-hand-model"])
    assert done.exit_code == 0 and "forbids passing this file on" in done.output
    done = runner.invoke(app, ["model", "convert", source, out, "--precision", "int8"])
    assert done.exit_code == 1 and "fp32, fp16 or bf16" in done.output
    done = runner.invoke(app, ["model", "convert", str(tmp_path / "none.ckpt"), out])
    assert done.exit_code == 1 and "no such file" in done.output
