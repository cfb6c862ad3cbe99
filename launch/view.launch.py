"""rviz with the hands, their frames and the overlays.

    ros2 launch hand_mesh_ros view.launch.py node:=/cell/hand_mesh_node
    ros2 launch hand_mesh_ros view.launch.py cameras:=camera fixed_frame:=camera_optical_frame
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES

# What config/rviz/hands.rviz subscribes to.
SHOWN_NODE = "/hand_mesh_node"
SHOWN_CAMERAS = ("camera_0", "camera_1", "camera_2", "camera_3")


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("hand_mesh_ros"), "config"])
    # Importing hand_mesh_ros.ros named the package's profile, unless you have one of your own.
    transport = [
        SetEnvironmentVariable(name, os.environ[name])
        for name in PROFILE_VARIABLES
        if name in os.environ
    ]
    return LaunchDescription(
        [
            *transport,
            DeclareLaunchArgument(
                "node",
                default_value=SHOWN_NODE,
                description="Full name of the hand_mesh_node to look at.",
            ),
            DeclareLaunchArgument(
                "cameras",
                default_value=" ".join(SHOWN_CAMERAS),
                description="Cameras whose overlays are shown, at most four names.",
            ),
            DeclareLaunchArgument(
                "fixed_frame",
                default_value="world",
                description="rviz's fixed frame: the node's output_frame, or the optical frame.",
            ),
            DeclareLaunchArgument(
                "rviz_config",
                default_value=PathJoinSubstitution([config, "rviz", "hands.rviz"]),
                description="Configuration file of rviz.",
            ),
            OpaqueFunction(function=_view),
        ]
    )


def _view(context: LaunchContext) -> list:
    node = LaunchConfiguration("node").perform(context).rstrip("/")
    names = LaunchConfiguration("cameras").perform(context).replace(",", " ").split()
    overlays = [
        (f"{SHOWN_NODE}/overlay/{shown}", f"{node}/overlay/{name}")
        for shown, name in zip(SHOWN_CAMERAS, names, strict=False)
    ]
    arguments = [
        *("--display-config", LaunchConfiguration("rviz_config")),
        *("--fixed-frame", LaunchConfiguration("fixed_frame")),
    ]
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz",
            arguments=arguments,
            remappings=[(f"{SHOWN_NODE}/markers", f"{node}/markers"), *overlays],
        )
    ]
