"""Recordings of video files and images: small ones made here, and the shared data."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hand_mesh_ros.data import BadRecording, open_recording
from hand_mesh_ros.data.calibrations import plain_name, read_camera_yaml
from hand_mesh_ros.data.timetables import read_timestamps
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3

Image = NDArray[np.uint8]
MS = 1_000_000

# --------------------------------------------------------------------------- videos made here


def write_video(path: Path, levels: Sequence[int], size: tuple[int, int] = (64, 48)) -> None:
    """Plain grey frames of these levels; which frame is which can be read off its mean."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, size)
    assert writer.isOpened()
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, dtype=np.uint8))
    writer.release()


CAMERA = """
[cameras.{id}]
cam_id = {id}
ignore = {ignore}
size = [64, 48]
matrix = [[50.0, 0.0, 32.0], [0.0, 51.0, 24.0], [0.0, 0.0, 1.0]]
distortions = [0.1, 0.0, 0.0, 0.0, 0.0]
translation = [0.1, {id}.0, 2.0]
rotation = {rotation}
"""


def write_cell(
    folder: Path, rows: Sequence[str], films: dict[int, Sequence[int]], ignored: int = -1
) -> Path:
    text = ""
    for number, levels in films.items():
        vector = np.array([0.1, 0.2 * number, -0.3])
        rotation = vector if number % 2 else exp_so3(vector)  # both ways of writing it
        text += CAMERA.format(
            id=number, ignore=str(number == ignored).lower(), rotation=rotation.tolist()
        )
        if number != ignored:
            write_video(folder / f"cam_{number}.mp4", levels)
    (folder / "camera_array.toml").write_text(text)
    header = "sync_index,cam_id,frame_index,frame_time"
    (folder / "timestamps.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def levels_of(recording: Any) -> list[dict[str, int]]:
    """Per set, camera name -> grey level, rounded to the steps of ten that were written."""
    return [
        {f.camera.name: int(round(f.image.mean() / 10) * 10) for f in frame_set.frames}
        for frame_set in recording
    ]


def test_camera_array_folder(tmp_path: Path) -> None:
    rows = [
        "7,1,3,1700000000.123456789",
        "7,0,3,1700000000.120000001",
        "8,0,4,1700000000.22",
        "8,2,4,1700000000.22",
        "9,0,5,1700000000.32",
        "9,1,5,1700000000.324",
        "9,2,5,1700000000.32",
    ]
    films = {0: [50, 60, 70], 1: [100, 110], 2: []}
    recording = open_recording(write_cell(tmp_path, rows, films, ignored=2))
    assert [camera.name for camera in recording.cameras] == ["cam_0", "cam_1"]
    assert len(recording) == 3 and recording.fps == pytest.approx(1 / 0.1, rel=0.05)
    assert levels_of(recording) == [
        {"cam_0": 50, "cam_1": 100},
        {"cam_0": 60},  # camera 1 dropped it: absent, and its next row is its video's next frame
        {"cam_0": 70, "cam_1": 110},
    ]
    stamps = [[frame.stamp_ns for frame in frame_set.frames] for frame_set in recording]
    assert stamps[0] == [1700000000_120000001, 1700000000_123456789]
    for camera in recording.cameras:
        number = int(camera.name[-1])
        R = camera.T_camera_world[:3, :3]
        np.testing.assert_allclose(log_so3(R), [0.1, 0.2 * number, -0.3], atol=1e-12)
        np.testing.assert_allclose(camera.T_camera_world[:3, 3], [0.1, number, 2.0])
        assert camera.frame_id == f"{camera.name}_optical_frame"


@pytest.mark.parametrize(
    ("indices", "count", "positions"),
    [
        ([26, 27, 28], 3, [0, 1, 2]),  # the video begins with the first row
        ([26, 28, 29], 3, [0, 1, 2]),  # and holds only the rows' frames
        ([26, 28, 29], 4, [0, 2, 3]),  # or the dropped one too
        ([26, 28, 29], 40, [26, 28, 29]),  # or everything since the camera was started
        ([26, 27, 28], 2, [0, 1, 2]),  # a video cut off at its end
    ],
)
def test_which_row_is_which_frame(
    tmp_path: Path, indices: list[int], count: int, positions: list[int]
) -> None:
    path = tmp_path / "timestamps.csv"
    rows = [f"{i},0,{index},{i / 10}" for i, index in enumerate(indices)]
    path.write_text("\n".join(["sync_index,cam_id,frame_index,frame_time", *rows]))
    timetable = read_timestamps(path, {"0": count})
    assert [shot.position for shots in timetable for shot in shots] == positions


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0,0,0,x"], "after 0 rows"),
        (["0,0,0"], "no row for cameras 0"),
        (["0,3,0,1.0"], "no row for cameras 0"),
        (["0,0,0,1.0", "1,0,0,1.1"], "frame_index does not increase"),
        (["0,0,0,1.1", "1,0,1,1.0"], "frame_time does not increase"),
        (["0,0,0,1.0", "1,0,5,1.1"], "do not fit a video of 3 frames"),
    ],
)
def test_broken_timestamps_are_refused(tmp_path: Path, rows: list[str], words: str) -> None:
    path = tmp_path / "timestamps.csv"
    path.write_text("\n".join(["sync_index,cam_id,frame_index,frame_time", *rows]))
    with pytest.raises(BadRecording, match=f"timestamps.csv.*{words}"):
        read_timestamps(path, {"0": 3})


