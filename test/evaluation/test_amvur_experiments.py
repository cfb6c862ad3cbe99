"""The bookkeeping of AMVUR's experiments: seeds, rules, tables. And a tiny one from end to end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.evaluation import amvur_seeds, amvur_trials
from hand_mesh_ros.evaluation.amvur_experiments import write_report
from hand_mesh_ros.evaluation.amvur_outcomes import (
    Outcome,
    Row,
    markdown,
    standard_error,
    write_whole,
)
from hand_mesh_ros.evaluation.amvur_seeds import (
    BIN_NAMES,
    Amount,
    Trained,
    gathered,
    run_trials,
)
from hand_mesh_ros.evaluation.amvur_shipped_claims import texture_claim
from hand_mesh_ros.evaluation.amvur_silhouette_claim import (
    ANSWER,
    HEADLINE,
    VARIANTS,
    Found,
    Silhouettes,
    measure_silhouettes,
    silhouette_claim,
)
from hand_mesh_ros.evaluation.amvur_silhouette_picture import silhouette_sheet
from hand_mesh_ros.evaluation.amvur_stores import opened
from hand_mesh_ros.evaluation.amvur_trained_claims import SHARES, trained_claims, trials
from hand_mesh_ros.evaluation.amvur_trials import Judged, Trial, Views
from hand_mesh_ros.evaluation.bench_texture import KINDS
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.amvur import AmvurSettings
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.perception.amvur_network import SHIPPED, open_amvur
from hand_mesh_ros.training.instant_writer import StoreRequest, write_part
from hand_mesh_ros.training.instants import InstantStore

TWO = {"first": Trial(), "the second 5%": Trial(share=0.05)}


def quiet(*_: object) -> None:
    """No progress."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int, int]]:
    """Trainings that take no time: what was trained, as (share, seed, views). Errors are known."""
    done: list[tuple[float, int, int]] = []

    def train(trial: Trial, views: Views, steps: int, seed: int, tick: Callable[[], None]) -> float:
        for _ in range(steps):
            tick()
        done.append((trial.share, seed, len(views)))
        return 0.001 * (10 * trial.share + seed)

    def judge(error: float, views: Views) -> Judged:
        pa = np.linspace(1, 2, len(views)) * error
        vectors = np.ones((len(views), 20, 3))
        spread = np.broadcast_to(np.eye(3), (len(views), 20, 3, 3))
        return Judged(pa, pa, vectors, spread, vectors[:, 0], spread[:, 0])

    def load(name: str, count: int) -> Views:
        return Views({}, np.repeat([0.5, 0.8, 1.0], 4)[: min(count, 12)])

    for name, stand_in in {"train": train, "judge": judge, "load_views": load}.items():
        monkeypatch.setattr(amvur_seeds, name, stand_in)
    return done


def test_each_seed_has_a_file_and_what_is_there_is_kept(
    tmp_path: Path, trained: list[tuple[float, int, int]]
) -> None:
    seen: list[tuple[int, int]] = []
    run_trials(lambda done, total, _: seen.append((done, total)), tmp_path, TWO, Amount(9, 5, (0,)))
    assert trained == [(1.0, 0, 9), (0.05, 0, 9)]
    assert seen[-1] == (10, 10) and [done for done, _ in seen] == sorted(d for d, _ in seen)
    # another process, later: two more seeds, one of which was begun by a third
    (tmp_path / "first-9-5-seed2.json").write_text('{"row": {"pa_mm": 7}, "bins": [1, 2, 3]}')
    run_trials(quiet, tmp_path, TWO, Amount(9, 5, (0, 1, 2)))
    assert trained[2:] == [(1.0, 1, 9), (0.05, 1, 9), (0.05, 2, 9)]
    assert json.loads((tmp_path / "first-9-5-seed2.json").read_text())["row"] == {"pa_mm": 7}
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{name}-9-5-seed{seed}.json" for name in ("first", "the-second-5") for seed in range(3)
    }


