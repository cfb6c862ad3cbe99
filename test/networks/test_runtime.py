"""The door to the networks: however many threads, each crop's outputs are in its own row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.networks.assets import landmark_network_path
from hand_mesh_ros.networks.runtime import LiteRtNetwork, load_network

pytestmark = pytest.mark.usefixtures("landmark_networks")
NAME = "hand_landmark_lite"


@pytest.fixture(scope="module")
def path(landmark_networks: None) -> Path:
    return landmark_network_path(NAME)


def test_threads_change_nothing(path: Path) -> None:
    alone, shared = LiteRtNetwork(path.read_bytes(), 1), LiteRtNetwork(path.read_bytes(), 3)
    crops = np.random.default_rng(0).integers(0, 255, (7, alone.size, alone.size, 3), np.uint8)
    for count in (0, 1, 2, 7):
        expected, found = alone(crops[:count]), shared(crops[:count])
        assert [len(rows) for rows in found] == [count] * len(expected)
        for a, b in zip(expected, found, strict=True):
            # One interpreter of three threads may round another way than one of one.
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    # Rows differ, so that crops that had changed places would have been seen.
    assert np.abs(np.diff(alone(crops)[0], axis=0)).max(axis=1).min() > 1


def test_what_fails_in_a_thread_is_heard(path: Path) -> None:
    with pytest.raises(ValueError):
        LiteRtNetwork(path.read_bytes(), 2)(np.zeros((4, 10, 10, 3), np.uint8))


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="unknown runtime 'onnx'"):
        load_network(NAME, "onnx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose runtime torch"):
        load_network(NAME, "litert", "cuda")
