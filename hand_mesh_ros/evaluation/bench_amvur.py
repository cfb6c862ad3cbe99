"""`hand-mesh bench amvur`: are AMVUR's sigmas true, and what are they good for.

The headline figures are of `renders-v1`'s test images, none of which anything was trained,
chosen or calibrated on: 400 single ones and 25 instants in four cameras.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.amvur_answers import Answers, answers_of, fusion
from hand_mesh_ros.evaluation.amvur_hands import hands
from hand_mesh_ros.evaluation.amvur_stores import DISTURBED, opened
from hand_mesh_ros.evaluation.metrics.uncertainty import (
    correlation,
    coverage,
    nees,
    negative_log_likelihood,
    sparsification,
    total_variance,
)
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork
from hand_mesh_ros.networks.amvur_prior import evidence_cues
from hand_mesh_ros.networks.evidence import CROP, EvidenceNetwork
from hand_mesh_ros.perception.amvur_network import SHIPPED, open_amvur
from hand_mesh_ros.training.instants import InstantStore

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
Figures = dict[str, float]

BASELINES: Final = {"weak": "amvur_weak", "published": "amvur_published_objective"}
"""Weights that ship beside AMVUR's own, to compare with."""
OCCLUDED: Final = 0.9
"""An instant is occluded where its views see less than this share of the hand in the mean."""
_TIMED = 60


def measure(progress: Progress, weights: Path | None = None) -> tuple[Figures, dict[str, Answers]]:
    """All figures, and the answers by network and store.

    Raises AssetError for weights that cannot be read.
    """
    model = load_hand_model()
    network = open_amvur(weights or SHIPPED, model)
    stores = [opened(name, progress) for name in ("test-single", "test")]
    found = {"amvur": together(network, stores)}
    figures: Figures = sigmas(found["amvur"])
    for name, file in BASELINES.items():
        path = SHIPPED.with_name(f"{file}.safetensors")
        found[name] = together(open_amvur(path, model), stores)
        figures |= {f"{name}_{key}": value for key, value in sigmas(found[name]).items()}
    figures["ause_ratio"] = round(figures["ause_mm"] / figures["published_ause_mm"], 3)
    figures["weak_ratio"] = round(figures["weak_pa_mm"] / figures["pa_mm"], 3)
    for how in DISTURBED:
        found[how] = answers_of(network, opened(f"test-{how}", progress))
        told = sigmas(found[how])
        keys = ("coverage_68", "coverage_95", "spearman", "pa_mm")
        figures |= {f"{key}_{how}": told[key] for key in keys}
    figures |= of_views(answers_of(network, stores[1]), float(network.calibration.common))
    figures |= {
        f"{key}_validation": value
        for key, value in of_views(
            answers_of(network, opened("validation", progress)), float(network.calibration.common)
        ).items()
    }
    figures |= hands(progress, weights, ("amvur", "landmarks"))
    figures["ms_per_view"] = round(1e3 * seconds_per_view(network, stores[1]), 2)
    figures["parameters"] = sum(p.numel() for p in network.parameters())
    return figures, found


def together(network: AmvurNetwork, stores: list[InstantStore]) -> Answers:
    """Answers to several stores as one."""
    first, *rest = (answers_of(network, store) for store in stores)
    for other in rest:
        first = first.and_(other)
    return first


def sigmas(answers: Answers) -> Figures:
    """How true the sigmas of one view's joints are; coverages in percent, lengths in mm."""
    error, covariance = answers.errors, answers.covariance[:, 1:]
    size = np.linalg.norm(error, axis=-1)
    sigma = np.sqrt(total_variance(covariance))
    shares = 100 * coverage(error, covariance)
    known = np.isfinite(answers.visibility)
    hidden = 1 - np.nanmean(np.where(known, answers.visibility, np.nan), axis=1)
    return {
        "views": len(answers),
        "mpjpe_mm": _rounded(1e3 * np.linalg.norm(answers.joints - answers.true, axis=-1).mean()),
        "pa_mm": _rounded(1e3 * answers.pa.mean()),
        "coverage_50": _rounded(shares[0]),
        "coverage_68": _rounded(shares[1]),
        "coverage_95": _rounded(shares[2]),
        "nees": _rounded(np.nanmean(nees(error, covariance)) / 3),
        "nll": _rounded(np.nanmean(negative_log_likelihood(error, covariance))),
        "spearman": _rounded(correlation(size, sigma, ranks=True)),
        "spearman_occlusion": _rounded(correlation(hidden, sigma.mean(1), ranks=True)),
        "ause_mm": _rounded(1e3 * sparsification(size, sigma).ause),
        "seen_right_percent": _rounded(
            100 * ((answers.visible > 0.5) == (answers.visibility > 0.5))[known].mean()
        ),
    }


