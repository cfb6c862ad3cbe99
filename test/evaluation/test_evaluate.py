"""The whole of `hand-mesh evaluate`: files, registry, and the landmark backend on renders."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from hand_mesh_ros.cli_evaluate import evaluate
from hand_mesh_ros.evaluation import benchmarks
from hand_mesh_ros.evaluation.benchmarks import Benchmark, BenchmarkError, open_benchmark, thinned
from hand_mesh_ros.evaluation.evaluate import judge, read, write
from hand_mesh_ros.evaluation.official import from_ho3d
from hand_mesh_ros.evaluation.predict import with_mesh_joints
from hand_mesh_ros.evaluation.protocols import TABLES
from hand_mesh_ros.evaluation.published import published_rows, zero_predictor
from hand_mesh_ros.evaluation.records import Predictions, Truths, truths_of, zero_predictions
from hand_mesh_ros.evaluation.scores import score
from hand_mesh_ros.evaluation.submissions import SubmissionError, write_dexycb, write_ho3d
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import Camera, ImageArray, Side

Array = NDArray[np.float64]
app = typer.Typer()
app.command()(evaluate)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def truth(rng: np.random.Generator) -> tuple[Array, Array]:
    """Joints (5, 21, 3) and MANO-sized meshes (5, 778, 3), optical axes."""
    centre = [0.02, -0.03, 0.6]
    return rng.normal(0, 0.04, (5, 21, 3)) + centre, rng.normal(0, 0.04, (5, 778, 3)) + centre


@pytest.fixture
def folder(truth: tuple[Array, Array], tmp_path: Path) -> Path:
    """A folder with FreiHAND's truths of five hands."""
    for name, points in zip(("xyz", "verts"), truth, strict=True):
        (tmp_path / f"evaluation_{name}.json").write_text(json.dumps(points.tolist()))
    return tmp_path