def test_broken_cells_are_refused(tmp_path: Path) -> None:
    folder = write_cell(tmp_path, ["0,0,0,1.0"], {0: [50]})
    toml = folder / "camera_array.toml"
    good = toml.read_text()
    for old, new, words in [
        ("[cameras.0]", "[cameras", "camera_array.toml: cannot be read"),
        ("matrix =", "matrices =", "KeyError.*matrix"),
        ("ignore = false", "ignore = true", "no camera is left"),
        ("[[50.0", "[[0.0", r"cameras.0\]: the camera is not calibrated"),
        ("size = [64, 48]", "size = [640, 480]", "cam_0.mp4: image is 64x48"),
    ]:
        toml.write_text(good.replace(old, new))
        with pytest.raises(ValueError, match=words):
            list(open_recording(folder))
    toml.write_text(good)
    (folder / "timestamps.csv").unlink()
    with pytest.raises(BadRecording, match="timestamps.csv: .*sync_index"):
        open_recording(folder)
    (folder / "cam_0.mp4").unlink()
    with pytest.raises(BadRecording, match="expected one video of camera 0 .*found none"):
        open_recording(folder)


def test_board_camera_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, levels in {0: [50, 60, 70], 1: [100, 110]}.items():
        write_video(tmp_path / f"cam{number}_left.mp4", levels)
        (tmp_path / f"c{number}.dat").write_text(
            "intrinsic:\n50 0 32\n0 51 24\n0 0 1\ndistortion:\n0.1 0 0 0 0\n"
        )
        R = exp_so3(np.array([0, 0, 0.5 * number]))
        block = "R:\n{}\nT:\n{}\n2\n10\n".format(
            "\n".join(" ".join(map(str, r)) for r in R), number
        )
        second = "# from camera 0\nR:\n1 0 0\n0 1 0\n0 0 1\nT:\n9\n9\n9\n"
        (tmp_path / f"rot_trans_c{number}.dat").write_text(block + second)
    with caplog.at_level(logging.WARNING):
        recording = open_recording(tmp_path)
    assert "assuming 0.036 m" in caplog.text
    last = recording.cameras[1].T_camera_world
    np.testing.assert_allclose(last[:3, 3], [0.036, 0.072, 0.36])
    np.testing.assert_allclose(log_so3(last[:3, :3]), [0, 0, 0.5], atol=1e-12)
    assert levels_of(recording) == [
        {"cam0": 50, "cam1": 100},
        {"cam0": 60, "cam1": 110},
        {"cam0": 70},
    ]
    assert [s.stamp_ns for s in recording] == [100 * MS, 200 * MS, 300 * MS]
    caplog.clear()
    halved = open_recording(tmp_path, unit_m=0.018, fps=20.0)
    assert not caplog.text and halved.fps == 20.0
    np.testing.assert_allclose(halved.cameras[1].centre, recording.cameras[1].centre / 2)


