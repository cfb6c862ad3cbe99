"""Starting, spinning and ending a node as a process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

N = TypeVar("N", bound=Node)


def was_interrupted(error: Exception) -> bool:
    """Whether an error is no more than ROS having been shut down in the middle of a call."""
    return isinstance(error, rclpy_implementation.RCLError) and not rclpy.ok()


def run_node(
    make: Callable[[], N],
    args: list[str] | None = None,
    started: Callable[[N], None] | None = None,
) -> None:
    """Make a node, call ``started`` with it and spin until SIGINT or SIGTERM.

    An exception before spinning (a bad parameter or parameter file among them) is logged as one
    line and ends the process with status 1.
    """
    logger = rclpy.logging.get_logger(make.__name__)
    node = executor = None
    try:
        rclpy.init(args=args)
        signal.signal(signal.SIGTERM, _interrupt)
        node = make()
        logger = node.get_logger()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if started is not None:
            started(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        logger.info("stopped")
    except Exception as error:
        if not was_interrupted(error):
            logger.fatal(str(error))
            sys.exit(1)
        logger.info("stopped")
    finally:
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
