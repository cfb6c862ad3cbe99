"""What publishing costs: hands as bytes, beside the same messages made of objects.

Everything goes over DDS to a listener in a process of its own, whose last messages must equal
those that the ordinary builders make. Run as a module, this is the listener.
"""

from __future__ import annotations

import os
import pickle
import random
import select
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.types import Camera, FrameSet, HandSet, Side, TrackedHand

Progress = Callable[[int, int, str], None]

_CAMERAS = 4
_HANDS: tuple[Side, ...] = ("right", "left")
_PICTURES = 3
_PAUSE = 0.02  # seconds of rest
_FRAME = "world"
_LIFETIME = 0.4


def measure(progress: Progress, sets: int = 60, pictures: int = 9) -> dict[str, float]:
    """Milliseconds, medians of what the publishing thread spends; RuntimeError if misheard.

    ``sets`` of hands and ``pictures`` of every camera are published, of moving hands.
    ``publish_mesh_ms``: the markers of one hand and its HandMesh; ``publish_mesh_objects_ms``: its
    mesh marker of Point objects and its HandMesh; ``publish_mesh_speedup``: the ratio. Hands are
    posed and published without a pause; with ``_rested`` in the name, after 20 ms of idleness, from
    which processor and caches first have to wake up. With ``_cpu``: without the time that other
    processes, the listener that wakes up first of all, took from the thread. Of a set of two hands:
    ``tf_ms`` beside ``tf_objects_ms``, ``hands_ms``; of four cameras at 1280x720:
    ``overlay_draw_ms``, ``overlay_ms`` (with raw pictures published), and ``overlay_zbuffer_ms``,
    what only finding each pixel's triangle costs with a z-buffer for each hand and camera.
    """
    from hand_mesh_ros.render.synthetic import SyntheticCell

    total = sets + pictures
    progress(0, total, "drawing pictures")
    cell = SyntheticCell(_CAMERAS, _HANDS, sets / 30, fps=30.0, width=1280, height=720)
    shown = [cell.frame_set(i) for i in range(min(_PICTURES, sets))]
    names = tuple(camera.name for camera in cell.cameras)

    def posed(i: int) -> HandSet:
        hands = tuple(TrackedHand(k + 1, e) for k, e in enumerate(cell.ground_truth(i)))
        return HandSet(shown[0].stamp_ns + i, 0.0, names, hands, ((),) * len(hands))

    models = {side: load_hand_model(side=side) for side in _HANDS}
    times: dict[str, list[float]] = defaultdict(list)

    def run(
        i: int, make: Callable[[HandSet], Mapping[str, Callable[[], Any]]], rested: bool = False
    ) -> None:
        for name in make(posed(i)):
            if rested:
                time.sleep(_PAUSE)
            # Posed just before, as in the node: a thread that wakes up is slow for a while.
            action = make(posed(i))[name]
            name = f"{name}_rested" if rested else name
            begin, worked = time.perf_counter(), time.thread_time()
            action()
            times[f"{name}_cpu"].append(time.thread_time() - worked)
            times[name].append(time.perf_counter() - begin)

    with _stage(models, names) as stage:
        for i in range(sets):
            run(i, stage.messages, rested=True)
            progress(i + 1, total, "publishing now and then")
        for i in range(sets):
            run(i, stage.messages)
        progress(sets, total, "publishing without a pause")
        for i in range(pictures):
            k = i % len(shown)
            run(k, partial(stage.overlays, frames=shown[k]))
            progress(sets + i + 1, total, "overlays")
        stage.verify(posed(sets - 1))
    # The first ones make what the others use.
    found = {f"{name}_ms": 1e3 * float(np.median(t[1:])) for name, t in times.items()}
    found = {k: v for k, v in found.items() if "mesh" in k or not ("_cpu_" in k or "_rested" in k)}
    found["publish_mesh_speedup"] = found["publish_mesh_objects_ms"] / found["publish_mesh_ms"]
    return {name: round(value, 3) for name, value in found.items()}


