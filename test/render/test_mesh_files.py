"""Meshes with colours as files, read back by another library."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.render.mesh_files import ColouredMesh, write_glb, write_obj

trimesh = pytest.importorskip("trimesh", reason="the extra [silhouette] is not installed")


@pytest.fixture
def mesh(sphere: tuple[np.ndarray, np.ndarray]) -> ColouredMesh:
    vertices, faces = sphere
    return ColouredMesh(
        "right_3", 0.1 * vertices, faces, 0.5 + 0.4 * vertices,
        {"observed": (vertices[:, 2] > 0).astype(int), "sigma": np.abs(vertices[:, 0])},
        {"track_id": 3, "side": "right"},
    )  # fmt: skip


def test_a_glb_is_read_back(mesh: ColouredMesh, tmp_path: Path) -> None:
    path = tmp_path / "hand.glb"
    write_glb(path, mesh)
    (back,) = trimesh.load(path, process=False).geometry.values()
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-7)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    np.testing.assert_allclose(back.vertex_normals, mesh.vertices / 0.1, atol=0.05)
    colours = np.asarray(back.visual.vertex_attributes["color"])
    np.testing.assert_allclose(colours[:, :3], mesh.colours, atol=1e-6)  # linear, as they were
    assert (colours[:, 3] == 1).all()
    attributes = back.vertex_attributes
    np.testing.assert_array_equal(attributes["_OBSERVED"].ravel(), mesh.attributes["observed"])
    np.testing.assert_allclose(attributes["_SIGMA"].ravel(), mesh.attributes["sigma"], atol=1e-6)


def test_a_glb_keeps_the_rules_of_the_format(mesh: ColouredMesh, tmp_path: Path) -> None:
    """Sections 4.4 (binary), 3.6 (buffers and accessors) of the specification of glTF 2.0."""
    path = tmp_path / "hand.glb"
    write_glb(path, mesh)
    data = path.read_bytes()
    magic, version, length, text, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    assert text % 4 == 0
    content = json.loads(data[20 : 20 + text])
    size, kind = struct.unpack_from("<I4s", data, 20 + text)
    assert kind == b"BIN\0" and size % 4 == 0 and 28 + text + size == len(data)
    assert content["buffers"] == [{"byteLength": size}]
    assert content["meshes"][0]["extras"] == {"track_id": 3, "side": "right"}
    primitive = content["meshes"][0]["primitives"][0]
    position = content["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(position["min"], mesh.vertices.min(0), atol=1e-7)
    np.testing.assert_allclose(position["max"], mesh.vertices.max(0), atol=1e-7)
    views = content["bufferViews"]
    assert all(view["byteOffset"] % 4 == 0 for view in views)
    assert views[-1]["byteOffset"] + views[-1]["byteLength"] == size
    own = set(primitive["attributes"]) - {"POSITION", "NORMAL", "COLOR_0"}
    assert own == {"_OBSERVED", "_SIGMA"}


def test_an_obj_is_read_back_with_its_notes(mesh: ColouredMesh, tmp_path: Path) -> None:
    path = tmp_path / "hand.obj"
    write_obj(path, mesh)
    back = trimesh.load(path, process=False, maintain_order=True)
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    shown = np.asarray(back.visual.vertex_colors)[:, :3] / 255
    np.testing.assert_allclose(shown, mesh.colours ** (1 / 2.2), atol=1 / 200)
    notes = json.loads(path.with_suffix(".json").read_text())
    assert notes["track_id"] == 3 and notes["observed"] == mesh.attributes["observed"].tolist()
