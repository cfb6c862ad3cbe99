"""A campaign of everything that goes wrong in a cell, against a real node process, over DDS.

Faults come in random order between stretches of good sets. After each the node must make hands of
good sets again; all the while no answer may carry a capture time that was not shown, or go back
in time, and memory must not grow.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.ros.soak_stage import NodeProcess, Stage

Progress = Callable[[int, int, str], None]
_RECOVERY = 40  # sets within which hands must be seen again


class Campaign:
    """``wrong`` lists every promise that was broken, in words."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._folder, self._rng = folder, random.Random(seed)
        self._domain = random.SystemRandom().randrange(1, 100)
        self.stage = Stage(self._domain)
        self.node = NodeProcess(folder, self._domain)
        self.wrong: list[str] = []
        self.sets = self.with_hands = 0
        self.faults: dict[str, Callable[[], None]] = {
            "a camera is lost": self._camera_lost,
            "corrupt images": self._corrupt_images,
            "CameraInfo changes": self._info_changes,
            "bad CameraInfo": self._bad_info,
            "capture times jump back": self._clock_jump,
            "images without a stamp": self._no_stamp,
            "subscribers come and go": self._subscriber_storm,
            "extrinsics are published again": self.stage.place_cameras,
            "the backend raises": lambda: self._backend_fails("broken", 4),
            "device memory is exhausted": lambda: self._backend_fails("memory", 4),
        }
        self.rare_faults: dict[str, Callable[[], None]] = {
            "the backend raises on and on": lambda: self._backend_fails("broken", 14),
            "the node is killed": self._killed,
        }

    def begin(self) -> None:
        """Frames before there are extrinsics, then extrinsics, then hands."""
        self._await("the node to start", self.stage.ready, 90)
        for _ in range(5):
            if self.stage.show(patience=0.05) is not None:
                self.wrong.append("hands without extrinsics")
        self.stage.place_cameras()
        self.recover("extrinsics appear")

    def good(self, count: int) -> None:
        """Good sets; most of them must be answered with a hand."""
        seen = sum(self._show() is not None for _ in range(count))
        if seen < 0.7 * count:
            self.wrong.append(f"{seen} of {count} good sets were answered with a hand")

    def fault(self, name: str) -> None:
        """One fault, and the recovery from it."""
        ({**self.faults, **self.rare_faults})[name]()
        self.recover(name)

    def recover(self, what: str) -> None:
        """Good sets until one is answered with a hand."""
        for _ in range(_RECOVERY):
            if not self.node.alive:
                break
            if self._show() is not None:
                return
        self.wrong.append(f"no hands after: {what}" + ("" if self.node.alive else " (it crashed)"))

    def check(self) -> None:
        """The promises that hold at any time."""
        if not self.node.alive:
            self.wrong.append("the node crashed")
        stamps, self.stage.order = self.stage.order, []
        if foreign := [stamp for stamp in stamps if stamp not in self.stage.shown]:
            self.wrong.append(f"answers at times that were not shown: {foreign[:3]}")
        if any(b <= a for a, b in zip(stamps, stamps[1:], strict=False)):
            self.wrong.append("answers went back in time")

    def end(self) -> None:
        """End the node, which must obey."""
        if self.node.alive and (status := self.node.end()) != 0:
            self.wrong.append(f"the node ended with status {status}")
        self.stage.close()

    def _show(self, **how: Any) -> Any:
        self.sets += 1
        answer = self.stage.show(**how)
        if answer is None or not answer.hands:
            return None
        self.with_hands += 1
        return answer

    def _await(self, what: str, done: Callable[[], bool], seconds: float) -> None:
        if not self.stage.spin(seconds, lambda: done() or not self.node.alive) or not done():
            raise RuntimeError(f"waited for {what}; the node's log:\n{self.node.log.read_text()}")

    def _camera_lost(self) -> None:
        lost = self._rng.randrange(2)
        seen = sum(self._show(cameras=(1 - lost,)) is not None for _ in range(10))
        if seen < 5:
            self.wrong.append(f"one camera left: {seen} of 10 sets were answered with a hand")

    def _corrupt_images(self) -> None:
        def short(_: Any, image: Any) -> None:
            image.data = image.data[: len(image.data) // 2]

        def odd(_: Any, image: Any) -> None:
            image.encoding = "yuv999"

        def small(_: Any, image: Any) -> None:
            image.width, image.step = image.width // 2, image.step // 2

        def empty(_: Any, image: Any) -> None:
            image.data = image.data[:0]
            image.height = image.width = image.step = 0

        for spoil in (short, odd, small, empty):
            bad = self._rng.choice([(0,), (1,), (0, 1)])
            self.sets += 1
            self.stage.show(spoil=spoil, spoiled=bad, patience=0.2)

    def _info_changes(self) -> None:
        def zoom(info: Any, _: Any) -> None:
            info.k[0] *= 1.02
            info.k[4] *= 1.02

        for _ in range(3):
            self._show(spoil=zoom, spoiled=(0, 1))

    def _bad_info(self) -> None:
        def no_focus(info: Any, _: Any) -> None:
            info.k = np.zeros(9)

        def not_a_number(info: Any, _: Any) -> None:
            info.k[2] = float("nan")

        for spoil in (no_focus, not_a_number):
            self.sets += 1
            self.stage.show(spoil=spoil, spoiled=(self._rng.randrange(2),), patience=0.2)

    def _clock_jump(self) -> None:
        self.check()  # what was before the jump is in order by itself
        self.stage.stamp_ns -= self._rng.choice([5, 60, 900]) * 1_000_000_000
        for _ in range(3):
            self._show(patience=0.3)
        self.stage.spin(0.2)

    def _no_stamp(self) -> None:
        def zero(_: Any, image: Any) -> None:
            image.header.stamp.sec = image.header.stamp.nanosec = 0

        self.sets += 1
        self.stage.show(spoil=zero, spoiled=(0, 1), patience=0.1)

    def _subscriber_storm(self) -> None:
        from sensor_msgs.msg import CompressedImage, Image
        from visualization_msgs.msg import MarkerArray

        from hand_mesh_ros.msg import HandMesh

        node = self.stage.node
        for _ in range(3):
            storm = [
                node.create_subscription(kind, f"/hand_mesh_node/{topic}", lambda _: None, 1)
                for kind, topic in (
                    (Image, "overlay/camera_0"),
                    (CompressedImage, "overlay/camera_1/compressed"),
                    (MarkerArray, "markers"),
                    (HandMesh, "mesh"),
                )
                for _ in range(3)
            ]
            for _ in range(3):
                self._show()
            for subscription in storm:
                node.destroy_subscription(subscription)

    def _backend_fails(self, how: str, times: int) -> None:
        self.node.flaky.write_text(how)
        for _ in range(times):
            self.sets += 1
            self.stage.show(patience=0.15)
        self.node.flaky.unlink()
        self._await("the node to be active again", self.stage.ready, 30)

    def _killed(self) -> None:
        self.check()
        self.node.kill()
        self.node = NodeProcess(self._folder, self._domain)
        # The dead node is still known for a while: what tells is that hands come again.
        for _ in range(200):
            if self._show(patience=0.3) is not None:
                return


def run(sets: int, seed: int, report: Progress) -> tuple[dict[str, float], list[str]]:
    """A campaign of so many sets: its figures, and every broken promise in words.

    The rare faults come once, at the beginning; memory is compared from then on.
    """
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), seed)
        rng = random.Random(seed)
        counts = dict.fromkeys((*campaign.rare_faults, *campaign.faults), 0)
        memory: list[tuple[int, float]] = []
        try:
            campaign.begin()
            waiting = list(counts)
            while campaign.sets < sets and campaign.node.alive:
                name = waiting.pop(0) if waiting else rng.choice(list(campaign.faults))
                campaign.fault(name)
                counts[name] += 1
                campaign.good(20 if sets < 2000 else rng.randint(20, 100))
                campaign.check()
                if not waiting:
                    memory.append((campaign.sets, campaign.node.rss_mb()))
                report(min(campaign.sets, sets), sets, f"soak: after {name}")
        finally:
            campaign.end()
    figures = {
        "soak_sets": campaign.sets,
        "soak_sets_with_hands": campaign.with_hands,
        "soak_faults": sum(counts.values()),
        "soak_broken_promises": len(campaign.wrong),
        "soak_rss_mb": round(memory[-1][1], 1) if memory else float("nan"),
        "soak_rss_growth_mb": round(_growth(memory), 2),
    }
    return figures, campaign.wrong


def _growth(memory: list[tuple[int, float]]) -> float:
    """Growth of resident memory, MiB: median of the last tenth over that of the tenth after the
    first tenth, in which allocators and caches fill.
    """
    rss = [mb for _, mb in memory]
    tenth = max(len(rss) // 10, 1)
    if len(rss) < 3 * tenth:
        return float("nan")
    return float(np.median(rss[-tenth:]) - np.median(rss[tenth : 2 * tenth]))
