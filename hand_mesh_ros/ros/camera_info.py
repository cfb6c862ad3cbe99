"""``sensor_msgs/CameraInfo`` to a :class:`Camera` and back.

What the numbers mean (ROI, binning, pixel centres, rectification) is written, once, in
:mod:`hand_mesh_ros.geometry.intrinsics`. A ``BadCameraInfo`` names the topic and what is wrong.
"""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo

from hand_mesh_ros.geometry.intrinsics import BadCameraInfo, camera_from_info, size_mismatch
from hand_mesh_ros.ros.images import BadImage, header
from hand_mesh_ros.types import Camera, ImageArray

__all__ = ["BadCameraInfo", "camera_from_info", "camera_info_message", "check_size"]


def check_size(camera: Camera, image: ImageArray, image_topic: str, info_topic: str) -> None:
    """Refuse an image (H, W, ...) whose size is not its camera's; raises :class:`BadImage`."""
    if mismatch := size_mismatch(camera, image.shape):
        raise BadImage(f"{image_topic}: {mismatch}, says {info_topic}; refusing the image")


def camera_info_message(camera: Camera, stamp_ns: int) -> CameraInfo:
    """The CameraInfo of a camera: P = [K 0], R = I, no ROI or binning.

    An undistorted camera is written as ``plumb_bob`` with five zeros, which every consumer
    understands; twelve thin-prism coefficients as ``rational_polynomial``, which is how the
    drivers that have them name them and OpenCV reads them.
    """
    K = np.asarray(camera.K, dtype=np.float64)
    names = {"none": "plumb_bob", "thin_prism": "rational_polynomial"}
    return CameraInfo(
        header=header(stamp_ns, camera.frame_id),
        width=camera.width,
        height=camera.height,
        distortion_model=names.get(camera.distortion, camera.distortion),
        d=[0.0] * 5 if camera.distortion == "none" else camera.D.tolist(),
        k=K.reshape(-1).tolist(),
        r=np.eye(3).reshape(-1).tolist(),
        p=np.column_stack([K, np.zeros(3)]).reshape(-1).tolist(),
    )