class _Stage:
    """Publishers with a listener, and what the figures are made of."""

    def __init__(
        self,
        node: Any,
        listener: subprocess.Popen[bytes],
        models: Mapping[Side, HandModel],
        cameras: tuple[str, ...],
    ) -> None:
        from hand_mesh_ros.ros.markers import HandMarkers
        from hand_mesh_ros.ros.overlays import Overlays
        from hand_mesh_ros.ros.packed import HandMeshes, HandTransforms

        self._listener = listener
        self._models = models
        self._faces = {side: model.faces for side, model in models.items()}
        self._publishers = {
            topic: node.create_publisher(kind, topic, 1) for topic, kind in _topics(cameras).items()
        }
        pictures = {camera: self._publishers[f"overlay/{camera}"] for camera in cameras}
        unheard = {camera: self._publishers["unheard"] for camera in cameras}
        self._markers = HandMarkers(self._faces, _refuse)
        self._meshes, self._transforms = HandMeshes(_refuse), HandTransforms(_refuse)
        self._overlays = Overlays(pictures, unheard, self._faces, _refuse)
        until = time.monotonic() + 30
        heard = [p for topic, p in self._publishers.items() if topic != "unheard"]
        while not all(publisher.get_subscription_count() for publisher in heard):
            if time.monotonic() > until or listener.poll() is not None:
                raise RuntimeError("the listener of the bench did not subscribe in 30 s")
            time.sleep(0.05)

    def messages(self, hands: HandSet) -> dict[str, Callable[[], Any]]:
        """Each figure's work for one set, by its name."""
        from tf2_msgs.msg import TFMessage

        from hand_mesh_ros.ros import builders

        publish = {topic: publisher.publish for topic, publisher in self._publishers.items()}
        one = replace(hands, hands=hands.hands[:1], observed=((),))
        hand, topology = one.hands[0], self._topology(one.hands[0])
        stamp = hands.stamp_ns

        def packed() -> None:
            publish["markers"](self._markers.build(one, _FRAME, _LIFETIME))
            publish["mesh"](self._meshes.build(hand, topology, _FRAME, stamp))

        def of_objects() -> None:
            publish["markers"](self._point_objects(hand, stamp))
            publish["mesh"](builders.hand_mesh(hand, topology, _FRAME, stamp))

        def tf_of_objects() -> None:
            found = builders.transforms(hands, _FRAME, "", True)
            publish["tf"](TFMessage(transforms=found))

        return {
            "publish_mesh_objects": of_objects,
            "publish_mesh": packed,
            "tf_objects": tf_of_objects,
            "tf": lambda: publish["tf"](self._transforms.build(hands, _FRAME, "", True)),
            "hands": lambda: publish["hands"](builders.hand_array(hands, _FRAME, 0.05)),
        }

    def overlays(self, hands: HandSet, frames: FrameSet) -> dict[str, Callable[[], Any]]:
        """Each figure's work for one set of pictures, by its name."""
        from hand_mesh_ros.render.overlay import draw_views

        canvases = [frame.image.copy() for frame in frames.frames]
        return {
            "overlay_zbuffer": lambda: _zbuffers(frames.cameras, hands.hands, self._faces),
            "overlay_draw": lambda: draw_views(canvases, frames.cameras, hands.hands, self._faces),
            "overlay": lambda: self._overlays.publish(hands, frames.frames, 0.6),
        }

    def verify(self, hands: HandSet) -> None:
        """Publish once more and compare what the listener heard; RuntimeError if it differs."""
        from rclpy.serialization import deserialize_message, serialize_message
        from tf2_msgs.msg import TFMessage

        from hand_mesh_ros.ros import builders
        from hand_mesh_ros.ros.markers import marker_array

        one = replace(hands, hands=hands.hands[:1], observed=((),))
        for name in ("publish_mesh", "tf", "hands"):
            self.messages(hands)[name]()
        time.sleep(1.0)
        heard, _ = self._listener.communicate(timeout=30)
        latest: dict[str, bytes] = pickle.loads(heard)
        hand = one.hands[0]
        for topic, message in {
            "markers": marker_array(one, self._faces, _FRAME, _LIFETIME),
            "mesh": builders.hand_mesh(hand, self._topology(hand), _FRAME, hands.stamp_ns),
            "tf": TFMessage(transforms=builders.transforms(hands, _FRAME, "", True)),
            "hands": builders.hand_array(hands, _FRAME, 0.05),
        }.items():
            expected = deserialize_message(serialize_message(message), type(message))
            if topic not in latest or deserialize_message(latest[topic], type(message)) != expected:
                raise RuntimeError(f"bench publish: {topic} was not heard as it was published")

    def _topology(self, hand: TrackedHand) -> str:
        return self._models[hand.estimate.side].model_id

    def _point_objects(self, hand: TrackedHand, stamp_ns: int) -> Any:
        """A mesh marker the usual way: a Point for every corner of every triangle."""
        from geometry_msgs.msg import Point
        from visualization_msgs.msg import Marker, MarkerArray

        from hand_mesh_ros.ros.images import header

        assert hand.estimate.vertices is not None
        corners = hand.estimate.vertices[self._faces[hand.estimate.side].reshape(-1)]
        marker = Marker(header=header(stamp_ns, _FRAME), type=Marker.TRIANGLE_LIST)
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in corners.tolist()]
        return MarkerArray(markers=[marker])


