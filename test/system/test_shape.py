"""A person's shape through the real node: calibrated with two cameras, of use with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rcl_interfaces.msg import Log
from std_srvs.srv import Trigger

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.shape import load_shape, palm_length
from hand_mesh_ros.msg import Hand, HandArray
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.ros.readers import hand_set

NODE, HANDS = "/hand_mesh_node", "/hand_mesh_node/hands"
SEED, FPS = 1, 5.0


def settings(cameras: int, shape: Path) -> dict[str, Any]:
    names = [f"camera_{i}" for i in range(cameras)]
    return {
        "cameras": names,
        "output_frame": "world",
        "num_threads": 1,
        "shape_file": str(shape),
        "calibrate_shape": {"frames": 12},
        "camera": {name: {"reliability": "reliable"} for name in names},
    }


def scene(cameras: int, seconds: float) -> dict[str, Any]:
    synthetic = {"cameras": cameras, "seconds": seconds, "fps": FPS, "seed": SEED}
    return {"synthetic": synthetic, "pace": "lockstep"}


def test_calibrate_then_measure_with_one_camera(
    start: Callable[..., Any], peer: Any, tmp_path: Path
) -> None:
    peer.listen("/rosout", Log, 100)
    hands = peer.listen(HANDS, HandArray)
    path = tmp_path / "person.json"

    def said(text: str) -> list[Any]:
        return [m for m in peer.heard["/rosout"] if text in m.msg]

    node = start("hand_mesh_node", settings(2, path))
    peer.until(lambda: hands.get_publisher_count() or not node.running(), "the node's hands")
    assert node.running(), node.output
    assert "yet; hands have no calibrated shape" in node.output
    answer = peer.call(f"{NODE}/calibrate_shape", Trigger)
    assert answer.success and str(path) in answer.message
    again = peer.call(f"{NODE}/calibrate_shape", Trigger)
    assert not again.success and "already gathering: 0 of 12" in again.message
    cell = start("camera_cell_node", scene(2, 4.0))
    peer.until(lambda: said("calibrate_shape: "), "the calibrated shape")
    assert said("calibrate_shape: ")[0].level == Log.INFO, node.output
    peer.until(lambda: not cell.running(), "the end of the scene")
    assert node.end() == 0, node.output

    shape, model = load_shape(path, "free_hand_1"), load_hand_model()
    truth = SyntheticCell(2, seconds=4, fps=FPS, seed=SEED).ground_truth(0)[0].mano.betas
    palm, sigma = palm_length(model, shape.betas, shape.covariance)
    assert abs(palm - palm_length(model, truth, shape.covariance)[0]) < 3 * sigma < 0.012

    peer.heard[HANDS].clear()
    node = start("hand_mesh_node", settings(1, path))
    peer.until(lambda: hands.get_publisher_count() or not node.running(), "the node's hands")
    assert node.running(), node.output
    cell = start("camera_cell_node", scene(1, 2.0))
    peer.until(lambda: not cell.running(), "the end of the scene")
    assert node.end() == 0, node.output
    found = [message for message in peer.heard[HANDS] if message.hands]
    assert len(found) >= 8
    assert {m.hands[0].scale_source for m in found} == {Hand.SCALE_CALIBRATED_SHAPE}
    joints = np.array([hand_set(m).hands[0].estimate.joints for m in found])
    palms = np.linalg.norm(joints[:, 9] - joints[:, 0], axis=-1)
    np.testing.assert_allclose(palms, palm, atol=1e-5)
