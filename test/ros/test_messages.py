"""The message definitions: documented, of the right sizes, in the right order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

messages = pytest.importorskip("hand_mesh_ros.msg", reason="the ROS messages are not built")

MSG = Path(__file__).resolve().parents[2] / "msg"
NAMES = (
    "Hand", "HandArray", "HandMesh", "HandObservations", "HandTexture", "ManoParameters",
    "MeshTopology",
)  # fmt: skip


def fields(name: str) -> list[tuple[str, str]]:
    """Return (field name, its comment: the lines before it, or at its end) of a definition."""
    found, comment = [], ""
    for line in (MSG / f"{name}.msg").read_text().splitlines():
        code, _, remark = line.partition("#")
        if not code.strip():
            comment = f"{comment} {remark}".strip() if line.strip() else ""
            continue
        if "=" not in code:
            found.append((code.split()[1], f"{comment} {remark}".strip()))
        comment = ""
    return found


def test_definitions_are_those_of_the_design() -> None:
    assert sorted(path.stem for path in MSG.glob("*.msg")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_says_what_it_means(name: str) -> None:
    assert fields(name)
    short = [field for field, comment in fields(name) if len(comment) < 10]
    assert not short, f"{name}: no comment on {short}"


@pytest.mark.parametrize("name", NAMES)
def test_every_floating_point_field_has_a_unit(name: str) -> None:
    types = getattr(messages, name).get_fields_and_field_types()
    unit = re.compile(r"\b(s|m|rad|px|m\^2)[,\s]|\[0, 1\]|[Ff]actor|standard deviations")
    bare = [f for f, comment in fields(name) if "float" in types[f] and not unit.search(comment)]
    assert not bare, f"{name}: no unit for {bare}"


def test_array_lengths() -> None:
    hand = messages.Hand()
    assert len(hand.joints) == messages.Hand.JOINT_COUNT == 21
    assert hand.joint_covariance.shape == (21 * 6,)
    assert hand.joint_confidence.shape == hand.visibility.shape == hand.r95.shape == (21,)
    assert hand.finger_visibility.shape == (5,)
    assert hand.wrist.covariance.shape == (36,)
    mano = messages.ManoParameters()
    shapes = [getattr(mano, f).shape for f in ("global_orient", "hand_pose", "betas", "transl")]
    assert shapes == [(3,), (45,), (10,), (3,)]
    assert len(messages.MeshTopology().joint_names) == 21


def test_joint_constants_are_the_openpose_order() -> None:
    fingers = ("THUMB", "INDEX", "MIDDLE", "RING", "LITTLE")
    thumb, finger = ("CMC", "MCP", "IP", "TIP"), ("MCP", "PIP", "DIP", "TIP")
    names = ["WRIST"]
    names += [f"{f}_{part}" for f in fingers for part in (thumb if f == "THUMB" else finger)]
    assert [getattr(messages.Hand, name) for name in names] == list(range(21))


def test_enumerations_have_distinct_values() -> None:
    hand, mano = messages.Hand, messages.ManoParameters
    scales = ("UNKNOWN", "MODEL_PRIOR", "MULTI_VIEW", "DEPTH", "CALIBRATED_SHAPE")
    assert [getattr(hand, f"SCALE_{name}") for name in scales] == list(range(5))
    assert {hand.UNKNOWN, hand.LEFT, hand.RIGHT} == {0, 1, 2}
    assert (mano.RIGHT, mano.LEFT, mano.RIGHT_MIRRORED) == (0, 1, 2)


def test_unknown_numbers_survive_serialisation() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    hand = messages.Hand(track_id=7, side=messages.Hand.LEFT)
    hand.joint_covariance[:] = np.nan
    hand.joint_covariance[6:12] = [1, 2, 3, 4, 5, 6]
    array = messages.HandArray(views=["left", "right"], hands=[hand])
    back = serialization.deserialize_message(
        serialization.serialize_message(array), messages.HandArray
    )
    assert list(back.views) == ["left", "right"]
    np.testing.assert_array_equal(back.hands[0].joint_covariance, hand.joint_covariance)


def test_vertices_are_of_any_number() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    mesh = messages.HandMesh()
    mesh.vertices.frombytes(np.arange(3 * 901, dtype=np.float32).tobytes())
    back = serialization.deserialize_message(
        serialization.serialize_message(mesh), messages.HandMesh
    )
    np.testing.assert_array_equal(np.asarray(back.vertices), np.arange(3 * 901))
