"""hand_edge_node beside a camera: it sends what it sees of hands to a hand_mesh_node elsewhere.

    ros2 launch hand_mesh_ros edge.launch.py params_file:=edge.yaml namespace:=edge_0
    ros2 launch hand_mesh_ros cell.launch.py cell_file:=fusion.yaml     # on the other machine

The namespace keeps the nodes of several machines apart, one a machine.
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from hand_mesh_ros.ros.cell_files import read_cell
from hand_mesh_ros.ros.environment import PROFILE_VARIABLES


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("hand_mesh_ros"), "config"])
    arguments = [
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([config, "edge.yaml"]),
            description="Parameters of hand_edge_node; they name this machine's cameras.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its topics."
        ),
        DeclareLaunchArgument(
            "camera_namespace",
            default_value="",
            description="Namespace of the cameras' topics, where it is not the node's.",
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
    return LaunchDescription([*arguments, *transport, OpaqueFunction(function=_edge)])


def _edge(context: LaunchContext) -> list:
    file = LaunchConfiguration("params_file").perform(context)
    cameras = LaunchConfiguration("camera_namespace").perform(context)
    return [
        Node(
            package="hand_mesh_ros",
            executable="hand_edge_node",
            name="hand_edge_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[file],
            remappings=read_cell(file, "hand_edge_node").remappings(cameras),
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
        )
    ]
