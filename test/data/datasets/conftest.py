"""Data sets in small, each written once a session, and copied by tests that break them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The writers are modules of their own beside the tests, which are no package.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def models() -> dict:
    """Models of both sides as MANO's files would give them."""
    from layout_writers.stage import model_of

    return {side: model_of(side) for side in ("right", "left")}
