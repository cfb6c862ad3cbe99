"""How many raw images get from one process to another, with and without the package's profile.

    python -m hand_mesh_ros.ros.transport_check --cameras 4 --seconds 5

One process publishes 1280x720 rgb8 images of several cameras at 30 Hz, best effort, as camera
drivers do; another one counts what it hears. Both run twice: with config/fastdds_large_images.xml
in their environment, and without it, which is Fast DDS as it comes.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES, child_environment

_PATIENCE = 20.0  # s for discovery
_LINGER = 1.0  # s of silence after which the listener has heard everything
_MODULE = "hand_mesh_ros.ros.transport_check"


@dataclass(frozen=True)
class Traffic:
    """What is sent: ``count`` images of each camera."""

    cameras: int = 4
    count: int = 150
    rate: float = 30.0
    width: int = 1280
    height: int = 720


@dataclass(frozen=True)
class Delivery:
    """``received`` images by camera of ``sent`` each; latency from publication to callback, s."""

    sent: int
    received: tuple[int, ...]
    median_latency: float

    @property
    def fraction(self) -> float:
        """Of all images of all cameras."""
        return sum(self.received) / (self.sent * len(self.received))


def measure(traffic: Traffic, profile: bool, discovery: str = "LOCALHOST") -> Delivery:
    """Run both processes on a private domain.

    ``discovery`` is ROS_AUTOMATIC_DISCOVERY_RANGE: rmw_fastrtps gives a participant that is limited
    to LOCALHOST a small shared-memory transport of its own beside the profile's. Raises
    RuntimeError with the error output of a process that fails.
    """
    environment = child_environment(random.SystemRandom().randrange(1, 100))
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = discovery
    if not profile:  # an empty name is a choice of the user's, which nothing overrides
        environment |= dict.fromkeys(PROFILE_VARIABLES, "")
    processes = []
    for role in ("listen", "talk"):
        command = [sys.executable, "-m", _MODULE, "--role", role, json.dumps(asdict(traffic))]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
    try:
        patience = 2 * _PATIENCE + 4 * traffic.count / traffic.rate
        outputs = [process.communicate(timeout=patience) for process in reversed(processes)]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(reversed(processes), outputs, strict=True):
        if process.returncode != 0:
            raise RuntimeError(f"the transport check failed: {errors.strip()[-2000:]}")
    # Fast DDS complains of the empty name on the same stream, above.
    return Delivery(**json.loads(outputs[-1][0].splitlines()[-1]))


def talk(traffic: Traffic) -> None:
    """Publish, once everything is subscribed to."""
    import numpy as np

    from hand_mesh_ros.ros.images import encode_image

    rclpy, node, Image, qos = _node("talker")
    picture = np.random.default_rng(0).integers(0, 255, (traffic.height, traffic.width, 3), "u1")
    message = encode_image(picture, 0, "camera")
    publishers = [node.create_publisher(Image, f"camera_{i}", qos) for i in range(traffic.cameras)]
    end = time.monotonic() + _PATIENCE
    while not all(publisher.get_subscription_count() for publisher in publishers):
        if time.monotonic() > end:
            raise SystemExit("nobody subscribes")
        time.sleep(0.05)
    time.sleep(0.5)
    start = time.monotonic()
    for index in range(traffic.count):
        time.sleep(max(0.0, start + index / traffic.rate - time.monotonic()))
        for publisher in publishers:
            now = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
            publisher.publish(message)
    time.sleep(_LINGER)
    rclpy.shutdown()


def listen(traffic: Traffic) -> Delivery:
    """Count until nothing comes any more."""
    import numpy as np

    rclpy, node, Image, qos = _node("listener")
    counts, ages = [0] * traffic.cameras, []
    heard_at = time.monotonic() + _PATIENCE

    def on_image(camera: int, message: Any) -> None:
        nonlocal heard_at
        stamp = message.header.stamp
        ages.append((time.time_ns() - stamp.sec * 10**9 - stamp.nanosec) * 1e-9)
        counts[camera] += 1
        heard_at = time.monotonic()

    for camera in range(traffic.cameras):
        node.create_subscription(Image, f"camera_{camera}", lambda m, i=camera: on_image(i, m), qos)
    while time.monotonic() < heard_at + _LINGER:
        rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.shutdown()
    median = float(np.median(ages)) if ages else float("nan")
    return Delivery(traffic.count, tuple(counts), median)


def _node(name: str) -> tuple[Any, Any, Any, Any]:
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    rclpy.init()
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    return rclpy, rclpy.create_node(name), Image, qos


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Raw images, with and without the profile.")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--discovery", default="LOCALHOST", choices=["LOCALHOST", "SUBNET"])
    parser.add_argument("--role", nargs=2, metavar=("ROLE", "TRAFFIC"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, traffic = options.role[0], Traffic(**json.loads(options.role[1]))
        if role == "talk":
            talk(traffic)
        else:
            print(json.dumps(asdict(listen(traffic))))
        return
    traffic = Traffic(options.cameras, round(30 * options.seconds))
    for profile in (True, False):
        found = measure(traffic, profile, options.discovery)
        print(
            f"{'with' if profile else 'without'} the profile: {100 * found.fraction:.0f} % of "
            f"{traffic.count} images of each of {traffic.cameras} cameras "
            f"({', '.join(map(str, found.received))}), median latency "
            f"{1e3 * found.median_latency:.1f} ms"
        )


if __name__ == "__main__":
    main()
