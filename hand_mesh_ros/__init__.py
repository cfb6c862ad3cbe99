"""Metric hand poses, meshes and MANO parameters from calibrated cameras, for ROS 2."""

from pkgutil import extend_path

__version__ = "0.1.0"

# The generated `hand_mesh_ros.msg` may lie in another directory of the path than these modules:
# a source tree in front of a colcon installation must not hide it.
__path__ = extend_path(__path__, __name__)