def test_only_seeds_that_all_trials_have_are_compared(
    tmp_path: Path, trained: list[tuple[float, int, int]]
) -> None:
    run_trials(quiet, tmp_path, TWO, Amount(9, 5, (0, 3)))
    run_trials(quiet, tmp_path, {"first": TWO["first"]}, Amount(9, 5, (1,)))
    run_trials(quiet, tmp_path, TWO, Amount(9, 50, (2,)))
    found = gathered(tmp_path, TWO, Amount(9, 5, (0,)))
    assert found.seeds == (0, 3)
    mean = found.mean("first")
    errors = 1.5 * np.array([10.0, 13.0])
    assert mean["pa_mm"] == pytest.approx(errors.mean(), abs=0.01)
    assert mean["pa_se"] == pytest.approx(np.std(errors, ddof=1) / np.sqrt(2), abs=0.01)
    assert found.bins["first"].shape == (2, len(BIN_NAMES))
    assert found.bins["first"][0, 0] < found.bins["first"][0, 2]
    single = gathered(tmp_path, TWO, Amount(9, 50, (2,)))
    assert single.seeds == (2,) and "pa_se" not in single.mean("first")
    with pytest.raises(ValueError, match="no seed"):
        gathered(tmp_path, TWO, Amount(9, 7, (0,)))


def test_a_standard_error_is_that_of_a_mean(rng: np.random.Generator) -> None:
    drawn = rng.normal(0, 2, (400, 3))
    np.testing.assert_allclose(standard_error(drawn), 0.1, rtol=0.1)
    assert np.isnan(standard_error(drawn[:1])).all()


def test_a_file_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "told.json"
    write_whole(path, "old")
    read: list[str] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        read.append(target.read_text())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_whole(path, "new")
    assert read == ["old"] and path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["told.json"]


def numbers(pa: float = 15.0, **more: float) -> Row:
    row = {"pa_mm": pa, "prior_pa_mm": 16.0, "nll": 13.2, "nees": 1.0, "coverage_68": 68.0}
    return row | {"pinch_nees": 1.1} | more


def as_claimed() -> tuple[dict[str, Row], dict[str, np.ndarray]]:
    """Numbers of all trials by which all claims hold, and bins."""
    rows = {name: numbers() for name in trials()}
    for share, lead in zip(SHARES, (4.0, 6.0, 5.0, 3.0), strict=True):
        rows[f"alone {share:.0%}"] = numbers(15.0 + lead)
    rows |= {"cross none": numbers(15.5), "cross one_way": numbers(15.4)}
    rows |= {"depth 0": numbers(15.5), "depth 2": numbers(14.9)}
    rows |= {"weak": numbers(17), "weak without limits": numbers(18)}
    rows["weak without prior"] = numbers(19)
    rows["tied 100%"] = numbers(15.0, nll=13.0)
    rows["form diagonal"] = numbers(15.0, pinch_nees=0.4)
    bins = {"tied 100%": np.array([18.0, 16, 14]), "alone 100%": np.array([23.0, 20, 17])}
    return rows, bins


def verdicts(rows: dict[str, Row], bins: dict[str, np.ndarray]) -> list[bool]:
    found = Trained((0,), {n: [r] for n, r in rows.items()}, {n: b[None] for n, b in bins.items()})
    return [outcome.accepted for outcome in trained_claims(found)]


@pytest.mark.parametrize(
    ("claim", "trial", "changed"),
    [
        (0, "alone 5%", numbers(14.9)),
        (0, "alone 100%", numbers(22.0)),
        (0, "tied 1%", numbers(16.1)),
        (2, "cross one_way", numbers(15.51)),
        (3, "depth 2", numbers(15.01)),
        (3, "depth 0", numbers(14.99)),
        (4, "weak", numbers(22.6)),
        (4, "weak without limits", numbers(17.0)),
        (5, "form mixing", numbers(15.0, nll=12.9)),
        (5, "form diagonal", numbers(15.0, pinch_nees=1.05)),
    ],
)
def test_rules_tolerate_nothing(claim: int, trial: str, changed: Row) -> None:
    rows, bins = as_claimed()
    assert verdicts(rows, bins) == 6 * [True]
    found = verdicts(rows | {trial: changed}, bins)
    assert not found[claim]


