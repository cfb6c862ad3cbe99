"""Two network namespaces and a bad link between them, made in user space.

A TAP device stands in each namespace; a thread carries Ethernet frames from one to the other, late,
not all of them, and none while the link is cut. It needs root and /dev/net/tun, but no module of
the kernel that shapes traffic.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter
from types import TracebackType

import numpy as np

_TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_LONGEST_FRAME = 65_536
# Shared memory of its own as well: another machine has none in common with this one.
_ENTER_NEW = ["unshare", "--net", "--mount"]
_HOLD = "mount -t tmpfs tmpfs /dev/shm && echo ready && exec cat"


def unavailable() -> str:
    """Why there can be no link on this machine; empty if there can."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if missing := [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except OSError as error:
        return f"no TAP devices: {error}"
    probe = subprocess.run([*_ENTER_NEW, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces: {probe.stderr.strip()}" if probe.returncode else ""


class LossyLink:
    """Two namespaces with addresses 10.77.0.1 and 10.77.0.2, and the link between them.

    Each frame comes ``delay`` seconds late, give or take a uniform ``jitter`` (frames may overtake
    each other), or with probability ``loss`` never; while it is ``cut``, none comes. All may be
    changed at any time. ``counts`` says how many frames were ``carried``, ``lost`` and ``cut``,
    and the ``bytes`` that were carried.
    """

    def __init__(self, delay: float, jitter: float, loss: float, seed: int = 0) -> None:
        self.delay, self.jitter, self.loss = delay, jitter, loss
        self.cut = False
        self.counts: Counter[str] = Counter()
        self._rng = np.random.default_rng(seed)
        self._holders: list[subprocess.Popen[str]] = []
        self._taps: list[int] = []
        self._running = True
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> LossyLink:
        try:
            for side in (0, 1):
                self._open(side)
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running = False
        self._thread.join()
        self._remove()

    def inside(self, side: int) -> list[str]:
        """The beginning of a command that runs in namespace 0 or 1."""
        return ["nsenter", "--net", "--mount", "--target", str(self._holders[side].pid)]

    def _open(self, side: int) -> None:
        # The namespaces live as long as a process in them, and that as long as its input is open.
        holder = subprocess.Popen(
            [*_ENTER_NEW, "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError("the namespaces' process did not start")
        device = f"hm{os.getpid()}{'ab'[side]}"
        self._taps.append(_open_tap(device))
        _run("ip", "link", "set", device, "netns", str(holder.pid))
        for command in (
            "ip link set lo up",
            f"ip address add 10.77.0.{side + 1}/24 dev {device}",
            f"ip link set {device} up",
            f"ip route add 224.0.0.0/4 dev {device}",
        ):
            _run(*self.inside(side), *command.split())

    def _remove(self) -> None:
        for tap in self._taps:
            os.close(tap)
        for holder in self._holders:
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait()
        self._taps.clear()
        self._holders.clear()

    def _carry(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        order = itertools.count()
        while self._running:
            patience = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else 0.1
            for tap in select.select(self._taps, [], [], min(patience, 0.1))[0]:
                frame = os.read(tap, _LONGEST_FRAME)
                due = time.monotonic() + self.delay + self.jitter * self._rng.uniform(-1, 1)
                if self.cut:
                    self.counts["cut"] += 1
                elif self._rng.random() < self.loss:
                    self.counts["lost"] += 1
                else:
                    other = self._taps[1 - self._taps.index(tap)]
                    heapq.heappush(waiting, (due, next(order), other, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, tap, frame = heapq.heappop(waiting)
                os.write(tap, frame)
                self.counts["carried"] += 1
                self.counts["bytes"] += len(frame)


def _open_tap(name: str) -> int:
    tap = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return tap


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
