"""Readers of recordings and data sets; nothing here knows ROS."""

from hand_mesh_ros.data.recordings import BadRecording, Recording, open_recording

__all__ = ["BadRecording", "Recording", "open_recording"]