def test_the_priors_lead_must_grow_with_what_is_hidden() -> None:
    rows, bins = as_claimed()
    bins["alone 100%"] = np.array([20.0, 20, 17])
    assert verdicts(rows, bins) == [True, False, True, True, True, True]


def test_rows_tell_how_far_seeds_are_apart() -> None:
    rows, bins = as_claimed()
    other = {name: row | {"pa_mm": row["pa_mm"] + 1} for name, row in rows.items()}
    both = {name: np.stack([b, b + 1]) for name, b in bins.items()}
    found = Trained((0, 1), {n: [rows[n], other[n]] for n in rows}, both)
    outcomes = trained_claims(found)
    assert outcomes[0].rows["tied 1%"]["pa_se"] == pytest.approx(0.5)
    # the lead is of the same seed: what they have in common is no error of it
    assert outcomes[1].rows[BIN_NAMES[0]]["lead_se"] == 0
    page = markdown(outcomes, "Trainings: 2 seeds")
    assert "pa_se" in page and "Trainings: 2 seeds" in page


def test_the_report_says_how_many_seeds_and_steps(tmp_path: Path) -> None:
    rows, _ = as_claimed()
    found = Trained((1, 4), {n: 2 * [r] for n, r in rows.items()}, {})
    outcome = Outcome("A claim", "a rule", True, {"a": {"mm": 1.0, "nees": float("nan")}})
    write_report(tmp_path, found, [outcome], Amount(4000, 150, (4,)))
    page = (tmp_path / "experiments.md").read_text()
    assert "2 seeds of each, 150 steps on 4000 views" in page
    assert "| a | 1.00 |  |" in page and "**accepted**" in page
    told = json.loads((tmp_path / "experiments.json").read_text())
    assert told["seeds"] == [1, 4] and told["outcomes"][0]["claim"] == "A claim"
    assert (tmp_path / "experiments.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("kind", "error", "accepted"),
    [("visible", 0.0524, True), ("visible", 0.0526, False), ("hidden", 0.05, False),
     ("covered", 0.051, False)],
)  # fmt: skip
def test_texture_is_judged_by_all_kinds_of_vertices(
    kind: str, error: float, accepted: bool
) -> None:
    suffixes = ("", "_same_tone")
    names = [f"{n}{s}" for n in ("mask", "true_mask", "no_mask") for s in suffixes] + ["prior"]
    figures = {f"texture_{k}_{name}": 0.05 for k in KINDS for name in names}
    figures |= {f"texture_{k}_mask": 0.03 for k in ("covered", "hidden")}
    figures[f"texture_{kind}_mask"] = error
    outcome = texture_claim(figures)
    assert outcome.accepted == accepted
    assert outcome.rows["the network's mask"][kind] == pytest.approx(100 * error)


@pytest.mark.parametrize(
    ("iou", "pa", "accepted"), [(0.01, 0.0, True), (-0.01, -0.001, False), (0.1, 1e-5, False)]
)
def test_a_silhouette_must_help_and_not_harm(iou: float, pa: float, accepted: bool) -> None:
    before = np.linspace(0.6, 0.8, 8)

    def of(more: float, worse: float) -> Found:
        errors = np.linspace(0.01, 0.02, 8) + worse
        return Found(before + more, errors, errors, np.zeros((8, 3, 2)), np.zeros((8, 3)))

    found = {ANSWER: of(0, 0)} | {name: of(0.2, -0.01) for name in VARIANTS}
    found[HEADLINE] = of(iou, pa)
    blank = np.zeros((8, 56, 56))
    images = blank.astype(np.uint8)
    outcome = silhouette_claim(Silhouettes(images, blank > 0, {}, found, np.arange(8)))
    assert outcome.accepted == accepted
    row = outcome.rows[HEADLINE]
    assert row["iou_change"] == pytest.approx(100 * iou) and row["pa_change_se"] < 1e-9
    assert np.isnan(outcome.rows[ANSWER]["iou_change"])


