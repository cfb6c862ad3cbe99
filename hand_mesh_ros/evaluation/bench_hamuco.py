"""`hand-mesh bench hamuco`: what several views are worth, from the weights that ship.

The headline figures are of the store `test`, the 25 instants of renders-v1 in four cameras; those
of the 300 instants of `validation`, which no training has seen and no checkpoint was chosen by,
have `_validation` in their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hand_mesh_ros.evaluation.hamuco_figures import Errors, errors_of
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.hamuco import Hamuco
from hand_mesh_ros.perception.hamuco_network import SHIPPED, HamucoNetwork, open_hamuco
from hand_mesh_ros.perception.learned import CropBatch
from hand_mesh_ros.perception.network_sigma import SigmaRule
from hand_mesh_ros.training.instant_sources import folder_of
from hand_mesh_ros.training.instants import InstantStore

Progress = Callable[[int, int, str], None]
Figures = dict[str, float]

OCCLUDED = 0.9
"""An instant is occluded where its views see less than this share of the hand in the mean."""
_BINS = (0.0, 0.6, 0.75, 0.9, 0.98, 1.01)


def measure(progress: Progress, weights: Path | None = None) -> tuple[Figures, dict[str, Errors]]:
    """All figures, and the errors of both stores by name."""
    network = open_hamuco(weights or SHIPPED, load_hand_model())
    figures: Figures = {}
    errors: dict[str, Errors] = {}
    for name in ("test", "validation"):
        found = errors[name] = errors_of(network, InstantStore(folder_of(name)), progress)
        suffix = "" if name == "test" else f"_{name}"
        figures |= {key + suffix: value for key, value in summary(found).items()}
    figures["ms_per_view"] = round(1e3 * seconds_per_view(network), 2)
    return figures, errors


def summary(errors: Errors) -> Figures:
    """Means, mm; `_occluded` over the occluded instants only."""
    found: Figures = {"instants": len(errors.shown), "instants_occluded": 0}
    hidden = errors.shown < OCCLUDED
    found["instants_occluded"] = int(hidden.sum())
    views = errors.multi.shape[1]
    for which, suffix in ((slice(None), ""), (hidden, "_occluded")):
        columns = {
            "landmarks_pa_mm": errors.landmarks[which],
            "mediapipe_world_pa_mm": errors.world[which],
            "hamuco_single_pa_mm": errors.single[which],
            "hamuco_each_view_pa_mm": errors.cross[which],
            "hamuco_multi_pa_mm": errors.multi[which, -1],
            "hamuco_solved_pa_mm": errors.solved[which],
            "triangulation_pa_mm": errors.triangulated[which, -1],
            "landmarks_multi_pa_mm": errors.fitted[which],
        }
        found |= {name + suffix: _mean(values) for name, values in columns.items()}
    lost = np.isnan(errors.fitted)
    found["landmarks_multi_lost"] = int(lost.sum())  # the others' mean is above
    found["hamuco_solved_of_those_pa_mm"] = _mean(errors.solved[~lost])
    for number in range(1, views + 1):
        found[f"hamuco_{number}_views_pa_mm"] = _mean(errors.multi[:, number - 1])
        if number > 1:
            found[f"triangulation_{number}_views_pa_mm"] = _mean(errors.triangulated[:, number - 1])
    return found


def by_occlusion(errors: Errors) -> list[tuple[str, int, Figures]]:
    """Share of the hand that is seen, instants, and mean errors of the systems, mm."""
    rows = []
    for low, high in zip(_BINS, _BINS[1:], strict=False):
        which = (errors.shown >= low) & (errors.shown < high)
        if which.any():
            means = {
                "landmarks": _mean(errors.landmarks[which]),
                "single": _mean(errors.single[which]),
                "multi": _mean(errors.multi[which, -1]),
                "triangulation": _mean(errors.triangulated[which, -1]),
            }
            rows.append((f"{low:.0%}-{min(high, 1):.0%}", int(which.sum()), means))
    return rows


def seconds_per_view(network: Hamuco, repetitions: int = 15) -> float:
    """Median processor time of calls with four views of one hand, evidence included, a view.

    Of one thread: what it takes on a core of its own, whatever else the machine does.
    """
    hands = HamucoNetwork(network, "free", "cpu", SigmaRule())
    rng = np.random.default_rng(0)
    axes = np.tile(np.eye(3), (4, 1, 1))
    pixels = rng.integers(0, 255, (4, 224, 224, 3)).astype(np.float32)
    crops = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # in memory as `cut_crops` leaves them
    batch = CropBatch(crops, np.zeros(4, dtype=np.int64), axes, np.full(4, 0.2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        hands(batch)
        taken = []
        for _ in range(repetitions):
            begin = time.process_time()
            hands(batch)
            taken.append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
    return float(np.median(taken)) / 4


def draw(errors: Errors, title: str, path: Path) -> None:
    """A PNG: error by the number of views, and by how much of the hand is seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    numbers = np.arange(1, errors.multi.shape[1] + 1)
    left.plot(numbers, np.nanmean(errors.multi, 0), "o-", label="HaMuCo")
    left.plot(numbers[1:], np.nanmean(errors.triangulated[:, 1:], 0), "s--", label="triangulation")
    left.plot(1, np.nanmean(errors.landmarks), "^", label="landmark backend, one view")
    left.set(xlabel="views", ylabel="PA-MPJPE, mm", xticks=numbers, ylim=(0, None))
    left.legend()
    rows = by_occlusion(errors)
    labels = {"landmarks": "landmark backend, one view", "single": "HaMuCo, one view",
              "multi": "HaMuCo, all views", "triangulation": "triangulation"}  # fmt: skip
    shares = [share for share, _, _ in rows]
    for name, label in labels.items():
        right.plot(shares, [means[name] for _, _, means in rows], "o-", label=label)
    right.set(xlabel="of the hand, seen in the mean view", ylim=(0, None))
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return round(float(known.mean()), 3) if known.size else float("nan")
