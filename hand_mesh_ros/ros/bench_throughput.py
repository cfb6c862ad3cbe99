"""How many frame sets a second the whole node makes hands of, and how old these are.

Four raw cameras of 1280x720 at 30 Hz in a process of their own, `hand_mesh_node` in another, and
this one listening to hands, TF and markers: all on the same cores, over DDS.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hand_mesh_ros.ros.bench_player import draw
from hand_mesh_ros.ros.environment import child_environment
from hand_mesh_ros.types import Side

Progress = Callable[[int, int, str], None]
_CAMERAS, _WIDTH, _HEIGHT, _RATE = 4, 1280, 720, 30.0
_SETS, _WARM_UP, _SECONDS = 20, 5.0, 15.0
_PATIENCE = 90.0  # s, until the first hands come
_NODES = {
    "": "hand_mesh_ros.ros.hand_mesh_node",
    # Every image searched whole, every landmark triangulated by itself.
    "naive_": "hand_mesh_ros.ros.bench_naive_node",
}


def measure(progress: Progress, backends: Sequence[str] = ()) -> dict[str, float]:
    """Sets a second, latency and shares, for one and two hands, and for the naive way.

    With ``backends``, of each of them beside the landmark backend, for one hand, and no more.
    """
    if backends:
        return _measure_backends(progress, ("landmarks", *backends))
    runs: list[tuple[str, tuple[Side, ...], str]] = [
        ("", ("right",), ""),
        ("naive_", ("right",), ""),
        ("", ("right", "left"), "_two_hands"),
    ]
    found: dict[str, float] = {}
    for number, (way, hands, suffix) in enumerate(runs):
        what = f"{way.rstrip('_') or 'node'}, {len(hands)} hand(s)"
        progress(number, len(runs), f"{what}: drawing")
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder), _CAMERAS, hands, _SETS, _WIDTH, _HEIGHT)
            progress(number, len(runs), f"{what}: playing")
            run = _run(Path(folder), _NODES[way], len(hands))
        if way:
            found["naive_sets_per_s"] = run["sets_per_s"]
            found["naive_latency_ms"] = run["latency_ms"]
        else:
            found |= {f"cell_{name}{suffix}": value for name, value in run.items()}
    return found


def _measure_backends(progress: Progress, backends: Sequence[str]) -> dict[str, float]:
    runs: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        progress(0, len(backends), "drawing")
        draw(Path(folder), _CAMERAS, ("right",), _SETS, _WIDTH, _HEIGHT)
        for number, backend in enumerate(dict.fromkeys(backends)):
            progress(number, len(backends), f"{backend}: playing")
            runs[backend] = _run(Path(folder), _NODES[""], 1, backend)
    return beside_the_first(runs)


def beside_the_first(runs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The figures of every backend by its name, and how many of the first one's sets it makes."""
    baseline = next(iter(runs))
    found: dict[str, float] = {}
    for backend, run in runs.items():
        name = backend.replace("-", "_")
        found |= {f"{name}_cell_{key}": value for key, value in run.items()}
        if backend != baseline:
            ratio = run["sets_per_s"] / max(runs[baseline]["sets_per_s"], 1e-9)
            found[f"{name}_cell_sets_of_{baseline}"] = round(ratio, 3)
    return found