def test_views_of_one_hand_are_no_more_hands() -> None:
    """Two hands in four views each, all of which change alike: two numbers, not eight."""
    change, blank = np.repeat([0.0, 0.1], 4), np.zeros((8, 56, 56))
    same, corners = np.full(8, 0.5), (np.zeros((8, 3, 2)), np.zeros((8, 3)))
    found = {ANSWER: Found(same, same, same, *corners)}
    found[HEADLINE] = Found(same + change, same, same, *corners)
    images, hands = blank.astype(np.uint8), np.repeat([3, 7], 4)
    row = Silhouettes(images, blank > 0, {}, found, hands).row(HEADLINE)
    assert row["iou_change"] == pytest.approx(5) and row["iou_change_se"] == pytest.approx(5)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores `train` and `validation` of two instants of two views, where stores are looked for."""
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("home")
    for split in ("train", "validation"):
        request = StoreRequest("renders", {"split": split}, 2, 2, None)
        write_part(request, folder / split, 0)
    return folder


def test_a_training_from_end_to_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amvur_trials, "folder_of", lambda name: home / name)
    small = AmvurSettings(vertices=16, prior_hidden=32)
    listed = {"small": Trial(small), "half of it": Trial(small, share=0.5)}
    run_trials(quiet, tmp_path, listed, Amount(4, 2, (0, 1)))
    found = gathered(tmp_path, listed, Amount(4, 2, (0,)))
    assert found.seeds == (0, 1)
    mean = found.mean("small")
    assert 5 < mean["pa_mm"] < 60 and mean["pa_se"] > 0
    told = json.loads((tmp_path / "small-4-2-seed1.json").read_text())
    assert 1 <= told["trained_views"] <= 4 and told["seed"] == 1


def test_silhouettes_are_measured_and_drawn(home: Path) -> None:
    pytest.importorskip("trimesh", reason="DEODR needs trimesh, which is missing")
    pytest.importorskip("deodr", reason="DEODR is missing: pip install deodr trimesh")
    model = load_hand_model()
    store = InstantStore(home / "validation")
    ticks: list[tuple[int, int]] = []

    def report(done: int, total: int, what: str) -> None:
        ticks.append((done, total))

    found = measure_silhouettes(open_amvur(SHIPPED, model), store, report, steps=8)
    count = int(store.whole("valid").sum())
    assert len(found.instant) == count and set(found.instant) <= {0, 1}
    assert len(found.images) == len(found.truth) == count and ticks[-1] == (32, 32)
    rows = silhouette_claim(found).rows
    assert list(rows) == [ANSWER, *VARIANTS]
    best = rows["the true mask, outlines"]
    assert best["iou"] > rows[ANSWER]["iou"] + 1
    # an even silhouette has no gradient but at its outline
    assert abs(rows["the true mask, insides"]["iou_change"]) < 0.2
    assert (found.masks["the true mask"].known <= 1).all()
    sheet = silhouette_sheet(found, model.faces, rows=2)
    assert sheet.shape[1] > 5 * 224 and sheet.shape[0] > 2 * 224


def test_two_processes_may_make_one_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another is faster with the same part: its own is kept, and nothing is left over."""
    from hand_mesh_ros.evaluation import amvur_stores

    def write(request: StoreRequest, out: Path, first: int) -> None:
        for place in (out, home / "test"):
            part = place / f"part-{first // 32:05d}"
            part.mkdir(parents=True)
            (part / "done.json").write_text('{"instants": 25}')
            (part / f"by-{place.name}").touch()

    monkeypatch.setattr(amvur_stores, "folder_of", lambda name: home / name)
    monkeypatch.setattr(amvur_stores, "write_part", write)
    monkeypatch.setattr(amvur_stores, "InstantStore", lambda folder: folder)
    opened("test", quiet)
    assert [p.name for p in (home / "test").iterdir()] == ["part-00000"]
    assert (home / "test" / "part-00000" / "by-test").exists()
