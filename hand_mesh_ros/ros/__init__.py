"""Everything that knows ROS. Importing it makes ROS from PyPI's wheels usable as it is."""

from hand_mesh_ros.ros.environment import prepare

prepare()
