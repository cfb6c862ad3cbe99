"""A synthetic cell, or a recording, as camera topics, and hand_mesh_node that reads them.

    ros2 launch hand_mesh_ros demo.launch.py rviz:=true
    ros2 launch hand_mesh_ros demo.launch.py source:=PATH_OF_A_RECORDING cell_file:=its_cell.yaml
"""

import os

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare("hand_mesh_ros")
    arguments = [
        DeclareLaunchArgument(
            "source",
            default_value="synthetic",
            description="'synthetic', or the path of a recording or bag.",
        ),
        DeclareLaunchArgument(
            "cell_file",
            default_value=PathJoinSubstitution([share, "config", "cell.yaml"]),
            description="Parameters of hand_mesh_node; they name the cameras of the source.",
        ),
        DeclareLaunchArgument(
            "backend",
            default_value="",
            description="How views become hands, as in cell.launch.py. Empty: as cell_file says.",
        ),
        DeclareLaunchArgument(
            "pace",
            default_value="realtime",
            choices=["realtime", "lockstep"],
            description="The next frames come as they were filmed, or when the last are done.",
        ),
        DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playback."),
        DeclareLaunchArgument(
            "loop",
            default_value="true",
            choices=["true", "false"],
            description="Begin again at the end; if not, everything ends with the source.",
        ),
        DeclareLaunchArgument(
            "rviz",
            default_value="false",
            choices=["true", "false"],
            description="Show the hands in rviz.",
        ),
    ]
    # Importing hand_mesh_ros.ros named the package's profile, unless you have one of your own.
    transport = [
        SetEnvironmentVariable(name, os.environ[name])
        for name in PROFILE_VARIABLES
        if name in os.environ
    ]
    files = PathJoinSubstitution([share, "launch"])
    playback = {
        "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
        "pace": LaunchConfiguration("pace"),
        "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
        "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
    }
    return LaunchDescription(
        [
            *arguments,
            *transport,
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource([files, "/cell.launch.py"]),
                launch_arguments={
                    name: LaunchConfiguration(name) for name in ("cell_file", "backend")
                }.items(),
            ),
            Node(
                package="hand_mesh_ros",
                executable="camera_cell_node",
                name="camera_cell_node",
                parameters=[playback],
                output="screen",
                on_exit=[Shutdown(reason="the source has ended")],
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource([files, "/view.launch.py"]),
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
