"""Pictures of an evaluation: PCK curves, errors by joint, by visibility, honesty of sigmas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.evaluation.metrics import pixels, position
from hand_mesh_ros.evaluation.metrics import uncertainty as unsure
from hand_mesh_ros.evaluation.records import Predictions, Truths
from hand_mesh_ros.evaluation.scores import MM, Scores, by_visibility
from hand_mesh_ros.hand.layout import JOINT_NAMES

_LABELS = {
    "camera": "joints, camera space", "root": "joints, root-relative",
    "st": "joints, scale-translation", "pa": "joints, PA", "mesh_root": "mesh, root-relative",
    "mesh_pa": "mesh, PA",
}  # fmt: skip


def draw(
    scores: Scores, predictions: Predictions, truths: Truths, title: str, path: Path
) -> None:
    """Write a PNG of what the truths allow: one panel to seven."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: list[Callable[..., None]] = []
    if scores.errors:
        panels += [_pck, _by_joint, _distribution]
    if scores.hint is not None:
        panels.append(_hint)
    if by_visibility(scores, truths):
        panels.append(_visibility)
    if predictions.covariance is not None and scores.errors:
        panels += [_calibration, _sparsification]
    panels = panels or [_nothing]
    columns = min(len(panels), 3 if len(panels) <= 6 else 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for panel, axis in zip(panels, axes, strict=False):
        panel(axis, scores, predictions, truths)
    figure.savefig(path, dpi=110)


def _pck(axis: Any, scores: Scores, *_: Any) -> None:
    for name, label in _LABELS.items():
        if name in scores.errors and np.isfinite(scores.errors[name]).any():
            thresholds, share = position.pck_curve(scores.errors[name])
            area = position.area_under_pck(scores.errors[name])
            axis.plot(MM * thresholds, 100 * share, label=f"{label} (AUC {area:.3f})")
    axis.set(xlabel="error below, mm", ylabel="points, %", xlim=(0, 50), ylim=(0, 101))
    axis.set_title("PCK")
    axis.legend(fontsize=7, loc="lower right")
    axis.grid(alpha=0.3)


def _by_joint(axis: Any, scores: Scores, *_: Any) -> None:
    where = np.arange(21)
    for name, shift in (("root", -0.2), ("pa", 0.2)):
        means = MM * position.by_sample(scores.errors[name].T)
        axis.bar(where + shift, means, 0.4, label=_LABELS[name])
    axis.set_xticks(where, JOINT_NAMES, rotation=90, fontsize=7)
    axis.set(ylabel="mean error, mm", title="error by joint")
    axis.margins(y=0.2)
    axis.legend(fontsize=7, ncols=2)


def _distribution(axis: Any, scores: Scores, *_: Any) -> None:
    errors = {n: scores.samples[n] for n in ("mpjpe_mm", "pa_mpjpe_mm")}
    finite = np.concatenate([e[np.isfinite(e)] for e in errors.values()])
    edges = np.linspace(0, max(float(np.percentile(finite, 98)), 1e-6), 40)
    for name, values in errors.items():
        known = values[np.isfinite(values)]
        label = f"{name.removesuffix('_mm')}, median {np.median(known):.1f} mm"
        axis.hist(np.minimum(known, edges[-1]), edges, alpha=0.6, label=label)
    axis.set(xlabel="error of a sample, mm (the rest in the last bar)", ylabel="samples")
    axis.set_title("samples")
    axis.legend(fontsize=7)


def _hint(axis: Any, scores: Scores, _: Predictions, truths: Truths) -> None:
    assert scores.hint is not None
    thresholds = np.linspace(0, 0.3, 61)
    known = ~np.isnan(scores.hint)
    sets = {"all": known}
    if truths.visibility is not None:
        sets["visible"] = known & (truths.visibility > 0.5)
        sets["occluded"] = known & (truths.visibility <= 0.5)
    for name, mask in sets.items():
        shares = pixels.hint_pck(scores.hint, mask, list(thresholds))[1]
        some = mask.any(0)
        if some.any():
            share = shares[:, some].mean(-1)
            axis.plot(thresholds, 100 * share, label=f"{name} ({int(mask.sum())} points)")
    axis.set(xlabel="error below, share of the box", ylabel="points, %", ylim=(0, 101))
    axis.set_title("PCK in the image (HInt)")
    axis.legend(fontsize=7, loc="lower right")
    axis.grid(alpha=0.3)


def _visibility(axis: Any, scores: Scores, _: Predictions, truths: Truths) -> None:
    bins = by_visibility(scores, truths)
    where = np.arange(len(bins))
    shown = ("mpjpe_mm", "pa_mpjpe_mm") if scores.errors else ("error_px",)
    for i, name in enumerate(shown):
        values = [row.get(name, np.nan) for row in bins.values()]
        axis.bar(where + 0.4 * i - 0.2 * (len(shown) - 1), values, 0.4, label=name)
    labels = [f"{name}\n{row['samples']} samples" for name, row in bins.items()]
    axis.set_xticks(where, labels, fontsize=7)
    unit = "mm" if scores.errors else "px"
    axis.set(xlabel="visible share of the hand", ylabel=f"mean error, {unit}", title="occlusion")
    axis.legend(fontsize=7)


def _calibration(axis: Any, _: Scores, predictions: Predictions, truths: Truths) -> None:
    assert predictions.covariance is not None
    levels = np.linspace(0.02, 0.99, 40)
    error = predictions.joints - truths.joints
    shares = unsure.coverage(error, predictions.covariance, list(levels))
    axis.plot([0, 100], [0, 100], "k:", lw=1, label="honest")
    axis.plot(100 * levels, 100 * shares, label="measured")
    axis.set(xlabel="ellipsoid should hold, %", ylabel="holds, %", title="coverage of covariances")
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


def _sparsification(axis: Any, _: Scores, predictions: Predictions, truths: Truths) -> None:
    assert predictions.covariance is not None
    error = np.linalg.norm(predictions.joints - truths.joints, axis=-1)
    found = unsure.sparsification(error, unsure.total_variance(predictions.covariance))
    axis.plot(100 * found.kept, MM * found.by_uncertainty, label="by uncertainty")
    axis.plot(100 * found.kept, MM * found.by_error, label="by the error itself")
    axis.set(xlabel="most certain points kept, %", ylabel="mean error, camera space, mm")
    axis.set_title(f"sparsification, AUSE {MM * found.ause:.1f} mm")
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


def _nothing(axis: Any, *_: Any) -> None:
    axis.text(0.5, 0.5, "nothing to compare", ha="center")
    axis.set_axis_off()
