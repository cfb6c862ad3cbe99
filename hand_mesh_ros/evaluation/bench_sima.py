"""`hand-mesh bench sima`: SiMA-Hand's claims, from the weights that ship.

The headline figures are of the store `test`, renders-v1's 25 instants in four cameras, each view
counted; those of `validation` have `_validation` in their names: 300 instants, which no training
saw and no checkpoint was chosen by, and which decide what 100 views cannot.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch

from hand_mesh_ros.evaluation.sima_figures import (
    BINS,
    ERRORS,
    Progress,
    ViewErrors,
    landmark_errors,
    store_errors,
)
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.sima import Sima
from hand_mesh_ros.networks.sima_weights import FOLDER, open_sima
from hand_mesh_ros.training.instant_sources import STORES, folder_of
from hand_mesh_ros.training.instants import InstantStore, StoreError

Figures = dict[str, float]
UNTAUGHT: Final = FOLDER / "sima_svr_untaught.safetensors"
"""The student that had no teacher, otherwise trained alike: it ships to be compared with."""
NAMES: Final = {"svr": "student, untaught", "svr_taught": "student, taught", "mvr": "several views"}
_REPEATS: Final = 40


def measure(progress: Progress, out: Path) -> tuple[Figures, list[str]]:
    """Figures for `sima.json`, and the pictures that were drawn into `out`."""
    model = load_hand_model()
    networks = {
        "svr": open_sima("sima_svr", model, UNTAUGHT),
        "svr_taught": open_sima("sima_svr", model),
        "mvr": open_sima("sima_mvr", model),
    }
    figures: Figures = {}
    files = []
    for name in ("test", "validation"):
        try:
            store = _store(name, progress)
        except StoreError:
            if name == "test":
                raise
            continue  # it takes long to make, and nothing asked for depends on it
        suffix = "" if name == "test" else f"_{name}"
        found = {"landmarks": landmark_errors(store)}
        for step, (kind, network) in enumerate(networks.items()):
            progress(step, len(networks), f"{name}: {NAMES[kind]}")
            found[kind] = store_errors(network, model, store)
        figures |= {key + suffix: value for key, value in four_errors(found).items()}
        figures |= {key + suffix: value for key, value in occlusion(found).items()}
        curve = number_of_views(networks["mvr"], store, progress)
        figures |= {f"mvr_{views}_views_pa_mm{suffix}": value for views, value in curve.items()}
        files += [_draw_occlusion(found, out / f"sima_occlusion{suffix}.png"),
                  _draw_views(curve, found, out / f"sima_views{suffix}.png")]  # fmt: skip
    figures |= milliseconds(networks)
    return figures, [str(file) for file in files]


def four_errors(found: Mapping[str, ViewErrors]) -> Figures:
    """Means over views, mm: `KIND_pa_mm` (PA-MPJPE), `KIND_mpjpe_mm` and so on."""
    figures: Figures = {}
    for kind, errors in found.items():
        if kind == "landmarks":
            figures["landmarks_pa_mm"] = errors.mean("pa_mpjpe")
            continue
        figures[f"{kind}_pa_mm"] = errors.mean("pa_mpjpe")
        figures |= {f"{kind}_{name}_mm": errors.mean(name) for name in ERRORS}
    figures["views"] = float(len(found["mvr"].shown))
    return {name: round(value, 3) for name, value in figures.items()}


def occlusion(found: Mapping[str, ViewErrors]) -> Figures:
    """PA-MPJPE by visible share, and what teaching gains in each bin, with its standard error."""
    figures: Figures = {}
    untaught, taught = found["svr"], found["svr_taught"]
    gain = ViewErrors(
        {n: untaught.errors[n] - taught.errors[n] for n in ERRORS}, untaught.shown
    )
    counts = untaught.counts()
    place = np.digitize(untaught.shown, BINS) - 1
    for k, count in enumerate(counts):
        name = f"shown_{100 * BINS[k]:.0f}_{min(100 * BINS[k + 1], 100):.0f}"
        figures[f"{name}_views"] = float(count)
        if not count:
            continue
        for kind in ("svr", "svr_taught", "mvr"):
            figures[f"{name}_{kind}_pa_mm"] = float(found[kind].by_shown("pa_mpjpe")[k])
        figures[f"{name}_taught_gain_pa_mm"] = float(gain.by_shown("pa_mpjpe")[k])
        figures[f"{name}_taught_gain_mpjpe_mm"] = float(gain.by_shown("mpjpe")[k])
        spread = gain.errors["pa_mpjpe"][place == k].std() / np.sqrt(count)
        figures[f"{name}_taught_gain_pa_mm_standard_error"] = float(spread)
    return {name: round(value, 3) for name, value in figures.items()}


def number_of_views(network: Sima, store: InstantStore, progress: Progress) -> dict[int, float]:
    """PA-MPJPE, mm, of each view by how many views the network is given together."""
    model = load_hand_model()
    curve = {}
    for views in range(1, store.views + 1):
        progress(views, store.views, "number of views")
        errors = store_errors(network, model, store, views)
        curve[views] = round(errors.mean("pa_mpjpe"), 3)
    return curve


def milliseconds(networks: Mapping[str, Sima]) -> Figures:
    """Of one view on one core, with the landmark network's evidence: medians of some runs.

    Of the core's own time, so that other work on the machine is not counted. `ms_per_view` is the
    slower of the student's and of the several views' network, which is given four views;
    `evidence_ms` is the landmark network's alone, in between the same runs.
    """
    from hand_mesh_ros.networks.evidence import EvidenceNetwork
    from hand_mesh_ros.perception.learned import CropBatch
    from hand_mesh_ros.perception.network_sigma import SigmaRule
    from hand_mesh_ros.perception.sima_network import SimaNetwork

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = EvidenceNetwork()
    figures: Figures = {}
    evidence: list[float] = []
    try:
        for kind, views in (("svr_taught", 1), ("mvr", 4)):
            asked = SimaNetwork(networks[kind], kind, "cpu", SigmaRule())
            crops = torch.randint(0, 255, (views, 224, 224, 3)).float().permute(0, 3, 1, 2)
            eye = np.broadcast_to(np.eye(3), (views, 3, 3)).copy()
            batch = CropBatch(crops, np.zeros(views, np.int64), eye, np.full(views, 0.1))
            picture = batch.pictures()[:1]
            taken = []
            for _ in range(_REPEATS + 2):
                begin = time.process_time()
                asked(batch)
                between = time.process_time()
                alone(picture)
                taken.append((between - begin) / views)
                evidence.append(time.process_time() - between)
            figures[f"{kind}_ms_per_view"] = round(1e3 * float(np.median(taken[2:])), 2)
    finally:
        torch.set_num_threads(threads)
    figures["ms_per_view"] = max(figures.values())
    figures["evidence_ms"] = round(1e3 * float(np.median(evidence)), 2)
    return figures


def _store(name: str, progress: Progress) -> InstantStore:
    """A store by its name; `test` is small enough to be made when it is missing."""
    folder = folder_of(name)
    try:
        return InstantStore(folder)
    except StoreError:
        if name != "test":
            raise
    from hand_mesh_ros.training.instant_writer import StoreRequest, write_store

    known = STORES[name]
    request = StoreRequest(known.source, known.options, known.count, 4, None)
    return write_store(request, folder, 2, progress)


def _draw_occlusion(found: Mapping[str, ViewErrors], path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    counts = found["mvr"].counts()
    labels = [
        f"{100 * a:.0f}-{min(100 * b, 100):.0f} %\n{n} views"
        for a, b, n in zip(BINS, BINS[1:], counts, strict=False)
    ]
    for kind, label in NAMES.items():
        axes.plot(found[kind].by_shown("pa_mpjpe"), marker="o", label=label)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("share of the hand that the view shows")
    axes.set_ylabel("PA-MPJPE, mm")
    axes.set_ylim(bottom=0)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _draw_views(curve: Mapping[int, float], found: Mapping[str, ViewErrors], path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(list(curve), list(curve.values()), marker="o", label=NAMES["mvr"])
    for kind, style in (("svr", ":"), ("svr_taught", "--")):
        axes.axhline(found[kind].mean("pa_mpjpe"), color="grey", ls=style, label=NAMES[kind])
    axes.set_xticks(list(curve))
    axes.set_xlabel("views together")
    axes.set_ylabel("PA-MPJPE, mm")
    axes.set_ylim(bottom=0)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