def of_views(answers: Answers, common: float) -> Figures:
    """What several views are worth, fused by their covariances; mean errors of joints, mm.

    Without a suffix of joints that some view does not see; `_all` of all joints; `_occluded` of
    the instants of which the mean view sees less than `OCCLUDED`.
    """
    made = fusion(answers, common)
    occluded = np.broadcast_to((made.shown < OCCLUDED)[:, None], made.mean.shape)
    figures: Figures = {"instants": len(made.shown), "instants_occluded": int(occluded[:, 0].sum())}
    everything = np.ones(made.mean.shape, dtype=bool)
    chosen = {"": made.hidden.astype(bool), "_all": everything, "_occluded": occluded}
    for suffix, which in chosen.items():
        means = {
            name: 1e3 * float(getattr(made, name)[which].mean())
            for name in ("single", "mean", "fused")
        }
        figures |= {f"fusion_{name}_mm{suffix}": _rounded(x) for name, x in means.items()}
        figures[f"fusion_gain_percent{suffix}"] = _rounded(
            100 * (1 - means["fused"] / means["mean"])
        )
    figures["fusion_nees"] = _rounded(np.nanmean(made.nees) / 3)
    return figures


def seconds_per_view(network: AmvurNetwork, store: InstantStore) -> float:
    """Median of one crop's evidence, network and calibrated covariance, on one core."""
    look = EvidenceNetwork()
    image = store.read([0], ["image"])["image"][0, :1].repeat(2, 1).repeat(2, 2)
    assert image.shape[1:] == (CROP, CROP, 3)
    focal = torch.tensor([4.0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    took = []
    try:
        for _ in range(_TIMED):
            begin = time.perf_counter()
            found = {k: torch.from_numpy(v) for k, v in look(image)._asdict().items()}
            with torch.inference_mode():
                hands = network(evidence_cues(found, focal, network.settings.maps))
                network.calibrated(hands)
            took.append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return float(np.median(took))


def draw(found: dict[str, Answers], path: Path) -> None:
    """A PNG: sigma against error, coverage at all levels, and what is left without the unsure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.stats import chi2

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("AMVUR on renders-v1's test images: joints relative to the wrist")
    scatter, levels, sparse = figure.subplots(1, 3)
    names = {"amvur": "likelihood (ships)", "published": "published objective", "weak": "2D only"}
    asked = np.linspace(0.02, 0.98, 49)
    for number, (key, label) in enumerate(names.items()):
        answers, colour = found[key], f"C{number}"
        error, covariance = answers.errors, answers.covariance[:, 1:]
        size = 1e3 * np.linalg.norm(error, axis=-1)
        sigma = 1e3 * np.sqrt(total_variance(covariance))
        scatter.loglog(sigma.ravel(), size.ravel(), ".", ms=1, color=colour, alpha=0.4)
        squared = nees(error, covariance)
        levels.plot(asked, [(squared < chi2.ppf(a, 3)).mean() for a in asked], label=label)
        curve = sparsification(size, sigma)
        sparse.plot(curve.kept, curve.by_uncertainty, color=colour, label=label)
        sparse.plot(curve.kept, curve.by_error, ":", color=colour)
    scatter.set(xlabel="sigma told, mm", ylabel="error, mm", xlim=(1, 300), ylim=(0.3, 300))
    levels.plot([0, 1], [0, 1], "k:", lw=1)
    levels.set(xlabel="level", ylabel="share of errors within")
    sparse.set(xlabel="share kept, surest first (dotted: by the error itself)", ylabel="error, mm")
    levels.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 3)
