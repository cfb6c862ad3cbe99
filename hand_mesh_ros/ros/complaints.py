"""Errors that come again with every frame, said once in a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

QUIET_S = 5.0
_MOST_KEYS = 256


class Logger(Protocol):
    """The part of an rclpy logger that is used."""

    def error(self, message: str) -> object: ...


class Complaints:
    """``complain(key, text)`` logs an error, at most once in `QUIET_S` seconds for each key.

    Of more than 256 keys the oldest are forgotten: bad input must not fill the memory.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._clock = logger, clock
        self._said: OrderedDict[str, float] = OrderedDict()

    def __call__(self, key: str, text: str) -> None:
        now = self._clock()
        if now - self._said.get(key, -QUIET_S) < QUIET_S:
            return
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > _MOST_KEYS:
            self._said.popitem(last=False)
        self._logger.error(text)
