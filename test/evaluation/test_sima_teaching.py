"""What is said of students with and without a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.evaluation import sima_teaching
from hand_mesh_ros.evaluation.sima_figures import ERRORS, ViewErrors
from hand_mesh_ros.evaluation.sima_teaching import compare, draw

SHOWN = np.array([0.2, 0.3, 0.8, 0.95, 1.0])
# PA-MPJPE of each view, by the file's name: the taught are better where little is shown
PA = {
    "untaught-0": [20.0, 18, 12, 10, 10],
    "untaught-1": [21.0, 19, 12, 10, 10],
    "taught-0": [18.0, 16, 11, 10, 10],
    "taught-1": [17.0, 17, 12, 10, 10],
}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights by name, so that what is averaged over what is known."""

    def errors(network: str, model: object, store: object) -> ViewErrors:
        return ViewErrors({name: np.array(PA[network]) for name in ERRORS}, SHOWN)

    monkeypatch.setattr(sima_teaching, "open_sima", lambda kind, model, path: path.name)
    monkeypatch.setattr(sima_teaching, "store_errors", errors)


def test_gains_are_of_pairs_by_what_is_shown(known: None, tmp_path: Path) -> None:
    untaught, taught = ([Path(f"{kind}-{s}") for s in (0, 1)] for kind in ("untaught", "taught"))
    found = compare(None, untaught, taught, lambda *_: None)  # type: ignore[arg-type]
    assert found["errors"]["untaught"]["pa_mpjpe"] == [14.0, 14.4]
    hidden = found["gain"]["shown 0%-50%"]
    assert hidden["views"] == 2 and hidden["seeds_mm"] == [2.0, 3.0]
    assert hidden["mean_mm"] == 2.5 and hidden["standard_error_mm"] == 0.5
    assert found["gain"]["shown 90%-100%"]["mean_mm"] == 0
    assert "shown 50%-75%" not in found["gain"]
    assert found["gain"]["shown 0%-100%"]["seeds_mm"] == [1.0, 1.2]
    assert draw(found, tmp_path / "gain.png").stat().st_size > 1000


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="2 untaught and 1 taught"):
        compare(None, [Path("a"), Path("b")], [Path("c")], lambda *_: None)  # type: ignore[arg-type]
