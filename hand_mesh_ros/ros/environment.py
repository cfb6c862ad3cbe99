"""What ROS expects of the environment, for a plain virtual environment with nothing sourced.

A machine with a sourced ROS installation needs none of this, and nothing here overrides what is
set already.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "hand_mesh_ros"
# Fast DDS 2 (Humble, Jazzy) reads the first, Fast DDS 3 (Kilted and later) the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# The ROS wheels restart Python once with LD_LIBRARY_PATH set, and set this so as to do it once.
WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
# As imported: `colcon build --symlink-install` links each file of the installation to the source.
_HERE = Path(__file__).absolute().parent


def prepare() -> None:
    """Make ament's index, tf2_msgs and large images work in this process and its children.

    Call it before `rclpy.init`; `import hand_mesh_ros.ros` does. Calling it again changes nothing.
    """
    _name_wheel_prefix()
    _offer_tf2_msgs()
    for name, value in transport_variables(os.environ).items():
        os.environ[name] = value


def share_directory() -> Path:
    """Return the directory that holds package.xml, msg/, launch/ and config/.

    Where a source tree's own files run (editable or symlinked installation), it is the tree, so
    that edits count at once.

    Raises FileNotFoundError if the package is not installed.
    """
    tree = Path(__file__).resolve().parents[2]
    if (tree / "package.xml").is_file():
        return tree
    for prefix in (*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix):
        share = Path(prefix) / "share" / PACKAGE
        if prefix and (share / "package.xml").is_file():
            return share
    raise FileNotFoundError(
        f"share/{PACKAGE}/package.xml is in no prefix of AMENT_PREFIX_PATH nor in {sys.prefix}: "
        "install the package (pip install .), or source the workspace's install/setup.bash."
    )


def transport_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give Fast DDS room for raw images.

    They name config/fastdds_large_images.xml. Publishers and subscribers both need them. Empty if
    `environment` names a profile of the user's own.
    """
    if any(name in environment for name in PROFILE_VARIABLES):
        return {}
    profile = share_directory() / "config" / "fastdds_large_images.xml"
    return dict.fromkeys(PROFILE_VARIABLES, str(profile))


def child_environment(domain_id: int | None = None) -> dict[str, str]:
    """Return the environment for a process of ours that uses ROS.

    `domain_id` puts it on a private ROS domain that does not leave this machine; None leaves the
    domain and the discovery range as they are.
    """
    environment = dict(os.environ)
    environment |= transport_variables(environment)
    if not environment.get("LD_LIBRARY_PATH"):
        # The guard without the library path would keep the child from finding ROS's libraries.
        environment.pop(WHEELS_GUARD, None)
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        if environment.get("ROS_DISTRO") == "humble":  # later ones deprecate this name
            environment["ROS_LOCALHOST_ONLY"] = "1"
    return environment


def _name_wheel_prefix() -> None:
    """Put this environment on AMENT_PREFIX_PATH if it holds ROS; `pip` does not set it."""
    prefixes = list(filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)))
    index = Path(sys.prefix) / "share" / "ament_index"
    if index.is_dir() and sys.prefix not in prefixes:
        os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([*prefixes, sys.prefix])


def _offer_tf2_msgs() -> None:
    """Let `import tf2_msgs` find ours, built by pip, where the distribution has none.

    It goes to the end of the path, so that a real one always wins.
    """
    fallback = _HERE / "_fallback"
    if str(fallback) in sys.path or importlib.util.find_spec("tf2_msgs") is not None:
        return
    if fallback.is_dir():
        sys.path.append(str(fallback))