YAML = """
image_width: 64
image_height: 48
camera_name: left
camera_matrix: {rows: 3, cols: 3, data: [50, 0, 32, 0, 51, 24, 0, 0, 1]}
distortion_model: equidistant
distortion_coefficients: {rows: 1, cols: 4, data: [0.1, 0.01, 0, 0]}
"""


def test_one_video_with_and_without_calibration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = tmp_path / "my film-2.mp4"
    write_video(video, [50, 60])
    with caplog.at_level(logging.WARNING):
        assumed: Any = open_recording(video)
    assert assumed.assumed_intrinsics and "60 degrees" in caplog.text
    (camera,) = assumed.cameras
    assert camera.name == "my_film_2"
    edges = np.array([[-0.5, 23.5], [63.5, 23.5]])  # the picture's borders, half a pixel out
    angles = np.arctan((edges[:, 0] - camera.K[0, 2]) / camera.K[0, 0])
    assert np.diff(angles) == pytest.approx(math.radians(60))
    assert levels_of(assumed) == [{"my_film_2": 50}, {"my_film_2": 60}]

    calibration = tmp_path / "left.yaml"
    calibration.write_text(YAML)
    known: Any = open_recording(tmp_path, calibration=calibration)  # the folder's only video
    assert not known.assumed_intrinsics
    assert known.cameras[0].distortion == "equidistant" and known.cameras[0].K[1, 1] == 51
    calibration.write_text(YAML.replace("image_width: 64", "image_width: 65"))
    with pytest.raises(BadRecording, match="left.yaml: calibrated for 65x48.* are 64x48"):
        open_recording(video, calibration=calibration)
    calibration.write_text("just text")
    with pytest.raises(BadRecording, match="left.yaml: not a camera calibration"):
        read_camera_yaml(calibration, "left")


def test_folder_of_images(tmp_path: Path, rng: np.random.Generator) -> None:
    sizes = {"im10.png": (48, 64), "im2.png": (48, 64), "im1.png": (48, 64), "im11.png": (20, 30)}
    images = {n: rng.integers(0, 256, (*s, 3), dtype=np.uint8) for n, s in sizes.items()}
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / name), image[..., ::-1])
    recording = open_recording(tmp_path, fps=5.0)
    frames = [frame_set.frames[0] for frame_set in recording]
    for frame, name in zip(frames, ["im1.png", "im2.png", "im10.png", "im11.png"], strict=True):
        np.testing.assert_array_equal(frame.image, images[name])
        assert frame.image.shape[:2] == (frame.camera.height, frame.camera.width)
    assert [f.stamp_ns for f in frames] == [200 * MS, 400 * MS, 600 * MS, 800 * MS]
    single = open_recording(tmp_path / "im2.png")
    assert len(single) == 1 and single.name == "im2"
    (tmp_path / "calibration.yaml").write_text(YAML)
    with pytest.raises(BadRecording, match="im11.png: image is 30x20 .* 64x48"):
        list(open_recording(tmp_path, calibration=tmp_path / "calibration.yaml"))


def test_what_cannot_be_opened_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="nowhere: no such file"):
        open_recording(tmp_path / "nowhere")
    with pytest.raises(BadRecording, match="nothing that can be played.*camera_array.toml"):
        open_recording(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadRecording, match="notes.txt: unknown kind"):
        open_recording(tmp_path / "notes.txt")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(BadRecording, match="broken.mp4: OpenCV cannot open"):
        open_recording(tmp_path / "broken.mp4")
    write_video(tmp_path / "other.mp4", [10])
    with pytest.raises(BadRecording, match="2 videos without calibration"):
        open_recording(tmp_path)


