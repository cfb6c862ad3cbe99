"""A folder of recordings, some broken: one result each, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hand_mesh_ros.evaluation.on_ray import OnRay
from hand_mesh_ros.evaluation.reconstruct_many import (
    ManySettings,
    Result,
    find_recordings,
    one_by_one,
    read_result,
    reconstruct_many,
    reconstruct_one,
)
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.render.sheet import write_image

GOOD = ("a_good", "d_good")
BROKEN = {
    "b_empty": "BadRecording: .*nothing that can be played",
    "c_broken.mp4": "BadRecording: .*c_broken.mp4",
    "e_broken_image": "00.png",
}
SETTINGS = ManySettings(num_threads=1)


@pytest.fixture(scope="module", autouse=True)
def networks() -> None:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of two pictures each, three broken ones, and files that are none."""
    from hand_mesh_ros.render.synthetic import SyntheticCell

    folder = tmp_path_factory.mktemp("archive")
    for seed, name in enumerate(GOOD):
        cell = SyntheticCell(1, ("right",), 0.2, 10.0, seed, 320, 240)
        (folder / name).mkdir()
        for k in range(2):
            write_image(folder / name / f"{k:02d}.png", cell.frame_set(k).frames[0].image)
    (folder / "b_empty").mkdir()
    (folder / "c_broken.mp4").write_bytes(b"no video")
    (folder / "e_broken_image").mkdir()
    (folder / "e_broken_image" / "00.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no recording")
    (folder / ".hidden").mkdir()
    return folder


def _check(summary: dict, out: Path) -> None:
    assert (summary["recordings"], summary["done"], summary["failed"]) == (5, 2, 3)
    assert summary == json.loads((out / "summary.json").read_text())
    names = sorted(path.name for path in (out / "results").iterdir())
    assert names == sorted(f"{name}.json" for name in (*GOOD, *BROKEN))
    for name in GOOD:
        result = read_result(out, name)
        assert result is not None and result.status == "done" and result.report is not None
        lines = (out / "recordings" / name / "hands.jsonl").read_text().splitlines()
        assert len(lines) == 2
        assert all(len(json.loads(line)["hands"]) == 1 for line in lines)
    assert list(summary["failures"]) == list(BROKEN)
    for name, reason in summary["failures"].items():
        assert re.search(BROKEN[name], reason), reason
    assert sorted(p.name for p in (out / "recordings").iterdir()) == list(GOOD)


def _never(recordings: Sequence[Path], settings: ManySettings, out: Path) -> Iterator[Result]:
    raise AssertionError(f"nothing was left to do, but {recordings}")


def test_only_recordings_are_found(archive: Path) -> None:
    assert [path.name for path in find_recordings(archive)] == sorted((*GOOD, *BROKEN))
    with pytest.raises(ValueError, match="is one recording: leave out --each"):
        find_recordings(archive / "a_good")
    with pytest.raises(ValueError, match="not a folder"):
        find_recordings(archive / "notes.txt")


def test_one_result_each_and_a_second_run_does_nothing(archive: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = reconstruct_many(
        archive, tmp_path, SETTINGS, progress=lambda done, total, what: seen.append((done, total))
    )
    _check(summary, tmp_path)
    assert seen == [(k, 5) for k in range(6)]
    assert reconstruct_many(archive, tmp_path, SETTINGS, _never) == summary


def test_results_do_not_depend_on_the_order(archive: Path, tmp_path: Path) -> None:
    for out, order in (("a", GOOD), ("b", GOOD[::-1])):
        for name in order:
            assert reconstruct_one(archive / name, SETTINGS, tmp_path / out).status == "done"
    for name in GOOD:
        a, b = (tmp_path / out / "recordings" / name / "hands.jsonl" for out in "ab")
        assert a.read_text() == b.read_text()


def test_what_failed_is_tried_again_only_when_asked(archive: Path, tmp_path: Path) -> None:
    reconstruct_many(archive, tmp_path, SETTINGS)
    tried: list[str] = []

    def note(recordings: Sequence[Path], settings: ManySettings, out: Path) -> Iterator[Result]:
        tried.extend(path.name for path in recordings)
        return one_by_one(recordings, settings, out)

    _check(reconstruct_many(archive, tmp_path, SETTINGS, note, retry=True), tmp_path)
    assert tried == list(BROKEN)


def test_other_settings_need_another_folder(archive: Path, tmp_path: Path) -> None:
    reconstruct_many(archive, tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="max_hands 2, not 1: choose another --out"):
        reconstruct_many(archive, tmp_path, ManySettings(max_hands=1))
    # how many threads work is no part of the result
    reconstruct_many(archive, tmp_path, ManySettings(num_threads=2), _never)


def test_results_may_lie_in_the_folder_itself(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for _ in range(2):
        summary = reconstruct_many(tmp_path, tmp_path / "out" / "deep", SETTINGS)
        assert list(summary["failures"]) == ["one"]


_DIE = """
import os, signal, sys
from pathlib import Path
from hand_mesh_ros.evaluation import reconstruct, reconstruct_many as many
here = many.os.replace
def die(source, target):
    if "d_good" in str(source) and "results" not in str(target):
        os.kill(os.getpid(), signal.SIGKILL)  # all is written but not yet in its place
    here(source, target)
many.os.replace = die
many.reconstruct_many(Path(sys.argv[1]), Path(sys.argv[2]), many.ManySettings(num_threads=1))
"""


def test_a_killed_run_is_gone_on_with(archive: Path, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    died = subprocess.run(
        [sys.executable, "-c", _DIE, archive, tmp_path],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert read_result(tmp_path, "d_good") is None
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    assert set(before) == {"a_good.json", "b_empty.json", "c_broken.mp4.json"}
    _check(reconstruct_many(archive, tmp_path, SETTINGS), tmp_path)
    for name, stamp in before.items():
        assert (tmp_path / "results" / name).stat().st_mtime_ns == stamp


@pytest.fixture
def ray_here() -> Iterator[None]:
    """A Ray of two cores of this machine, which is gone afterwards."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_on_ray_as_in_process(archive: Path, tmp_path: Path, ray_here: None) -> None:
    _check(reconstruct_many(archive, tmp_path / "ray", SETTINGS, OnRay()), tmp_path / "ray")
    reconstruct_many(archive, tmp_path / "here", SETTINGS)
    for name in GOOD:
        a, b = (tmp_path / out / "recordings" / name / "hands.jsonl" for out in ("ray", "here"))
        assert a.read_text() == b.read_text()


@pytest.mark.slow
def test_an_actor_that_dies_costs_one_recording(
    archive: Path, tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hand_mesh_ros.evaluation import on_ray

    class Mortal(on_ray._Worker):
        """Dies of one recording, as of a crash in a decoder."""

        def run(self, source: Path, settings: ManySettings, out: Path) -> Result:
            if source.name == "a_good":
                os._exit(1)
            return super().run(source, settings, out)

    monkeypatch.setattr(on_ray, "_Worker", Mortal)
    summary = reconstruct_many(archive, tmp_path, SETTINGS, OnRay(workers=1))
    assert (summary["done"], summary["failed"]) == (1, 4)
    assert "the worker died" in summary["failures"]["a_good"]