def _zbuffers(
    cameras: Sequence[Camera], hands: Sequence[TrackedHand], faces: Mapping[Side, Any]
) -> None:
    from hand_mesh_ros.render.rasteriser import rasterise_region
    from hand_mesh_ros.render.shading import project_surface

    for camera, hand in product(cameras, hands):
        assert hand.estimate.vertices is not None
        uv, depth = project_surface(camera, hand.estimate.vertices)
        mesh, size = faces[hand.estimate.side], (camera.width, camera.height)
        rasterise_region(uv, depth, mesh, *size, cull_backfaces=True)


def _refuse(complaint: str) -> None:
    raise RuntimeError(f"bench publish: {complaint}")


def _topics(cameras: tuple[str, ...]) -> dict[str, Any]:
    """Topics and their types; ``unheard`` has no listener."""
    from sensor_msgs.msg import CompressedImage, Image
    from tf2_msgs.msg import TFMessage
    from visualization_msgs.msg import MarkerArray

    from hand_mesh_ros.msg import HandArray, HandMesh

    topics = {"markers": MarkerArray, "mesh": HandMesh, "tf": TFMessage, "hands": HandArray}
    pictures = {f"overlay/{camera}": Image for camera in cameras}
    return topics | pictures | {"unheard": CompressedImage}


@contextmanager
def _stage(models: Mapping[Side, HandModel], cameras: tuple[str, ...]) -> Iterator[_Stage]:
    """A node on a private domain, with its listener in another process."""
    import rclpy

    from hand_mesh_ros.ros.environment import child_environment

    domain = random.SystemRandom().randrange(1, 100)
    environment = child_environment(domain)
    os.environ.update({k: v for k, v in environment.items() if k.startswith(("ROS_", "FAST"))})
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("bench", context=context)
    listener = subprocess.Popen(
        [sys.executable, "-m", __name__, *cameras],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield _Stage(node, listener, models, cameras)
    finally:
        if listener.poll() is None:
            listener.communicate(timeout=30)
        node.destroy_node()
        rclpy.shutdown(context=context)


def main() -> None:
    """Listen until the standard input ends; then the last bytes of each topic are written out."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    rclpy.init()
    node = rclpy.create_node("listener")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    latest: dict[str, bytes] = {}
    for topic, kind in _topics(tuple(sys.argv[1:])).items():
        if topic != "unheard":
            node.create_subscription(
                kind, topic, lambda data, topic=topic: latest.update({topic: data}), 1, raw=True
            )
    while not select.select([sys.stdin], [], [], 0)[0]:
        executor.spin_once(timeout_sec=0.05)
    sys.stdout.buffer.write(pickle.dumps(latest))


if __name__ == "__main__":
    main()
