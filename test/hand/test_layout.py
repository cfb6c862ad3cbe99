"""Joint orders: permutations are permutations, and names travel with them."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.hand import layout


def test_openpose_names_are_the_mano_names_gathered() -> None:
    part = {"wrist": "wrist", "cmc": "1", "mcp": "1", "pip": "2", "dip": "3", "tip": "tip"}
    thumb = {"cmc": "1", "mcp": "2", "ip": "3", "tip": "tip"}
    for name, source in zip(layout.JOINT_NAMES, layout.MANO_TO_OPENPOSE, strict=True):
        finger, _, kind = name.partition("_")
        expected = f"{finger}_{(thumb if finger == 'thumb' else part)[kind]}" if kind else finger
        assert layout.MANO_JOINT_NAMES[source] == expected


@pytest.mark.parametrize("name", ["MANO", "HO3D", "RHD"])
def test_orders_are_inverse_permutations(name: str) -> None:
    forth = getattr(layout, f"{name}_TO_OPENPOSE")
    back = getattr(layout, f"OPENPOSE_TO_{name}")
    assert forth[back].tolist() == back[forth].tolist() == list(range(21))


def test_rhd_counts_every_finger_from_its_tip() -> None:
    names = np.array(layout.JOINT_NAMES)[layout.OPENPOSE_TO_RHD]
    assert names[:6].tolist() == [
        "wrist", "thumb_tip", "thumb_ip", "thumb_mcp", "thumb_cmc", "index_tip",
    ]  # fmt: skip


def test_bones_are_a_tree_of_the_fingers() -> None:
    assert [child for _, child in layout.BONES] == list(range(1, 21))
    for parent, child in layout.BONES:
        names = layout.JOINT_NAMES[parent], layout.JOINT_NAMES[child]
        assert parent == 0 or names[0].split("_")[0] == names[1].split("_")[0]
    parents = np.array(layout.PARENTS)
    mano = {child: parent for parent, child in layout.BONES}
    for joint in range(1, 16):
        openpose = int(layout.OPENPOSE_TO_MANO[joint])
        assert layout.MANO_TO_OPENPOSE[mano[openpose]] == parents[joint]


def test_tip_sets_name_five_vertices_of_the_mano_mesh() -> None:
    for ids in layout.TIP_SETS.values():
        assert len(set(ids)) == 5 and max(ids) < 778


def test_tables_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        layout.MANO_TO_OPENPOSE[0] = 1
