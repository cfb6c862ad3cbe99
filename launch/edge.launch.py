"""hand_edge_node beside one or more cameras, for a hand_mesh_node on another machine.

    ros2 launch hand_mesh_ros edge.launch.py params_file:=my_edge.yaml namespace:=edge_0

The namespace keeps the nodes of several machines apart. On the machine that fuses:
`cell.launch.py params_file:=my_fusion.yaml`; see config/edge.yaml and config/fusion.yaml.
"""

import os

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("hand_mesh_ros"), "config"])
    arguments = [
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([config, "edge.yaml"]),
            description="Parameters of hand_edge_node, which name the cameras.",
        ),
        DeclareLaunchArgument(
            "namespace",
            default_value="",
            description="Namespace of the node and of its cameras' topics; one a machine.",
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
    node = Node(
        package="hand_mesh_ros",
        executable="hand_edge_node",
        name="hand_edge_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file")],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return LaunchDescription([*arguments, *transport, node])
