"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.networks.assets import AssetError, fetch_landmark_networks

# Generated messages check their field types only when asked (Humble always does).
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The recordings and fixtures that live beside the project; skips where they are absent."""
    path = Path(os.environ.get("HAND_MESH_SHARED", ROOT.parent / "shared")) / "data"
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}")
    return path


@pytest.fixture(scope="session")
def landmark_networks() -> None:
    """Skips where the landmark networks cannot be had."""
    try:
        fetch_landmark_networks()
    except AssetError as error:
        pytest.skip(f"no landmark networks: {error}")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _launch_stand_in() -> ModuleType:
    """test/launch_stand_in.py: tests are no package, so it is imported by its path, once."""
    name = "launch_stand_in"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "test" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``described(path, **arguments)``: what a launch file does, without `launch`."""
    pytest.importorskip("ament_index_python", reason="ROS 2 is not installed")
    stand_in = _launch_stand_in()
    stand_in.install(monkeypatch)
    read: Callable[..., Any] = stand_in.described
    return read
