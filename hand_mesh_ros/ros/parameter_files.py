"""Parameter files as the launch files read them, and the names of a camera's topics.

No rclpy in here: a launch file imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Parameters = dict[str, Any]


def read_parameters(path: Path | str, node: str = "hand_mesh_node") -> Parameters:
    """The parameters (full names with dots) that a ROS parameter file gives ``node``.

    A section counts by the last part of its name, in whatever namespace the node will be.
    Raises ``FileNotFoundError``, or ``ValueError`` naming the file, what is wrong and what to do.
    """
    text = Path(path).read_text()
    try:
        sections = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML file: {error}") from error
    found: Parameters = {}
    for pattern, section in sections.items() if isinstance(sections, dict) else ():
        if pattern.rpartition("/")[2] not in (node, "*", "**"):
            continue
        if not isinstance(section, dict) or not isinstance(section.get("ros__parameters"), dict):
            raise ValueError(f"{path}: {pattern} has no ros__parameters below it")
        found |= _flat(section["ros__parameters"])
    if not found:
        raise ValueError(
            f"{path} has no parameters for {node}: write them below '/**:' and 'ros__parameters:', "
            "as config/cell.yaml does"
        )
    return found


def camera_topics(name: str, image_topic: str = "", info_topic: str = "") -> tuple[str, str]:
    """Image and CameraInfo topic of a camera, from what its parameters say.

    By default ``<name>/image_raw``, and ``camera_info`` beside the image.
    """
    image = image_topic or f"{name}/image_raw"
    folder, slash, _ = image.rpartition("/")
    return image, info_topic or f"{folder}{slash}camera_info"


def cameras(parameters: Parameters) -> dict[str, tuple[str, str]]:
    """Image and CameraInfo topic by camera name, in order; ``ValueError`` if there is none."""
    names = parameters.get("cameras")
    if not isinstance(names, list) or not names:
        raise ValueError(f"parameter cameras is {names!r}: it must be a list of camera names")
    return {
        name: camera_topics(
            name,
            parameters.get(f"camera.{name}.image_topic", ""),
            parameters.get(f"camera.{name}.info_topic", ""),
        )
        for name in names
    }


def _flat(tree: Parameters, prefix: str = "") -> Parameters:
    out: Parameters = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