def test_a_perfect_submission_scores_perfectly(folder: Path, truth: tuple[Array, Array]) -> None:
    file = folder / "pred.json"
    file.write_text(json.dumps([points.tolist() for points in truth]))
    code, text = run("freihand", "--root", folder, "--predictions", file, "--out", folder / "out")
    assert code == 0, text
    report = json.loads((folder / "out" / "scores.json").read_text())
    figures = report["figures"]
    assert figures["pa_mpjpe_mm"] < 1e-4 and figures["camera_mpvpe_mm"] < 1e-9
    assert figures["f5"] == 1.0 and figures["auc_j_camera"] == 1.0
    assert figures["auc_j"] > 0.994  # the first threshold is 0, and alignment rounds
    assert {row["method"] for row in report["published"]} >= {"HaMeR", "WiLoR", "AMVUR"}
    assert "WiLoR" in text and "PA-MPVPE" in text
    assert (folder / "out" / "curves.png").stat().st_size > 10_000
    with zipfile.ZipFile(folder / "out" / "pred.zip") as archive:
        assert archive.namelist() == ["pred.json"]
        np.testing.assert_allclose(json.loads(archive.read("pred.json"))[0], truth[0], atol=1e-6)
    with (folder / "out" / "samples.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 5 and float(rows[0]["pa_mpvpe_mm"]) < 1e-3


def test_zero_predictor_by_hand(folder: Path, truth: tuple[Array, Array]) -> None:
    """Its error is the distance to the camera; aligned, that to the hand's centre."""
    code, text = run("freihand", "--root", folder, "--backend", "zero", "--out", folder / "out")
    assert code == 0, text
    figures = json.loads((folder / "out" / "scores.json").read_text())["figures"]
    joints = truth[0]
    direct = np.linalg.norm(joints, axis=-1).mean()
    aligned = np.linalg.norm(joints - joints.mean(1, keepdims=True), axis=-1).mean()
    assert figures["camera_mpjpe_mm"] == pytest.approx(1e3 * direct, abs=1e-9)
    assert figures["pa_mpjpe_mm"] == pytest.approx(1e3 * aligned, abs=1e-9)
    assert figures["st_mpjpe_mm"] is None


@pytest.mark.parametrize("name", ["freihand", "ho3d"])
def test_published_zero_predictor(name: str, request: pytest.FixtureRequest) -> None:
    """Needs the benchmark's ground truth: HAND_MESH_FREIHAND_TRUTH or HAND_MESH_HO3D_TRUTH."""
    variable = f"HAND_MESH_{name.upper()}_TRUTH"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no folder with evaluation_xyz.json, evaluation_verts.json")
    benchmark = open_benchmark(name, Path(os.environ[variable]))
    found = score(zero_predictions(benchmark.truths), benchmark.truths).figures
    for figure, published in zero_predictor(name).items():
        # Published as cm to two places, F-scores to three.
        assert found[figure] == pytest.approx(published, abs=0.06 if "mm" in figure else 6e-4)


def test_ho3d_goes_out_in_its_own_order_and_axes(
    truth: tuple[Array, Array], tmp_path: Path
) -> None:
    joints, vertices = truth
    truths = Truths(tuple("abcde"), joints, vertices)
    write_ho3d(Predictions(joints, vertices), truths, tmp_path)
    content = json.loads((tmp_path / "pred.json").read_text())
    theirs = np.array(content[0])
    assert (theirs[..., 2] < 0).all()
    # HO3D: 1 index knuckle, 4 middle knuckle, 13 thumb's first, 16 its tip, 20 little finger's.
    for index, own in ((0, 0), (1, 5), (4, 9), (13, 1), (16, 4), (20, 20)):
        np.testing.assert_allclose(theirs[:, index], joints[:, own] * [1, -1, -1], atol=1e-6)
    np.testing.assert_allclose(from_ho3d(theirs), joints, atol=1e-6)
    with pytest.raises(SubmissionError, match="before the camera"):
        write_ho3d(Predictions(joints * -1, vertices), truths, tmp_path)
    with pytest.raises(SubmissionError, match="778"):
        write_ho3d(Predictions(joints, vertices[:, :100]), truths, tmp_path)


def test_dexycb_lines(truth: tuple[Array, Array], tmp_path: Path) -> None:
    joints = truth[0].copy()
    joints[1] = np.nan
    truths = Truths(("7", "12", "13", "14", "99"), truth[0])
    (path,) = write_dexycb(Predictions(joints), truths, tmp_path)
    lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    assert [c[0] for c in cells] == ["7", "12", "13", "14", "99"]
    assert {len(c) for c in cells} == {64}
    np.testing.assert_allclose(np.array(cells[0][1:], float), 1e3 * joints[0].ravel(), atol=1e-4)
    assert set(map(float, cells[1][1:])) == {0.0}
    with pytest.raises(SubmissionError, match="'a'"):
        write_dexycb(Predictions(joints[:1]), Truths(("a",), joints[:1]), tmp_path)


def test_what_is_wrong_is_named(folder: Path, truth: tuple[Array, Array]) -> None:
    for arguments, words in (
        (("nobody",), "unknown benchmark 'nobody': choose one of"),
        (("freihand",), "needs --root"),
        (("freihand", "--root", folder / "nowhere"), "no such folder"),
        (("freihand", "--root", folder), "without images"),
        (("freihand", "--root", folder, "--side", "up"), "--side up"),
        (("freihand", "--root", folder, "--predictions", folder / "x.json"), "no such file"),
    ):
        code, text = run(*arguments)
        assert code == 1 and words in text, text
    short = folder / "short.json"
    short.write_text(json.dumps([points[:3].tolist() for points in truth]))
    code, text = run("freihand", "--root", folder, "--predictions", short)
    assert code == 1 and "3 predictions for 5 samples" in text
    short.write_text("{")
    code, text = run("freihand", "--root", folder, "--predictions", short)
    assert code == 1 and "no JSON" in text
    (folder / "evaluation_verts.json").unlink()
    code, text = run("freihand", "--root", folder, "--backend", "zero")
    assert code == 1 and "evaluation_verts.json is missing" in text


def test_lost_hands_count_as_zeros_and_are_shown(truth: tuple[Array, Array]) -> None:
    joints, _ = truth
    predicted = joints + [0.01, 0.0, 0.0]
    predicted[2] = np.nan
    judged = judge(Benchmark("any", Truths(tuple("abcde"), joints)), "b", Predictions(predicted))
    assert judged.found is not None and len(judged.rows) == 2
    assert judged.found.figures["camera_mpjpe_mm"] == pytest.approx(10.0)
    lost = 1e3 * np.linalg.norm(joints[2], axis=-1).mean()
    assert judged.all.figures["camera_mpjpe_mm"] == pytest.approx((4 * 10.0 + lost) / 5)
    assert judged.all.figures["found"] == pytest.approx(0.8)


def test_arrays_with_everything(rng: np.random.Generator, tmp_path: Path) -> None:
    """A folder of arrays: pixels, visibility, covariances, time; all figures are there."""
    count = 40
    joints = np.cumsum(rng.normal(0, 0.003, (count, 21, 3)), axis=0) + [0, 0, 0.5]
    vertices = rng.normal(0, 0.04, (count, 100, 3)) + [0, 0, 0.5]
    np.savez(
        tmp_path / "truths.npz", joints=joints, vertices=vertices,
        uv=rng.normal(0, 50, (count, 21, 2)),
        visibility=rng.integers(0, 2, (count, 21)).astype(float), box_px=np.full(count, 120.0),
        visible_share=rng.uniform(0, 1, count), stamps=np.arange(count) / 30,
        sequence=np.repeat([0, 1], count // 2),
    )  # fmt: skip
    benchmark = open_benchmark("arrays", tmp_path)
    truths = benchmark.truths
    assert truths.uv is not None and truths.vertices is not None
    sigma = rng.uniform(0.002, 0.02, (count, 21, 1))
    noise = sigma * rng.normal(size=(count, 21, 3))
    np.savez(
        tmp_path / "mine.npz", joints=joints + noise, vertices=truths.vertices[:, :60],
        uv=truths.uv + rng.normal(0, 4, (count, 21, 2)),
        covariance=np.square(sigma)[..., None] * np.eye(3),
    )  # fmt: skip
    judged = judge(benchmark, "mine", read(tmp_path / "mine.npz", benchmark))
    figures = judged.all.figures
    assert figures["nees"] == pytest.approx(1.0, abs=0.15)
    assert figures["coverage_95"] == pytest.approx(0.95, abs=0.04)
    assert 0 < figures["pck_all_05"] < figures["pck_all_15"] <= 1
    assert figures["jitter"] > figures["jitter_true"] > 0
    assert figures["spearman"] > 0.3
    assert "f5" in figures and "pa_mpvpe_mm" not in figures  # another mesh
    files, notes = write(judged, tmp_path / "out")
    assert any("60 vertices" in note for note in notes)
    bins = json.loads((tmp_path / "out" / "scores.json").read_text())["by_visible_share"]
    assert sum(row["samples"] for row in bins.values()) == count
    fewer = thinned(benchmark, 7)
    assert len(fewer.truths) == 7 and fewer.truths.names[-1] == truths.names[-1]
    np.savez(tmp_path / "truths.npz", joints=joints, uw=joints)
    with pytest.raises(BenchmarkError, match="uw"):
        open_benchmark("arrays", tmp_path)


def test_pixels_are_enough_for_hint(rng: np.random.Generator, tmp_path: Path) -> None:
    """HInt has no joints in space; a joint out of the frame counts in no set."""
    uv = rng.uniform(0, 200, (30, 21, 2))
    visibility = rng.integers(0, 2, (30, 21)).astype(float)
    visibility[0, 4] = np.nan
    truths = Truths(
        tuple(map(str, range(30))), np.full((30, 21, 3), np.nan), uv=uv, visibility=visibility,
        box_px=np.full(30, 200.0),
    )  # fmt: skip
    off = np.where(visibility[..., None] > 0.5, [3.0, 4.0], [9.0, 12.0])  # 5 px and 15 px
    mine = Predictions(np.full((30, 21, 3), np.nan), uv=uv + off)
    benchmark = Benchmark("hint_newdays", truths, table="hint")
    judged = judge(benchmark, "mine", mine)
    figures = judged.all.figures
    assert figures["found"] == 1.0 and "mpjpe_mm" not in figures
    assert figures["pck_visible_05"] == 1.0 and figures["pck_occluded_05"] == 0.0
    assert figures["pck_occluded_10"] == 1.0
    counted = np.isfinite(visibility)
    visible = counted & (visibility > 0.5)
    assert figures["pck_all_05"] == pytest.approx((visible.sum(0) / counted.sum(0)).mean())
    files, notes = write(judged, tmp_path)
    assert not notes and all(path.is_file() for path in files)


def test_published_rows_fit_their_tables() -> None:
    for name, table in (("freihand", "freihand"), ("ho3d", "ho3d"), ("ho3d_v3", "ho3d"),
                        ("dexycb", "dexycb"), ("hint_newdays", "hint"), ("hint_visor", "hint"),
                        ("hint_ego4d", "hint")):  # fmt: skip
        rows = published_rows(name)
        assert rows, name
        columns = {column.figure for column in TABLES[table]}
        for row in rows:
            assert row.figures and set(row.figures) <= columns, (name, row)
            assert row.sure in ("paper", "abstract", "readme", "secondary", "unverified")
    # Papers' own consistency: AUC is 1 - mean / 50 mm while no error passes 5 cm.
    for row in published_rows("ho3d"):
        if "auc_j" in row.figures:
            rule = 1 - row.figures["pa_mpjpe_mm"] / 50
            assert row.figures["auc_j"] == pytest.approx(rule, abs=0.005), row.method
    assert published_rows("nothing") == ()


# --- The landmark backend on renders --------------------------------------------------------


@dataclass(frozen=True)
class Render:
    """A hand of a synthetic cell in one of its cameras."""

    cell: SyntheticCell
    instant: int
    index: int
    boxed: bool = True

    side: Side = "right"
    visibility = None
    visible_share = None
    counted = None
    placed = True

    @property
    def name(self) -> str:
        return f"{self.instant}-{self.index}"

    @property
    def camera(self) -> Camera:
        return self.cell.cameras[self.index]

    @property
    def image(self) -> ImageArray:
        return self.cell.frame_set(self.instant).frames[self.index].image

    @cached_property
    def joints(self) -> Array:
        world = self.cell.ground_truth(self.instant)[0].joints
        return transform_points(self.camera.T_camera_world, world)

    @cached_property
    def vertices(self) -> Array | None:
        world = self.cell.ground_truth(self.instant)[0].vertices
        return None if world is None else transform_points(self.camera.T_camera_world, world)

    @cached_property
    def uv(self) -> Array:
        return project(self.camera, self.cell.ground_truth(self.instant)[0].joints)

    @property
    def box(self) -> Array | None:
        return np.concatenate([self.uv.min(0), self.uv.max(0)]) if self.boxed else None

    @property
    def group(self) -> int:
        return self.instant

    @property
    def sequence(self) -> int:
        return self.index

    @property
    def stamp(self) -> float:
        return self.cell.time(self.instant)


def renders(_: Path | None) -> Benchmark:
    cell = SyntheticCell(cameras=2, seconds=3.0, fps=5.0, seed=3)
    samples = [Render(cell, t, c, boxed=t % 2 == 0) for c in range(2) for t in range(0, 8, 2)]
    return Benchmark("renders", truths_of(samples), samples)


@pytest.fixture
def networks() -> None:
    from hand_mesh_ros.perception.build import build_observer

    try:
        build_observer()
    except (AssetError, FileNotFoundError) as error:
        pytest.skip(f"no landmark networks: {error}")


def test_landmarks_on_renders(
    networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmarks.BENCHMARKS, "renders", f"{__name__}:renders")
    monkeypatch.setattr(benchmarks, "WITHOUT_FOLDER", {"renders"})
    figures = {}
    for views in ("one", "all", "others"):
        out = tmp_path / views
        code, text = run("renders", "--views", views, "--out", out)
        assert code == 0, text
        report = json.loads((out / "scores.json").read_text())
        figures[views] = report["figures_of_found"] or report["figures"]
        assert report["figures"]["found"] >= 0.75
        assert report["figures"]["samples"] == 8
    assert figures["one"]["pa_mpjpe_mm"] < 20.0
    assert figures["one"]["pck_all_15"] > 0.7
    # Two cameras know the distance, one only guesses it.
    assert figures["all"]["camera_mpjpe_mm"] < figures["one"]["camera_mpjpe_mm"]
    assert figures["all"]["camera_mpjpe_mm"] < 30.0
    # What the other camera says of this one is worse than what both say.
    assert figures["others"]["error_px"] > figures["all"]["error_px"]


def test_joints_of_the_mesh_are_the_benchmarks(rng: np.random.Generator) -> None:
    """FreiHAND's rule: the regressor on posed vertices, then vertices 744, 320, 443, 555, 672."""
    free = load_hand_model(None)
    regressor = rng.dirichlet(np.ones(778), 16)
    mano = replace(
        free, v_template=np.zeros((778, 3)), J_regressor=regressor,
        shapedirs=np.zeros((778, 3, 10)), posedirs=np.zeros((135, 2334)),
        lbs_weights=np.full((778, 16), 1 / 16), faces=np.array([[0, 1, 2]]),
        tips=np.arange(5), uv=None, uv_faces=None, albedo=None,
    )  # fmt: skip
    mesh = rng.normal(size=(2, 778, 3))
    made = with_mesh_joints(Predictions(np.zeros((2, 21, 3)), mesh), mano, "freihand").joints
    np.testing.assert_allclose(made[1, 0], regressor[0] @ mesh[1])
    np.testing.assert_allclose(made[1, 5], regressor[1] @ mesh[1])  # index knuckle
    np.testing.assert_allclose(made[1, 17], regressor[7] @ mesh[1])  # little finger's
    np.testing.assert_array_equal(made[1, [4, 8, 12, 16, 20]], mesh[1, [744, 320, 443, 555, 672]])
    with pytest.raises(ValueError, match="778"):
        with_mesh_joints(Predictions(made, mesh), free, "freihand")
    with pytest.raises(ValueError, match="unknown joints 'fingers'"):
        with_mesh_joints(Predictions(made, mesh), mano, "fingers")


def test_an_unreadable_image_is_named(networks: None) -> None:
    from hand_mesh_ros.evaluation.evaluate import predictions_of
    from hand_mesh_ros.evaluation.predict import PredictSettings

    @dataclass(frozen=True)
    class Broken(Render):
        @property
        def image(self) -> ImageArray:
            raise FileNotFoundError("rgb/00000007.jpg is not there")

    benchmark = renders(None)
    sample = Broken(SyntheticCell(cameras=1, seconds=1.0), 0, 0)
    broken = replace(benchmark, samples=[sample], truths=truths_of([sample]))
    with pytest.raises(BenchmarkError, match="0-0: rgb/00000007.jpg"):
        predictions_of(broken, "landmarks", PredictSettings(), lambda *_: None)
