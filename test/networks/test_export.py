"""ONNX files answer what the network answers, for any batch, and hold no hand model unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hand_mesh_ros.cli import app
from hand_mesh_ros.evaluation.random_networks import random_network
from hand_mesh_ros.networks.hamer import HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.networks.wilor import WilorConfig

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

VIT = ViTConfig(width=32, depth=2, heads=2, image=(64, 48))
HAMER = HamerConfig(VIT, DecoderConfig(32, dim=16, depth=2, heads=2, dim_head=8, mlp_dim=16))


def test_hamer_for_any_batch_without_the_hand_model(tmp_path: Path) -> None:
    from hand_mesh_ros.networks.export import export

    network, path = random_network(HAMER), tmp_path / "small.onnx"
    assert export(network, path) < 1e-4
    session = onnxruntime.InferenceSession(path)
    crops = torch.randn(5, 3, 64, 64)
    rotations, betas, cam = session.run(None, {"crops": crops.numpy()})
    with torch.no_grad():
        hands = network(crops)
    torch.testing.assert_close(torch.tensor(rotations), hands.rotations, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(betas), hands.betas, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(cam), hands.cam, rtol=1e-4, atol=1e-4)
    vertices = len(network.mano.v_template)
    shapes = [list(value.dims) for value in onnx.load(path).graph.initializer]
    assert not any(vertices in shape or 3 * vertices in shape for shape in shapes)


@pytest.mark.parametrize("config", [HAMER, WilorConfig(VIT, sampling="aligned")])
def test_whole_hands_where_that_is_wanted(
    tmp_path: Path, config: HamerConfig | WilorConfig
) -> None:
    from hand_mesh_ros.networks.export import export

    network, path = random_network(config), tmp_path / "whole.onnx"
    assert export(network, path, with_hand_model=True) < 1e-4
    session = onnxruntime.InferenceSession(path)
    assert [value.name for value in session.get_outputs()][-3:] == [
        "joints", "vertices", "joints_2d",
    ]  # fmt: skip


def test_wilor_says_that_it_needs_its_hand_model(tmp_path: Path) -> None:
    from hand_mesh_ros.networks.export import export

    with pytest.raises(ValueError, match="--with-hand-model"):
        export(random_network(WilorConfig(VIT)), tmp_path / "none.onnx")


def test_command_of_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["model", "export", f"{tmp_path}/no.ckpt", f"{tmp_path}/a.onnx"])
    assert run.exit_code == 1 and "no.ckpt" in run.output
    run = CliRunner().invoke(app, ["model", "export", f"{tmp_path}/no.ckpt", f"{tmp_path}/a.txt"])
    assert run.exit_code == 1 and ".onnx" in run.output
