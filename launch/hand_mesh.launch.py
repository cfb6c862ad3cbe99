"""hand_mesh_node with one camera.

    ros2 launch hand_mesh_ros hand_mesh.launch.py image:=/webcam/image_raw \
        camera_info:=/webcam/camera_info

Everything is published in the camera's optical frame. For several cameras see cell.launch.py.
Where torch and LiteRT are in a virtual environment, add `--launch-prefix PATH/bin/python`.
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("hand_mesh_ros"), "config"])
    arguments = [
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([config, "single.yaml"]),
            description="Parameters of hand_mesh_node; its camera must be named 'camera'.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its topics."
        ),
        DeclareLaunchArgument(
            "image", default_value="camera/image_raw", description="Image topic of the camera."
        ),
        DeclareLaunchArgument(
            "camera_info",
            default_value="camera/camera_info",
            description="CameraInfo topic of the camera.",
        ),
        DeclareLaunchArgument(
            "backend",
            default_value="",
            description="How views become hands: landmarks, hamuco, sima-mvr, sima-svr, amvur, "
            "hamer, ... Empty: as params_file says.",
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
    return LaunchDescription([*arguments, *transport, OpaqueFunction(function=_node)])


def _node(context: LaunchContext) -> list:
    backend = LaunchConfiguration("backend").perform(context)
    node = Node(
        package="hand_mesh_ros",
        executable="hand_mesh_node",
        name="hand_mesh_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"), *([{"backend": backend}] if backend else [])
        ],  # fmt: skip
        remappings=[
            ("camera/image_raw", LaunchConfiguration("image")),
            ("camera/camera_info", LaunchConfiguration("camera_info")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [node]