def _run(
    folder: Path, module: str, hands: int, backend: str = "landmarks"
) -> dict[str, float]:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from tf2_msgs.msg import TFMessage
    from visualization_msgs.msg import MarkerArray

    from hand_mesh_ros.msg import HandArray

    domain = random.SystemRandom().randrange(1, 100)
    names = [f"camera_{i}" for i in range(_CAMERAS)]
    parameters = {
        "cameras": names,
        "output_frame": "world",
        "max_hands": hands,
        "backend": backend,
    }
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    environment = child_environment(domain)
    os.environ.update({k: v for k, v in environment.items() if k.startswith(("ROS_", "FAST"))})
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("bench", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard: dict[str, list[Any]] = {"hands": [], "tf": [], "markers": [], "diagnostics": []}
    # What is only counted stays serialised: making Python objects of a mesh marker's 20,000 points
    # would cost the cores that are measured more than the node's own publishing.
    for topic, kind, key, raw in (
        ("/hand_mesh_node/hands", HandArray, "hands", False),
        ("/tf", TFMessage, "tf", True),
        ("/hand_mesh_node/markers", MarkerArray, "markers", True),
        ("/diagnostics", DiagnosticArray, "diagnostics", False),
    ):
        node.create_subscription(kind, topic, heard[key].append, 10, raw=raw)

    def spin(seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done():
            executor.spin_once(timeout_sec=0.05)

    with ExitStack() as running, (folder / "log").open("wb") as log:
        commands = {
            "node": [module, "--ros-args", "--params-file", str(file)],
            "player": ["hand_mesh_ros.ros.bench_player", str(folder), str(_RATE)],
        }
        processes = {
            name: subprocess.Popen(
                [sys.executable, "-m", *command], env=environment, stdout=log, stderr=log
            )
            for name, command in commands.items()
        }
        for process in processes.values():
            running.callback(_end, process)
        spin(_PATIENCE, lambda: sum(bool(m.hands) for m in heard["hands"]) > 5 or _ended(processes))
        if _ended(processes):
            raise RuntimeError(f"a process of the bench ended:\n{(folder / 'log').read_text()}")
        if not any(m.hands for m in heard["hands"]):
            raise RuntimeError(
                f"no hands came in {_PATIENCE:g} s of the backend {backend!r}:\n"
                + (folder / "log").read_text()
            )
        spin(_WARM_UP)
        for messages in heard.values():
            messages.clear()
        before = {name: _cpu_seconds(process.pid) for name, process in processes.items()}
        carried = _transport_seconds(processes["node"].pid)
        begin, own = time.monotonic(), time.process_time()
        spin(_SECONDS)
        own = time.process_time() - own
        wall = time.monotonic() - begin
        after = {name: _cpu_seconds(process.pid) for name, process in processes.items()}
        carried = _transport_seconds(processes["node"].pid) - carried
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    full = [m for m in heard["hands"] if len(m.hands) >= hands]
    found = {
        "sets_per_s": len(full) / wall,
        "latency_ms": 1e3 * float(np.median([m.latency for m in full])) if full else np.nan,
        "tf_per_s": len(heard["tf"]) / wall,
        "markers_per_s": len(heard["markers"]) / wall,
        "views_mean": float(np.mean([bin(h.view_mask).count("1") for m in full for h in m.hands]))
        if full
        else np.nan,
        **{f"{name}_cpu_percent": 100 * (after[name] - before[name]) / wall for name in after},
        "listener_cpu_percent": 100 * own / wall,
        "transport_share_percent": 100 * carried / max(after["node"] - before["node"], 1e-9),
        **_stages(heard["diagnostics"]),
    }
    return {name: round(value, 2) for name, value in found.items()}


def _stages(messages: list[Any]) -> dict[str, float]:
    """Milliseconds of each stage, means over the diagnostics."""
    found: dict[str, list[float]] = {}
    for message in messages:
        for status in message.status:
            for pair in status.values:
                if status.name.endswith("pipeline") and pair.key.endswith(" (ms)"):
                    key = pair.key.removesuffix(" (ms)").replace(" ", "_")
                    found.setdefault(f"{key}_ms", []).append(float(pair.value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _cpu_seconds(pid: int) -> float:
    """CPU seconds that a process and its threads have used so far; NaN where that is not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _transport_seconds(pid: int) -> float:
    """CPU seconds of the threads that bring messages in: Fast DDS's, and the executor's (the first,

    which takes messages from DDS and only stores them).
    """
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        comm, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        if comm.startswith("dds.") or int(task.name) == pid:
            fields = rest.split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _ended(processes: Mapping[str, subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is not None for process in processes.values())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
