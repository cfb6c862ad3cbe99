"""hand_mesh_node with several calibrated cameras.

    ros2 launch hand_mesh_ros cell.launch.py params_file:=my_cell.yaml

One file drives all: the node reads its parameters from it, and this launch file the cameras' names
and topics. /tf_static must join every camera's optical frame to the output frame; RealSense's own
multi-camera launch files publish an identity transform there, which is not a calibration.
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES
from hand_mesh_ros.ros.parameter_files import cameras, read_parameters


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("hand_mesh_ros"), "config"])
    arguments = [
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([config, "cell.yaml"]),
            description="Parameters of hand_mesh_node, which name the cameras.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its topics."
        ),
        DeclareLaunchArgument(
            "camera_namespace",
            default_value="",
            description="Namespace of the cameras' topics, where it is not the node's: '/cell' "
            "makes front/image_raw /cell/front/image_raw.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error"],
            description="Least important messages that the node logs.",
        ),
    ]
    # Importing hand_mesh_ros.ros named the package's profile, unless you have one of your own.
    transport = [
        SetEnvironmentVariable(name, os.environ[name])
        for name in PROFILE_VARIABLES
        if name in os.environ
    ]
    return LaunchDescription([*arguments, *transport, OpaqueFunction(function=_cell)])


def _cell(context: LaunchContext) -> list:
    found = cameras(read_parameters(LaunchConfiguration("params_file").perform(context)))
    elsewhere = LaunchConfiguration("camera_namespace").perform(context).rstrip("/")
    topics = [topic for pair in found.values() for topic in pair if not topic.startswith("/")]
    return [
        LogInfo(msg=f"cameras: {', '.join(found)}"),
        Node(
            package="hand_mesh_ros",
            executable="hand_mesh_node",
            name="hand_mesh_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file")],
            remappings=[(topic, f"{elsewhere}/{topic}") for topic in topics if elsewhere],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
        ),
    ]
