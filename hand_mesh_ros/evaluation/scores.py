"""All scores of one set of predictions: every metric that the truths allow, by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics import alignment, motion, occlusion, pixels, position
from hand_mesh_ros.evaluation.metrics import uncertainty as unsure
from hand_mesh_ros.evaluation.records import Predictions, Truths, chosen

Array = NDArray[np.float64]
MM = 1e3
_BLOCK = 1000


@dataclass(frozen=True, eq=False)
class Scores:
    """``figures`` by name, mm, shares and SI units, NaN where undefined; ``errors`` (N, P) m of
    points by the name of their alignment; ``samples`` (N,) of each sample, for a table; ``hint``
    (N, 21) pixel errors as shares of the box; ``notes`` say what could not be compared."""

    figures: dict[str, float]
    errors: dict[str, Array] = field(default_factory=dict)
    samples: dict[str, Array] = field(default_factory=dict)
    hint: Array | None = None
    notes: tuple[str, ...] = ()


def score(predictions: Predictions, truths: Truths, root: int = alignment.WRIST) -> Scores:
    """Every metric, with hands that were not found as zeros, as the benchmarks count them.

    Hands whose place in the camera is not known have no part in what depends on it.
    ``root``: the joint that root-relative errors are relative to (0; InterHand and HaMuCo: 9).
    Raises ValueError if predictions and truths are not of the same samples.
    """
    if len(predictions) != len(truths):
        raise ValueError(
            f"{len(predictions)} predictions for {len(truths)} samples: the file or folder is of "
            "another split, or a part of one"
        )
    found = predictions.found
    scores = Scores({"samples": len(truths), "found": float(found.mean()) if len(found) else 0.0})
    if np.isfinite(truths.joints).any():
        full = predictions.completed()
        scores = _joint_scores(scores, full, truths, root)
        scores = _mesh_scores(scores, full, truths, root)
        scores = _uncertainty_scores(scores, predictions, truths)
        scores = _motion_scores(scores, predictions, truths)
    return _pixel_scores(scores, predictions, truths)


def score_found(predictions: Predictions, truths: Truths, root: int = alignment.WRIST) -> Scores:
    """The same over the hands that were found only: what the backend is worth, given a hand."""
    found = predictions.found
    return score(chosen(predictions, found), chosen(truths, found), root)


def by_visibility(scores: Scores, truths: Truths) -> dict[str, dict[str, float]]:
    """Means of the per-sample errors in each bin of the visible share, with counts.

    Empty where nothing says what is visible.
    """
    share = truths.visible_share
    if share is None:
        if truths.visibility is None:
            return {}
        share = occlusion.visible_share(truths.visibility)
    bins = occlusion.bin_of(share)
    out: dict[str, dict[str, float]] = {}
    for number, name in enumerate(occlusion.BINS):
        inside = bins == number
        means = {k: position.mean_of(v[inside]) for k, v in scores.samples.items()}
        out[name] = {"samples": int(inside.sum()), **means}
    return out


def _with(
    scores: Scores,
    figures: dict[str, float],
    errors: dict[str, Array] | None = None,
    samples: dict[str, Array] | None = None,
    hint: Array | None = None,
    notes: tuple[str, ...] = (),
) -> Scores:
    """Scores with further entries."""
    return replace(
        scores,
        figures=scores.figures | figures,
        errors=scores.errors | (errors or {}),
        samples=scores.samples | (samples or {}),
        hint=scores.hint if hint is None else hint,
        notes=scores.notes + notes,
    )


def _joint_scores(scores: Scores, ours: Predictions, truths: Truths, root: int) -> Scores:
    true, joints = truths.joints, ours.joints
    aligned = {
        "root": alignment.root_relative(joints, joints, root) + true[:, root : root + 1],
        "pa": alignment.similarity_aligned(joints, true),
        "pa_proper": alignment.similarity_aligned(joints, true, proper=True),
        "st": alignment.scale_translation_aligned(joints, true),
        "n": alignment.bone_normalised(joints, true),
    }
    errors = {"camera": position.distances(joints, truths.in_camera().joints)}
    errors |= {name: position.distances(points, true) for name, points in aligned.items()}
    named = {
        "camera_mpjpe_mm": "camera", "mpjpe_mm": "root", "pa_mpjpe_mm": "pa",
        "pa_mpjpe_proper_mm": "pa_proper", "st_mpjpe_mm": "st", "n_mpjpe_mm": "n",
    }  # fmt: skip
    figures = {name: MM * position.mean_error(errors[key]) for name, key in named.items()}
    figures |= {
        "auc_j": position.area_under_pck(errors["pa"]),
        "auc_j_root": position.area_under_pck(errors["root"]),
        "auc_j_camera": position.area_under_pck(errors["camera"]),
        "auc_j_20": position.area_under_pck(errors["pa"], 0.02, 20),
    }
    if np.isfinite(errors["st"]).any():
        figures["auc_j_st"] = position.area_under_pck(errors["st"])
    samples = {name: MM * position.by_sample(errors[key]) for name, key in named.items()}
    return _with(scores, figures, errors=errors, samples=samples)


def _mesh_scores(scores: Scores, ours: Predictions, truths: Truths, root: int) -> Scores:
    true, vertices = truths.vertices, ours.vertices
    if true is None or vertices is None:
        return scores
    if true.shape != vertices.shape:
        # No vertex has a counterpart; F-scores need none, in the joints' alignment.
        moved = alignment.SimilarityFit(ours.joints, truths.joints)(vertices)
        note = (
            f"the backend's mesh has {vertices.shape[1]} vertices, the benchmark's "
            f"{true.shape[1]}: no vertex errors; F-scores after aligning the joints"
        )
        figures, samples = _f_scores(vertices, moved, truths)
        return _with(scores, figures, samples=samples, notes=(note,))
    blocks = [
        _mesh_errors(vertices[part], ours.joints[part], true[part], truths.joints[part], root)
        for part in _parts(len(true))
    ]
    errors = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    moved = errors.pop("moved")
    if truths.placed is not None:
        errors["mesh_camera"] = np.where(truths.placed[:, None], errors["mesh_camera"], np.nan)
    named = {
        "camera_mpvpe_mm": "mesh_camera", "mpvpe_mm": "mesh_root", "pa_mpvpe_mm": "mesh_pa",
        "pa_mpvpe_proper_mm": "mesh_pa_proper",
    }  # fmt: skip
    figures = {name: MM * position.mean_error(errors[key]) for name, key in named.items()}
    for name, key in (("auc_v", "mesh_pa"), ("auc_v_root", "mesh_root")):
        figures[name] = position.area_under_pck(errors[key])
    samples = {name: MM * position.by_sample(errors[key]) for name, key in named.items()}
    scores = _with(scores, figures, errors=errors, samples=samples)
    figures, samples = _f_scores(vertices, moved, truths)
    return _with(scores, figures, samples=samples)


def _parts(count: int) -> list[slice]:
    """A few samples at a time: intermediate meshes of a whole benchmark fill the memory."""
    return [slice(start, start + _BLOCK) for start in range(0, max(count, 1), _BLOCK)]


def _mesh_errors(
    vertices: Array, joints: Array, true: Array, true_joints: Array, root: int
) -> dict[str, Array]:
    """Distances by alignment, and the vertices after the benchmarks' alignment (``moved``)."""
    relative = alignment.root_relative(vertices, joints, root)
    moved = alignment.similarity_aligned(vertices, true)
    proper = alignment.similarity_aligned(vertices, true, proper=True)
    return {
        "mesh_camera": position.distances(vertices, true),
        "mesh_root": position.distances(relative + true_joints[:, root : root + 1], true),
        "mesh_pa": position.distances(moved, true),
        "mesh_pa_proper": position.distances(proper, true),
        "moved": moved,
    }


