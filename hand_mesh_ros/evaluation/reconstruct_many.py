"""A folder of recordings through the pipeline: one result file each, whatever happens.

The folder of results holds `results/NAME.json` for each recording that is finished, well or not;
`recordings/NAME/` with what `reconstruct` writes for those that went well; `summary.json`; and
`settings.json`. A result file is written last and at once, so that a run that was killed goes on
with the recordings that have none. Every recording has a pipeline of its own: results do not
depend on order or on who made them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hand_mesh_ros.data.recordings import (
    BAG_SUFFIXES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    with_suffix,
)

Progress = Callable[[int, int, str], None]
_log = logging.getLogger(__name__)
# What a recording can be blamed for; anything else is told with its traceback.
_EXPECTED = (ValueError, OSError)
_WHERE = ("runtime", "device", "num_threads", "network_device")


@dataclass(frozen=True)
class ManySettings:
    """How each recording is reconstructed; as the options of `hand-mesh reconstruct`.

    `runtime`, `device`, `num_threads` and `network_device` say where networks run and are no part
    of the result.
    """

    backend: str = "landmarks"
    max_hands: int = 2
    hand_model: Path | None = None
    shape: Path | None = None
    calibration: Path | None = None
    unit_m: float | None = None
    video: bool = False
    runtime: str = "litert"
    device: str = "cpu"
    num_threads: int = 2
    checkpoint: Path | None = None
    network_device: str = "cpu"
    jitter: int = 0
    precision: str = "auto"

    def plain(self) -> dict[str, Any]:
        """What decides the result, as JSON has it."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if k not in _WHERE}


@dataclass(frozen=True)
class Result:
    """How a recording ended; `reason` of a failure, `report` of a success."""

    name: str
    source: str
    status: Literal["done", "failed"]
    seconds: float = 0.0
    reason: str | None = None
    trace: str | None = None
    report: dict[str, Any] | None = None


Run = Callable[[Sequence[Path], ManySettings, Path], Iterable[Result]]
"""Reconstructs recordings, in any order, one `reconstruct_one` each, and gives their results."""


def reconstruct_many(
    folder: Path,
    out: Path,
    settings: ManySettings,
    run: Run | None = None,
    *,
    retry: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Reconstruct what is not yet done of a folder; returns the summary that is also written.

    `run` says where (default: here, one after the other). `retry`: what failed before is tried
    again. Raises ValueError if there is nothing to reconstruct, or `out` was made with other
    settings.
    """
    own = out.resolve()
    recordings = [p for p in find_recordings(folder) if not own.is_relative_to(p.resolve())]
    if not recordings:
        raise ValueError(f"{folder}: no recordings in it (folders, videos or bags)")
    _check_settings(out, settings)
    before = {path.name: read_result(out, path.name) for path in recordings}
    for name, result in list(before.items()):
        if retry and result is not None and result.status == "failed":
            _result_file(out, name).unlink()
            before[name] = None
    todo = [path for path in recordings if before.get(path.name) is None]
    say = progress or (lambda done, total, what: None)
    done = len(recordings) - len(todo)
    say(done, len(recordings), "reconstructing")
    for result in (run or one_by_one)(todo, settings, out) if todo else ():
        done += 1
        if result.status == "failed":
            _log.info("%s failed: %s", result.source, result.reason)
        say(done, len(recordings), result.name)
    return _summarise(recordings, out)


def find_recordings(folder: Path) -> list[Path]:
    """The recordings directly in a folder: bags, videos, and folders of whatever kind.

    Hidden ones are left out. Raises ValueError if it is no folder, or is itself one recording.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder of recordings")
    marks = ("metadata.yaml", "camera_array.toml", "c0.dat")
    if any((folder / mark).exists() for mark in marks) or with_suffix(folder, IMAGE_SUFFIXES):
        raise ValueError(f"{folder} is one recording: leave out --each, or give its parent")
    files = {*VIDEO_SUFFIXES, *BAG_SUFFIXES}
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in files)
    )


def one_by_one(recordings: Sequence[Path], settings: ManySettings, out: Path) -> Iterator[Result]:
    """Here, in this process."""
    return (reconstruct_one(path, settings, out) for path in recordings)


def reconstruct_one(source: Path, settings: ManySettings, out: Path) -> Result:
    """Reconstruct one recording and write its result file; what goes wrong is in the result."""
    from hand_mesh_ros.data.recordings import open_recording
    from hand_mesh_ros.evaluation.reconstruct import reconstruct
    from hand_mesh_ros.perception.build import build_pipeline
    from hand_mesh_ros.perception.estimate import NetworkOptions
    from hand_mesh_ros.perception.pipeline import PipelineSettings

    begin = time.perf_counter()
    scratch, final = out / ".unfinished" / source.name, out / "recordings" / source.name
    report, reason, trace = None, None, None
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        recording = open_recording(source, unit_m=settings.unit_m, calibration=settings.calibration)
        pipeline, models = build_pipeline(
            backend=settings.backend,
            network=NetworkOptions(
                settings.checkpoint,
                settings.network_device,
                settings.jitter,
                precision=settings.precision,
            ),
            hand_model=settings.hand_model,
            runtime=settings.runtime,
            device=settings.device,
            num_threads=settings.num_threads,
            pipeline=PipelineSettings(max_hands=settings.max_hands),
            shape=settings.shape,
        )
        report = reconstruct(recording, pipeline, models, scratch, settings.video, _silent)
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(scratch, final)
    # One broken recording must not end the work on thousands: whatever it was is written down.
    except Exception as error:
        report, reason = None, f"{type(error).__name__}: {error}"
        trace = None if isinstance(error, _EXPECTED) else traceback.format_exc()
        shutil.rmtree(scratch, ignore_errors=True)
    seconds = round(time.perf_counter() - begin, 2)
    status: Literal["done", "failed"] = "done" if reason is None else "failed"
    result = Result(source.name, str(source), status, seconds, reason, trace, report)
    write_result(out, result)
    return result


def write_result(out: Path, result: Result) -> None:
    """`results/NAME.json`, whole or not at all."""
    _write(_result_file(out, result.name), asdict(result))


def read_result(out: Path, name: str) -> Result | None:
    """The result of a recording, if it is finished; ValueError for a file that is none."""
    path = _result_file(out, name)
    if not path.is_file():
        return None
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a result ({error}): delete it") from error


def _result_file(out: Path, name: str) -> Path:
    return out / "results" / f"{name}.json"


def _summarise(recordings: Sequence[Path], out: Path) -> dict[str, Any]:
    results = [read_result(out, path.name) for path in recordings]
    failed = {r.name: r.reason for r in results if r is not None and r.status == "failed"}
    summary = {
        "recordings": len(recordings),
        "done": sum(r is not None and r.status == "done" for r in results),
        "failed": len(failed),
        "seconds": round(sum(r.seconds for r in results if r is not None), 1),
        "failures": failed,
    }
    _write(out / "summary.json", summary)
    return summary


def _check_settings(out: Path, settings: ManySettings) -> None:
    path, now = out / "settings.json", settings.plain()
    if not path.is_file():
        _write(path, now)
        return
    before = json.loads(path.read_text())
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{out} holds results with {key} {before.get(key)}, not {now.get(key)}: choose "
                "another --out, or the same options"
            )


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(scratch, path)


def _silent(done: int, total: int, what: str) -> None:
    """Of a recording's own progress nothing is shown."""