@given(st.text())
def test_plain_names_can_be_topics(text: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", plain_name(text))


# --------------------------------------------------------------------------- the shared data


def skin(image: Image, uv: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether pixels have a skin tone (YCrCb box of Chai and Ngan, 1999)."""
    height, width = image.shape[:2]
    u, v = np.clip(np.round(uv).astype(int), 0, [width - 1, height - 1]).T
    _, cr, cb = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[v, u].astype(int).T
    return (cr > 133) & (cr < 180) & (cb > 77) & (cb < 135)


def test_four_cameras(shared_data: Path) -> None:
    recording = open_recording(shared_data / "four-cameras")
    reference = np.load(shared_data / "four-cameras" / "landmarks.npz")
    assert len(recording) == 111 and recording.fps == pytest.approx(6, abs=0.05)
    for i, camera in enumerate(recording.cameras):
        np.testing.assert_allclose(camera.K, reference["K"][i])
        np.testing.assert_allclose(camera.D, reference["D"][i])
        np.testing.assert_allclose(camera.T_camera_world[:3, :3], reference["R"][i])
        np.testing.assert_allclose(camera.T_camera_world[:3, 3], reference["T"][i])
        # The reference triangulation reprojects onto the reference pixels through our cameras.
        offset = project(camera, reference["xyz_m"]) - reference["uv_px"][:, i]
        assert np.nanmedian(np.linalg.norm(offset, axis=2)) < 8
    hits: dict[tuple[int, int], list[bool]] = {}
    previous = 0
    for n, frame_set in enumerate(recording):
        assert len(frame_set.frames) == 4 and frame_set.spread < 1 / 12
        assert frame_set.stamp_ns > previous
        previous = frame_set.stamp_ns
        if n == 0:
            stamps = [frame.stamp_ns for frame in frame_set.frames]
            assert stamps == [123337921000, 123334808300, 123334945700, 123335926600]
        for i, frame in enumerate(frame_set.frames):
            for shift in (-1, 0, 1):
                uv = reference["uv_px"][reference["frame"] == n + shift, i].reshape(-1, 2)
                uv = uv[~np.isnan(uv).any(1)]
                hits.setdefault((i, shift), []).extend(skin(frame.image, uv).tolist())
    # Frame n of each video is row n: its landmarks lie on skin, a frame earlier or later fewer do.
    for i in range(4):
        here = np.mean(hits[i, 0])
        assert here > 0.95
        assert max(np.mean(hits[i, -1]), np.mean(hits[i, 1])) < here - 0.05


def test_two_cameras(shared_data: Path) -> None:
    recording = open_recording(shared_data / "two-cameras", unit_m=0.036)
    reference = np.load(shared_data / "two-cameras" / "landmarks.npz")
    assert len(recording) == 378 and recording.fps == 30
    for i, camera in enumerate(recording.cameras):
        np.testing.assert_allclose(camera.K, reference["K"][i])
        np.testing.assert_allclose(camera.D, reference["D"][i])
        np.testing.assert_allclose(camera.T_camera_world[:3, :3], reference["R"][i], atol=1e-7)
        translation = np.ravel(reference["T"][i]) * 0.036
        np.testing.assert_allclose(camera.T_camera_world[:3, 3], translation)
    first = next(iter(recording))
    assert [frame.image.shape for frame in first.frames] == [(720, 720, 3)] * 2
    assert first.stamp_ns == round(1e9 / 30)


def test_one_camera_video_and_photographs(shared_data: Path) -> None:
    video: Any = open_recording(shared_data / "one-camera-video")
    assert len(video) == 621 and video.assumed_intrinsics
    photographs = open_recording(shared_data / "gestures" / "call")
    assert sum(1 for _ in photographs) == len(photographs) == 10