def _f_scores(
    vertices: Array, moved: Array, truths: Truths
) -> tuple[dict[str, float], dict[str, Array]]:
    true, placed = truths.vertices, truths.in_camera().vertices
    assert true is not None and placed is not None
    aligned = position.f_scores(moved, true, (0.005, 0.015))
    samples = {"f5": aligned[:, 0], "f15": aligned[:, 1]}
    as_they_are = position.f_scores(vertices, placed, (0.005, 0.015))
    unaligned = {"f5_unaligned": as_they_are[:, 0], "f15_unaligned": as_they_are[:, 1]}
    figures = {name: position.mean_of(v) for name, v in (samples | unaligned).items()}
    return figures, samples


def _uncertainty_scores(scores: Scores, ours: Predictions, truths: Truths) -> Scores:
    if ours.covariance is None:
        return scores
    error, covariance = ours.joints - truths.in_camera().joints, ours.covariance
    squared, size = unsure.nees(error, covariance), np.linalg.norm(error, axis=-1)
    total = unsure.total_variance(covariance)
    shares = unsure.coverage(error, covariance)
    figures = {
        "nees": position.mean_of(squared) / 3,
        "nll": position.mean_of(unsure.negative_log_likelihood(error, covariance)),
        "ause_mm": MM * unsure.sparsification(size, total).ause,
        "pearson": unsure.correlation(size, total),
        "pearson_1_99": unsure.correlation(size, total, clip=0.01),
        "pearson_5_95": unsure.correlation(size, total, clip=0.05),
        "spearman": unsure.correlation(size, total, ranks=True),
    }
    figures |= {
        f"coverage_{100 * level:.0f}": float(share)
        for level, share in zip(unsure.LEVELS, shares, strict=True)
    }
    samples = {"nees": position.by_sample(squared) / 3}
    return _with(scores, figures, samples=samples)


