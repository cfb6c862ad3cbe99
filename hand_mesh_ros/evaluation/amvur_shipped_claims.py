"""Claims about AMVUR that the weights that ship tell, on `renders-v1`'s test images, with rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from hand_mesh_ros.evaluation.amvur_answers import Answers, answers_of, fusion
from hand_mesh_ros.evaluation.amvur_outcomes import Outcome, Row
from hand_mesh_ros.evaluation.amvur_seeds import BIN_NAMES, BINS
from hand_mesh_ros.evaluation.amvur_silhouette_claim import measure_silhouettes, silhouette_claim
from hand_mesh_ros.evaluation.amvur_silhouette_picture import silhouette_sheet
from hand_mesh_ros.evaluation.amvur_stores import opened
from hand_mesh_ros.evaluation.bench_amvur import BASELINES, sigmas
from hand_mesh_ros.evaluation.bench_texture import KINDS, texture_figures
from hand_mesh_ros.evaluation.metrics.uncertainty import total_variance
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork
from hand_mesh_ros.perception.amvur_network import SHIPPED, open_amvur
from hand_mesh_ros.render.sheet import write_image

Progress = Callable[[int, int, str], None]

_EQUAL: Final = 1.05  # of an error: as good as equal
_SKINS: Final = {
    "no mask": "no_mask", "the network's mask": "mask", "the true mask": "true_mask",
}  # fmt: skip


def shipped_claims(progress: Progress, picture: Path) -> list[Outcome]:
    """All of them; ``picture``: a PNG of silhouettes before and after.

    Raises ModuleNotFoundError without DEODR.
    """
    model = load_hand_model()
    network = open_amvur(SHIPPED, model)
    single, multi = (opened(name, progress) for name in ("test-single", "test"))
    answers = answers_of(network, single)
    ours = sigmas(answers)
    theirs = sigmas(answers_of(_published(model), single))
    views = answers_of(network, multi)
    outcomes = [
        _objective(ours, theirs),
        _occlusion(answers, ours),
        _fusion(views, float(network.calibration.common)),
        texture_claim(texture_figures(multi, None, progress)),
    ]
    measured = measure_silhouettes(network, multi, progress)
    write_image(picture, silhouette_sheet(measured, model.faces))
    return [*outcomes, silhouette_claim(measured)]


def texture_claim(figures: Mapping[str, float]) -> Outcome:
    """Of `texture_figures`: the masked version against one that takes all before the mesh for skin.

    Errors of the linear albedo in percent of white.
    """
    same = "_same_tone"
    names = _SKINS | {"nothing seen": "prior"}
    names |= {f"{name}, tone set right": f"{key}{same}" for name, key in _SKINS.items()}
    rows = {
        name: {kind: 100 * figures[f"texture_{kind}_{key}"] for kind in KINDS}
        for name, key in names.items()
    }
    masked, bare = rows["the network's mask"], rows["no mask"]
    return Outcome(
        "An occlusion-aware texture is better",
        "masked: less error on hidden and on covered vertices; on visible ones at most 5 % more",
        all(masked[kind] < bare[kind] for kind in ("hidden", "covered"))
        and masked["visible"] <= _EQUAL * bare["visible"],
        rows,
    )


def _published(model: HandModel) -> AmvurNetwork:
    """The baseline of the published objective, as it came out of training."""
    path = SHIPPED.with_name(f"{BASELINES['published']}.safetensors")
    network = open_amvur(path, model)
    for values in (network.calibration.joints, network.calibration.places):
        values.fill_(1)
    return network


def _objective(ours: Row, theirs: Row) -> Outcome:
    keys = ("coverage_68", "coverage_95", "spearman", "ause_mm", "pa_mm")
    return Outcome(
        "The published objective's sigmas mean nothing",
        "uncalibrated: 68 % coverage outside 50-85 %, AUSE at least twice the likelihood's",
        not 50 <= theirs["coverage_68"] <= 85 and theirs["ause_mm"] >= 2 * ours["ause_mm"],
        {
            "likelihood": {k: ours[k] for k in keys},
            "published objective": {k: theirs[k] for k in keys},
        },
    )


def _occlusion(answers: Answers, ours: Row) -> Outcome:
    by_share = {
        name: sigmas(answers.of(which))
        for name, low, high in zip(BIN_NAMES, BINS, BINS[1:], strict=False)
        if (which := (answers.shown >= low) & (answers.shown < high)).sum() > 5
    }
    told = ("views", "mpjpe_mm", "coverage_68", "coverage_95", "spearman_occlusion")
    held = [row["coverage_68"] for row in by_share.values()]
    return Outcome(
        "Sigma tracks occlusion",
        "Spearman of sigma and hidden share above 0.6; coverage within 58-78 % of all bins",
        ours["spearman_occlusion"] > 0.6 and 58 <= min(held) and max(held) <= 78,
        {name: {k: row[k] for k in told} for name, row in (by_share | {"all": ours}).items()},
    )


def _fusion(views: Answers, common: float) -> Outcome:
    whole, coarse = fusion(views, common), fusion(_round(views), common)
    nan = float("nan")
    rows: dict[str, Row] = {
        "one view": {"mm": 1e3 * float(whole.single.mean()), "nees": nan},
        "mean of views": {"mm": 1e3 * float(whole.mean.mean()), "nees": nan},
    }
    for name, found in (("full 3x3", whole), ("one sigma", coarse)):
        rows[name] = {"mm": 1e3 * float(found.fused.mean()), "nees": float(found.nees.mean()) / 3}
    return Outcome(
        "Covariances make several views worth more",
        "full 3x3 better than their mean, that than one view; NEES/3 within 0.7-1.4",
        rows["full 3x3"]["mm"] < rows["mean of views"]["mm"] < rows["one view"]["mm"]
        and 0.7 <= rows["full 3x3"]["nees"] <= 1.4,
        rows,
    )


def _round(answers: Answers) -> Answers:
    """With one sigma for all axes of a joint."""
    sigma2 = total_variance(answers.covariance) / 3
    return replace(answers, covariance=sigma2[..., None, None] * np.eye(3))
