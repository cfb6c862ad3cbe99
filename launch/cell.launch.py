"""hand_mesh_node with several calibrated cameras.

    ros2 launch hand_mesh_ros cell.launch.py cell_file:=my_cell.yaml
    ros2 launch hand_mesh_ros cell.launch.py cell_file:=my_cell.yaml backend:=hamuco
    ros2 launch hand_mesh_ros cell.launch.py cell_file:=my_cell.yaml namespace:=left_arm \
        camera_namespace:=/cell

The cell file names the cameras, their topics and frames, and holds every parameter of the node;
where it has extrinsics or intrinsics as well, cell_calibration_node publishes them. Otherwise
/tf_static must join every camera's optical frame to the output frame (RealSense's own multi-camera
launch files publish an identity transform there, which is not a calibration) and the drivers
must publish CameraInfo.
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

from hand_mesh_ros.ros.cell_files import CALIBRATION_NODE, read_cell
from hand_mesh_ros.ros.environment import PROFILE_VARIABLES


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("hand_mesh_ros"), "config"])
    arguments = [
        DeclareLaunchArgument(
            "cell_file",
            default_value=PathJoinSubstitution([config, "cell.yaml"]),
            description="Cameras, topics, frames, calibration and parameters of hand_mesh_node.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the nodes and their topics."
        ),
        DeclareLaunchArgument(
            "camera_namespace",
            default_value="",
            description="Namespace of the cameras' topics, where it is not the node's: '/cell' "
            "makes front/image_raw /cell/front/image_raw.",
        ),
        DeclareLaunchArgument(
            "tf",
            default_value="/tf",
            description="Topic of the frames; 'tf' keeps several robots' frames apart, each in "
            "the namespace of its own (static ones likewise).",
        ),
        DeclareLaunchArgument(
            "backend",
            default_value="",
            description="How views become hands: landmarks, hamuco, sima-mvr, sima-svr, amvur, "
            "hamer, ... Empty: as the cell file says.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error"],
            description="Least important messages that the nodes log.",
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
    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    file, backend = argument("cell_file"), argument("backend")
    cell = read_cell(file)
    frames = [("/tf", argument("tf")), ("/tf_static", f"{argument('tf')}_static")]
    frames = [(name, other) for name, other in frames if name != other]
    common = {
        "package": "hand_mesh_ros",
        "namespace": LaunchConfiguration("namespace"),
        "ros_arguments": ["--log-level", LaunchConfiguration("log_level")],
        "output": "screen",
    }
    calibration = Node(
        executable=CALIBRATION_NODE,
        name=CALIBRATION_NODE,
        parameters=[{"cell_file": os.path.abspath(file)}],
        remappings=frames,
        **common,
    )
    hands = Node(
        executable="hand_mesh_node",
        name="hand_mesh_node",
        parameters=[file, *([{"backend": backend}] if backend else [])],
        remappings=[*cell.remappings(argument("camera_namespace")), *frames],
        **common,
    )
    calibrated = [camera.name for camera in cell.cameras if camera.calibrated]
    named = ", ".join(camera.name for camera in cell.cameras)
    told = f"cameras: {named}; calibrated by the file: {', '.join(calibrated) or 'none'}"
    return [LogInfo(msg=told), *([calibration] if calibrated else []), hands]