def _motion_scores(scores: Scores, ours: Predictions, truths: Truths) -> Scores:
    if truths.sequence is None or truths.stamps is None:
        return scores
    order = np.lexsort((truths.stamps, truths.sequence))
    when = truths.stamps[order], truths.sequence[order]
    mine, true = ours.joints[order], truths.in_camera().joints[order]
    return _with(
        scores,
        {
            "acceleration_error": position.mean_of(motion.acceleration_error(mine, true, *when)),
            "acceleration": position.mean_of(motion.acceleration(mine, *when)),
            "acceleration_true": position.mean_of(motion.acceleration(true, *when)),
            "jitter": position.mean_of(motion.jitter(mine, *when)),
            "jitter_true": position.mean_of(motion.jitter(true, *when)),
        },
    )


def _pixel_scores(scores: Scores, ours: Predictions, truths: Truths) -> Scores:
    if ours.uv is None or truths.uv is None:
        return scores
    errors_px = position.distances(ours.uv, truths.uv)
    figures = {"error_px": position.mean_error(errors_px)}
    samples = {"error_px": position.by_sample(errors_px)}
    if truths.box_px is None:
        return _with(scores, figures, samples=samples)
    errors = pixels.hint_errors(ours.uv, truths.uv, truths.box_px)
    counted = {"all": np.asarray(np.isfinite(truths.uv).all(-1))}
    if truths.visibility is not None:
        counted["all"] &= np.isfinite(truths.visibility)
        counted["visible"] = counted["all"] & (truths.visibility > 0.5)
        counted["occluded"] = counted["all"] & (truths.visibility <= 0.5)
    for name, mask in counted.items():
        share, _ = pixels.hint_pck(errors, mask)
        figures |= {
            f"pck_{name}_{100 * t:02.0f}": float(s)
            for t, s in zip(pixels.HINT_THRESHOLDS, share, strict=True)
        }
    return _with(scores, figures, samples=samples, hint=errors)
