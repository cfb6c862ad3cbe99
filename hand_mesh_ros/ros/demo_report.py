"""What a recorded run amounts to, read back from its MCAP file alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.pictures import Instant, pick, result_sheet
from hand_mesh_ros.evaluation.run_report import Observed, RunStep, run_report, spread_of
from hand_mesh_ros.geometry.frames import TransformTree
from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.render.sheet import write_image
from hand_mesh_ros.ros.camera_info import camera_from_info
from hand_mesh_ros.ros.images import decode_compressed, nanoseconds
from hand_mesh_ros.ros.readers import hand_set, landmarks, matrix_of_transform
from hand_mesh_ros.ros.recorder import TopicRecorder, read_mcap
from hand_mesh_ros.types import SIDES, Camera, HandSet, Side

_NODE = "/hand_mesh_node"
_SHEET_ROWS = 5


@dataclass(eq=False)
class Run:
    """Everything of a recorded run that the report and the sheet need."""

    path: Path
    steps: list[RunStep] = field(default_factory=list)
    cameras: dict[str, Camera] = field(default_factory=dict)
    faces: dict[Side, NDArray[np.int64]] = field(default_factory=dict)
    meshes: dict[int, dict[int, NDArray[np.float64]]] = field(default_factory=dict)
    input_stamps: set[int] = field(default_factory=set)
    output_stamps: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    latencies: list[float] = field(default_factory=list)
    edges: set[tuple[str, str]] = field(default_factory=set)
    frame_ids: set[str] = field(default_factory=set)


def read_run(path: Path) -> Run:
    """One pass over the recording."""
    run = Run(path)
    arrays: list[Any] = []
    truth: dict[int, dict[str, NDArray[np.float64]]] = {}
    observed: dict[int, list[Observed]] = defaultdict(list)
    camera_sets: dict[str, dict[int, int]] = {}
    infos: dict[str, Any] = {}
    tree = TransformTree()
    for topic, message in read_mcap(path):
        leaf = topic.rpartition("/")[2]
        if hasattr(message, "header") and topic.startswith(_NODE):
            run.output_stamps[topic].add(nanoseconds(message.header.stamp))
        if topic == f"{_NODE}/hands":
            arrays.append(message)
        elif leaf == "ground_truth":
            stamp = nanoseconds(message.header.stamp)
            truth[stamp] = {h.estimate.side: h.estimate.joints for h in hand_set(message).hands}
        elif topic.startswith(f"{_NODE}/observations/"):
            stamp = nanoseconds(message.header.stamp)
            camera_sets.setdefault(leaf, {})[stamp] = stamp
            observed[stamp] += [Observed(leaf, i, uv) for i, uv in landmarks(message) if i]
        elif leaf == "camera_info":
            run.input_stamps.add(nanoseconds(message.header.stamp))
            infos[topic.split("/")[-2]] = message
        elif topic in ("/tf", "/tf_static"):
            for transform in message.transforms:
                child = transform.child_frame_id
                run.edges.add((transform.header.frame_id, child))
                if topic == "/tf_static":
                    tree.set(transform.header.frame_id, child, matrix_of_transform(transform))
        elif topic == f"{_NODE}/mesh":
            vertices = np.array(message.vertices, dtype=np.float64).reshape(-1, 3)
            stamp = nanoseconds(message.header.stamp)
            run.meshes.setdefault(stamp, {})[message.track_id] = vertices
        elif topic == f"{_NODE}/topology":
            side: Side = "left" if message.side == 1 else "right"
            run.faces[side] = np.array(message.faces, dtype=np.int64).reshape(-1, 3)
    run.frame_ids = {a.header.frame_id for a in arrays}
    run.cameras = _cameras(infos, tree, run.frame_ids)
    for array in arrays:
        hands = hand_set(array)
        seen = _of_set(observed, hands.stamp_ns, float(array.sync_spread))
        run.steps.append(RunStep(hands, seen, truth.get(hands.stamp_ns, {})))
    return run


def _silent(run: Run, recorder: TopicRecorder) -> list[str]:
    """Topics that should have told something: those of a side without any hand need not."""
    sides = {hand.estimate.side for step in run.steps for hand in step.hands.hands}
    idle = tuple(f"{_NODE}/{side}/" for side in SIDES if side not in sides)
    return sorted(
        topic for topic in recorder.published
        if not recorder.counts[topic] and not topic.startswith(idle)
    )  # fmt: skip


def report_of(
    run: Run, recorder: TopicRecorder, source: str, expected_sets: int, wall: float
) -> dict[str, Any]:
    """The report: figures of the run, then stamps, topics, TF, then time."""
    report: dict[str, Any] = {"source": source, "frame_sets_played": expected_sets}
    report |= run_report(run.steps, run.cameras)
    report["stamps_not_captured"] = {
        topic: len(stamps - run.input_stamps)
        for topic, stamps in run.output_stamps.items()
        if stamps - run.input_stamps
    }
    report["topics_without_messages"] = _silent(run, recorder)
    report["tf"] = tf_report(run.edges)
    report["messages"] = dict(sorted(recorder.counts.items()))
    arrivals = recorder.arrivals.get(f"{_NODE}/hands", [])
    if len(arrivals) > 1:
        report["rate_hz"] = round((len(arrivals) - 1) / (arrivals[-1] - arrivals[0]), 2)
    report["latency_ms"] = spread_of(1e3 * _latencies(run, recorder))
    report["wall_s"] = round(wall, 1)
    return report


def tf_report(edges: set[tuple[str, str]]) -> dict[str, Any]:
    """Roots, frames with two parents, and loops of the TF tree that was published."""
    parents: dict[str, set[str]] = defaultdict(set)
    for parent, child in edges:
        parents[child].add(parent)
    roots = {parent for parent, _ in edges} - set(parents)
    looped = set()
    for frame in parents:
        walked = {frame}
        while frame in parents:
            (frame, *_) = sorted(parents[frame])
            if frame in walked:
                looped.add(frame)
                break
            walked.add(frame)
    return {
        "frames": len(parents) + len(roots),
        "roots": sorted(roots),
        "two_parents": sorted(child for child, found in parents.items() if len(found) > 1),
        "loops": sorted(looped),
    }


def sheet_of(run: Run, path: Path, title: str) -> None:
    """Write the contact sheet of a run."""
    chosen = pick([len(step.hands.hands) for step in run.steps], _SHEET_ROWS)
    wanted = {run.steps[i].hands.stamp_ns: i for i in chosen}
    spread_ns = {s: round(run.steps[i].hands.spread * 1e9) for s, i in wanted.items()}
    overlays: dict[int, dict[str, Any]] = {stamp: {} for stamp in wanted}
    for topic, message in read_mcap(run.path, topics=lambda t: t.endswith("/compressed")):
        stamp = nanoseconds(message.header.stamp)
        name = topic.split("/")[-2]
        for set_stamp in wanted:
            if set_stamp - spread_ns[set_stamp] - 1000 <= stamp <= set_stamp:
                overlays[set_stamp][name] = decode_compressed(message, topic)
    instants = [
        Instant(_with_meshes(run.steps[i].hands, run.meshes.get(stamp, {})), overlays[stamp])
        for stamp, i in sorted(wanted.items())
    ]
    begin = run.steps[0].hands.stamp_ns
    cameras = [run.cameras[name] for name in sorted(run.cameras)]
    write_image(path, result_sheet(instants, cameras, run.faces, title, begin))


def _with_meshes(hands: HandSet, meshes: Mapping[int, NDArray[np.float64]]) -> HandSet:
    return replace(
        hands,
        hands=tuple(
            replace(h, estimate=replace(h.estimate, vertices=meshes.get(h.track_id)))
            for h in hands.hands
        ),
    )


def _of_set(
    observed: Mapping[int, list[Observed]], stamp_ns: int, spread: float
) -> tuple[Observed, ...]:
    """What was observed between the oldest and the newest capture time of a set."""
    oldest = stamp_ns - round(spread * 1e9) - 1000
    return tuple(o for stamp, seen in observed.items() if oldest <= stamp <= stamp_ns for o in seen)


def _cameras(
    infos: Mapping[str, Any], tree: TransformTree, frame_ids: set[str]
) -> dict[str, Camera]:
    """Cameras as the topics describe them, in the frame of the hands."""
    cameras = {}
    for name, info in infos.items():
        camera = camera_from_info(info, name, False, f"{name}/camera_info")
        for frame in frame_ids:
            T = tree.lookup(frame, camera.frame_id) if frame != camera.frame_id else np.eye(4)
            if T is not None:
                cameras[name] = camera.placed(invert_rigid(T))
    return cameras


def _latencies(run: Run, recorder: TopicRecorder) -> NDArray[np.float64]:
    """Seconds from the arrival here of a set's last CameraInfo to that of its hands.

    Both clocks are this process's, so recorded capture times do not matter. The camera's images
    follow their CameraInfo at once.
    """
    asked: dict[int, float] = {}
    answered: list[float] = []
    for topic, arrivals in recorder.arrivals.items():
        stamps = recorder.stamps.get(topic, [])
        if topic.endswith("/camera_info"):
            for stamp, arrival in zip(stamps, arrivals, strict=True):
                asked[stamp] = max(arrival, asked.get(stamp, 0.0))
    topic = f"{_NODE}/hands"
    for stamp, arrival in zip(
        recorder.stamps.get(topic, []), recorder.arrivals.get(topic, []), strict=True
    ):
        if stamp in asked:
            answered.append(arrival - asked[stamp])
    return np.array(answered)
