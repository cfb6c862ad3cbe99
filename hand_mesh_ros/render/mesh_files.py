"""Meshes with a colour a vertex as files: binary glTF 2.0 and Wavefront OBJ."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.types import FloatArray

# Numbers of the glTF 2.0 specification, sections 3.6.2.2, 3.7.2.1 and 4.4.
_FLOAT, _UINT32, _TRIANGLES = 5126, 5125, 4
_ARRAY, _ELEMENTS = 34962, 34963
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_KINDS: Final = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


@dataclass(frozen=True, eq=False)
class ColouredMesh:
    """``vertices`` (V, 3) m, y upwards; ``faces`` (F, 3); ``colours`` (V, 3) linear, 0..1.

    ``attributes``: more numbers a vertex (V,) by name; ``extras``: what else is to be told of it.
    """

    name: str
    vertices: FloatArray
    faces: NDArray[np.integer]
    colours: FloatArray
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)


def write_glb(path: Path, mesh: ColouredMesh) -> None:
    """One binary file: colours as COLOR_0, which glTF says are linear, attributes as _NAME."""
    arrays: dict[str, NDArray[Any]] = {
        "POSITION": mesh.vertices,
        "NORMAL": vertex_normals(mesh.vertices, mesh.faces),
        "COLOR_0": np.column_stack([mesh.colours, np.ones(len(mesh.colours))]),
        # an application's own attributes begin with an underscore
        **{f"_{name.upper()}": np.asarray(a)[:, None] for name, a in mesh.attributes.items()},
    }
    blocks = [a.astype("<f4").tobytes() for a in arrays.values()]
    accessors = [_accessor(i, _FLOAT, a) for i, a in enumerate(arrays.values())]
    low, high = (f(mesh.vertices.astype("<f4"), axis=0).tolist() for f in (np.min, np.max))
    accessors[0] |= {"min": low, "max": high}
    corners = mesh.faces.astype("<u4").reshape(-1, 1)
    blocks.append(corners.tobytes())
    accessors.append(_accessor(len(arrays), _UINT32, corners))
    offsets = np.cumsum([0, *map(len, blocks)])
    content = {
        "asset": {"version": "2.0", "generator": "hand_mesh_ros"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": mesh.name}],
        "meshes": [{
            "name": mesh.name,
            "primitives": [{
                "attributes": {name: i for i, name in enumerate(arrays)},
                "indices": len(arrays), "mode": _TRIANGLES, "material": 0,
            }],
            "extras": dict(mesh.extras),
        }],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.6}}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": int(offset), "byteLength": len(block),
             "target": _ELEMENTS if block is blocks[-1] else _ARRAY}
            for offset, block in zip(offsets, blocks, strict=False)
        ],
        "buffers": [{"byteLength": int(offsets[-1])}],
    }  # fmt: skip
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(blocks)  # of four-byte numbers, so that it needs no padding
    chunks = struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", len(body), _BIN)
    head = struct.pack("<III", _MAGIC, 2, 12 + len(chunks) + len(body))
    path.write_bytes(head + chunks + body)


def write_obj(path: Path, mesh: ColouredMesh) -> None:
    """Lines of text: colours follow the places, as most programs read them, in sRGB 0..1.

    The format has no room for ``attributes`` and ``extras``: they go into a .json of that name.
    """
    rows = np.column_stack([mesh.vertices, np.clip(mesh.colours, 0, 1) ** (1 / 2.2)])
    lines = [f"# {mesh.name}: x y z in metres, then red green blue", f"o {mesh.name}"]
    lines += ["v {:.6f} {:.6f} {:.6f} {:.4f} {:.4f} {:.4f}".format(*row) for row in rows.tolist()]
    lines += ["f {} {} {}".format(*face) for face in (mesh.faces + 1).tolist()]
    path.write_text("\n".join(lines) + "\n")
    more = {name: np.asarray(a).tolist() for name, a in mesh.attributes.items()}
    path.with_suffix(".json").write_text(json.dumps({**mesh.extras, **more}) + "\n")


def _accessor(view: int, kind: int, array: NDArray[Any]) -> dict[str, Any]:
    rows, columns = array.shape
    return {"bufferView": view, "componentType": kind, "count": rows, "type": _KINDS[columns]}
