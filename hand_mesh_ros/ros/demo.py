"""The demo: real nodes as processes on a private domain, recorded, measured, and shown."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hand_mesh_ros.data.recordings import open_recording
from hand_mesh_ros.ros.environment import child_environment
from hand_mesh_ros.types import Camera

NODE, CELL = "hand_mesh_node", "camera_cell_node"
Progress = Callable[[int, int, str], None]


class DemoFailed(RuntimeError):
    """The demo could not run; the text says which process and where its log is."""


@dataclass(frozen=True)
class DemoOptions:
    """``recording`` None plays the synthetic cell."""

    out: Path
    recording: Path | None = None
    pace: str = "lockstep"
    cameras: int = 4
    hands: tuple[str, ...] = ("right", "left")
    seconds: float = 6.0
    seed: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    """What will be played: its cameras' names, its length and the spread of its sets."""

    name: str
    cameras: tuple[Camera, ...]
    sets: int
    max_spread: float
    parameters: dict[str, Any]


def run_demo(options: DemoOptions, progress: Progress) -> dict[str, Any]:
    """Play, record, measure, draw; returns the report that is also in ``out``.

    Raises :class:`DemoFailed` if a process cannot start or nothing was recorded.
    """
    out = options.out
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    source = _source(options)
    _write_parameters(out / "parameters.yaml", source, options)
    domain = random.SystemRandom().randrange(1, 100)
    os.environ.update(
        {k: v for k, v in child_environment(domain).items() if k.startswith(("ROS_", "FAST"))}
    )
    recorder, died, wall = _play(out, source, domain, progress)

    from hand_mesh_ros.ros.demo_report import read_run, report_of, sheet_of

    run = read_run(out / "hands.mcap")
    if not run.steps:
        raise DemoFailed(f"no message on ~/hands; see {out}/logs")
    report = report_of(run, recorder, source.name, source.sets, wall)
    report["processes_died"] = died
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    progress(source.sets, source.sets, "drawing the contact sheet")
    sheet_of(run, out / "sheet.png", f"hand_mesh_ros: {source.name}")
    return report


def _source(options: DemoOptions) -> _Source:
    if options.recording is None:
        from hand_mesh_ros.render.synthetic import SyntheticCell

        sides: Any = tuple(options.hands)
        cell = SyntheticCell(
            options.cameras, sides, options.seconds, fps=15.0, seed=options.seed
        )
        parameters = {
            "source": "synthetic",
            "synthetic.cameras": options.cameras,
            "synthetic.hands": list(options.hands),
            "synthetic.seconds": options.seconds,
            "synthetic.seed": options.seed,
        }
        return _Source(cell.name, cell.cameras, len(cell), 0.02, parameters)
    recording = open_recording(options.recording)
    # Cameras that free-run are up to half a period apart; more would mix instants.
    spread = min(max(0.02, 0.45 / recording.fps), 0.1)
    path = str(options.recording.resolve())
    return _Source(recording.name, recording.cameras, len(recording), spread, {"source": path})


def _write_parameters(path: Path, source: _Source, options: DemoOptions) -> None:
    names = [camera.name for camera in source.cameras]
    node: dict[str, Any] = {
        "cameras": names,
        "sync.max_spread": float(source.max_spread),
        "output_frame": "world",
        **{f"camera.{name}.reliability": "reliable" for name in names},
        **options.parameters,
    }
    # Two: hand_mesh_node and the recorder, which must not miss the first capture time.
    cell = {**source.parameters, "pace": options.pace, "info_subscribers": 2}
    parameters = {NODE: {"ros__parameters": node}, CELL: {"ros__parameters": cell}}
    path.write_text(yaml.safe_dump(parameters, sort_keys=False))


def _start(module: str, out: Path, domain: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"hand_mesh_ros.ros.{module}", "--ros-args"]
    command += ["--params-file", str(out / "parameters.yaml")]
    log = (out / "logs" / f"{module}.log").open("wb")
    return subprocess.Popen(command, env=child_environment(domain), stdout=log, stderr=log)


def _play(
    out: Path, source: _Source, domain: int, progress: Progress
) -> tuple[Any, list[str], float]:
    """Run both nodes to the end of the source; returns the recorder, who died, and the seconds."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from hand_mesh_ros.ros.recorder import TopicRecorder

    rclpy.init(domain_id=domain)
    observer = rclpy.create_node("demo")
    # Raw overlays are the compressed ones over again: a few show that they work.
    few = {f"/overlay/{camera.name}": 2 for camera in source.cameras}
    recorder = TopicRecorder(observer, out / "recording", few, skip=("/image_raw",))
    # A thread of its own, so that nothing that is drawn or scanned here costs a message.
    executor = SingleThreadedExecutor()
    executor.add_node(observer)
    spinning = threading.Thread(target=executor.spin, name="demo_recorder", daemon=True)
    spinning.start()
    processes = {NODE: _start(NODE, out, domain)}
    died: list[str] = []
    try:
        _await_node(observer, processes[NODE], out)
        processes[CELL] = _start(CELL, out, domain)
        begin = time.monotonic()
        while processes[CELL].poll() is None:
            recorder.subscribe((NODE, CELL))
            done = recorder.counts[f"/{NODE}/hands"]
            progress(done, source.sets, "reconstructing" if done else "starting")
            time.sleep(0.2)
            if processes[NODE].poll() is not None:
                raise DemoFailed(f"{NODE} ended; see {out}/logs/{NODE}.log")
        wall = time.monotonic() - begin
        time.sleep(1.0)
    finally:
        for name, process in processes.items():
            if not _end(process):
                died.append(name)
        executor.shutdown()
        spinning.join(5.0)
        recorder.close(out / "hands.mcap")
        observer.destroy_node()
        rclpy.try_shutdown()
    return recorder, died, wall


def _await_node(observer: Any, process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until hand_mesh_node publishes; raises :class:`DemoFailed` if it does not."""
    end = time.monotonic() + 90
    while observer.count_publishers(f"/{NODE}/hands") == 0:
        if process.poll() is not None or time.monotonic() > end:
            log = out / "logs" / f"{NODE}.log"
            lines = log.read_text(errors="replace").strip().splitlines()
            told = "\n".join(lines[-8:])
            raise DemoFailed(f"{NODE} did not start; the end of {log}:\n{told}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> bool:
    """End a process with SIGINT if it runs; whether it ended well."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
    return process.returncode == 0
