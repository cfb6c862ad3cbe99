"""The publishing figures, on few sets: everything is heard by another process, and equal."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.ros.bench_publish import measure


def test_every_figure_is_measured() -> None:
    steps: list[tuple[int, int]] = []
    found = measure(lambda done, total, what: steps.append((done, total)), sets=3, pictures=2)
    assert steps[-1] == (5, 5)
    assert set(found) == {
        *(
            f"publish_mesh{objects}{rested}{cpu}_ms"
            for objects in ("", "_objects")
            for rested in ("", "_rested")
            for cpu in ("", "_cpu")
        ),
        "publish_mesh_speedup",
        "tf_ms",
        "tf_objects_ms",
        "hands_ms",
        "overlay_zbuffer_ms",
        "overlay_draw_ms",
        "overlay_ms",
    }
    assert all(value > 0 for value in found.values())
