"""Cameras and edge node in one network namespace, fusion in another, a bad network between them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.ros.environment import child_environment

HERE = Path(__file__).parent


def _lossy_link() -> ModuleType:
    """lossy_link.py, by its path: tests are no package."""
    spec = importlib.util.spec_from_file_location("lossy_link", HERE / "lossy_link.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lossy_link = _lossy_link()
WHY_NOT = lossy_link.unavailable()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "available")]

CAMERAS = ["camera_0", "camera_1"]
EDGE = {"cameras": CAMERAS, "num_threads": 1, "max_hands": 1}
FUSION = {
    "cameras": CAMERAS,
    "num_threads": 1,
    "max_hands": 1,
    "sync": {"max_wait": 0.15},
    "camera": {
        name: {"observations_topic": f"/hand_edge_node/observations/{name}"} for name in CAMERAS
    },
}
DELAY, JITTER, LOSS = 0.020, 0.010, 0.02
# What a busy machine may add to anything; the solver may have to be compiled first.
PATIENCE = 120.0


class Machines:
    """Two machines: cameras with their edge node, and fusion with one who listens."""

    def __init__(self, link: Any, folder: Path) -> None:
        self.link, self._folder = link, folder
        self._stamps, self._lines = folder / "stamps", folder / "lines"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._start(1, "listener", str(HERE / "link_listener.py"), str(self._lines))
        self._start(1, "fusion", "-m", "hand_mesh_ros.ros.hand_mesh_node", parameters=FUSION)
        self._start(0, "edge", "-m", "hand_mesh_ros.ros.edge_node", parameters=EDGE)
        self._start(0, "player", str(HERE / "link_player.py"), str(self._stamps))

    def _start(self, side: int, name: str, *command: str, parameters: Any = None) -> None:
        if parameters is not None:
            file = self._folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
            command = (*command, "--ros-args", "--params-file", str(file))
        environment = child_environment(7) | {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
            "OMP_NUM_THREADS": "1",
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*self.link.inside(side), sys.executable, *command],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def played(self) -> set[int]:
        """Capture times so far."""
        return {int(line) for line in self._stamps.read_text().split("\n")[:-1]}

    def heard(self) -> list[dict[str, Any]]:
        """All answers so far, as they came."""
        return [line for line in self._all() if "stamp_ns" in line]

    def warnings(self) -> list[str]:
        """What diagnostics complained of so far."""
        return [f"{line['name']}: {line['message']}" for line in self._all() if "name" in line]

    def _all(self) -> list[dict[str, Any]]:
        if not self._lines.exists():
            return []
        return [json.loads(line) for line in self._lines.read_text().split("\n")[:-1]]

    def until(self, done: Callable[[], Any], what: str) -> Any:
        """Wait for ``done()`` and return it."""
        end = time.monotonic() + PATIENCE
        while not (result := done()):
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended:\n{self.log(name)}"
            if time.monotonic() > end:
                logs = "\n".join(f"{n}:\n{self.log(n)[-2000:]}" for n in self.processes)
                pytest.fail(f"waited {PATIENCE:g} s for {what}; {self.link.counts}\n{logs}")
            time.sleep(0.05)
        return result

    def hands(self, count: int) -> list[dict[str, Any]]:
        """The next ``count`` answers with a hand that both cameras saw."""
        start = len(self.heard())

        def found() -> list[dict[str, Any]]:
            answers = [m for m in self.heard()[start:] if m["hands"] and m["views"] == CAMERAS]
            return answers[:count] if len(answers) >= count else []

        return list(self.until(found, f"{count} hands"))

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def machines(
    landmark_networks: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    with lossy_link.LossyLink(0.0, 0.0, 0.0, seed=os.getpid()) as link:
        made = Machines(link, tmp_path_factory.mktemp("machines"))
        try:
            yield made
        finally:
            made.end()


def median_latency(answers: list[dict[str, Any]]) -> float:
    return float(np.median([m["latency"] for m in answers]))


def test_hands_come_over_a_bad_network(machines: Machines) -> None:
    """Late, by what the network takes, but with the capture times of the cameras, in order."""
    machines.hands(5)
    good = median_latency(machines.hands(30))
    link = machines.link
    link.delay, link.jitter, link.loss = DELAY, JITTER, LOSS
    machines.hands(5)
    before, start = link.counts.copy(), time.monotonic()
    first = len(machines.heard())
    answers = machines.hands(60)
    seconds = time.monotonic() - start
    every = machines.heard()[first:]
    stamps = [m["stamp_ns"] for m in every]
    assert stamps == sorted(set(stamps))
    assert set(stamps) <= machines.played()
    rate = (link.counts["bytes"] - before["bytes"]) / seconds
    both = np.mean([m["views"] == CAMERAS for m in every])
    print(
        f"latency {1e3 * good:.0f} ms, with {1e3 * DELAY:.0f} ms of delay, {1e3 * JITTER:.0f} ms "
        f"of jitter and {100 * LOSS:.0f} % loss {1e3 * median_latency(answers):.0f} ms; "
        f"{100 * both:.0f} % of the sets have both cameras; {1e-3 * rate:.1f} kB/s on the link"
    )
    assert link.counts["lost"] > before["lost"]
    # No image crosses the network: they would be 4.6 MB/s.
    assert rate < 100e3
    assert both > 0.8


def test_a_cut_of_two_seconds_is_survived(machines: Machines) -> None:
    """Nothing is heard meanwhile; afterwards all is as before, and the silence has been told."""
    machines.hands(3)
    machines.link.cut = True
    time.sleep(0.5)  # what was under way
    before = machines.heard()
    cut_from = max(m["stamp_ns"] for m in before)
    time.sleep(2.0)
    assert len(machines.heard()) == len(before)
    mended = time.monotonic()
    machines.link.cut = False
    machines.hands(1)
    print(f"hands {time.monotonic() - mended:.2f} s after the cut")
    machines.hands(30)
    after = [m["stamp_ns"] for m in machines.heard() if m["stamp_ns"] > cut_from]
    assert after == sorted(set(after))
    assert set(after) <= machines.played()
    assert machines.link.counts["cut"] > 0
    told = [w for w in machines.warnings() if w.startswith("hand_mesh_node: camera")]
    assert any("nothing on /hand_edge_node/observations/camera_0" in w for w in told)
    assert not any("synchronised" in w for w in machines.warnings())


def test_all_end_well(machines: Machines) -> None:
    machines.end()
    for name, process in machines.processes.items():
        assert process.returncode == 0, machines.log(name)
        assert "Traceback" not in machines.log(name), machines.log(name)
