"""The pip build: metadata is in pyproject.toml; this file builds messages and places ROS files.

`colcon build` does not use it (see CMakeLists.txt). Both builds install the same things.
"""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from setuptools import Distribution, Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
NAME = "hand_mesh_ros"
FALLBACK = f"{NAME}.ros._fallback"
MESSAGES = sorted(file.relative_to(ROOT) for file in (ROOT / "msg").glob("*.msg"))
PROGRAMS = {  # as in CMakeLists.txt
    "hand_mesh_node": f"{NAME}.ros.hand_mesh_node",
    "hand_edge_node": f"{NAME}.ros.edge_node",
    "camera_cell_node": f"{NAME}.ros.camera_cell_node",
    "cell_calibration_node": f"{NAME}.ros.cell_calibration_node",
    "servo_bridge_node": f"{NAME}.ros.servo_bridge_node",
    "hand-mesh": f"{NAME}.cli",
}


def scratch_directory() -> Path:
    """Return a directory that is removed when this process ends."""
    directory = Path(tempfile.mkdtemp(prefix=f"{NAME}_build_"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


SCRATCH = scratch_directory()


def load_rosidl_build() -> ModuleType:
    """Import the message builder by its path: its package is not installed yet."""
    path = ROOT / NAME / "ros" / "rosidl_build.py"
    spec = importlib.util.spec_from_file_location("rosidl_build", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildMessages(build_ext):
    """Generate and compile hand_mesh_ros.msg, and tf2_msgs for machines that have none."""

    def run(self) -> None:
        rosidl_build = load_rosidl_build()
        # An editable build leaves its products in the source tree.
        root = ROOT if self.inplace else Path(self.build_lib)
        messages = rosidl_build.InterfacePackage(
            name=NAME,
            files=tuple(ROOT / file for file in MESSAGES),
            dependencies=("builtin_interfaces", "std_msgs", "geometry_msgs"),
        )
        self.written = rosidl_build.build(messages, root / NAME)
        self.written += rosidl_build.build_tf2_msgs(root.joinpath(*FALLBACK.split("."), "tf2_msgs"))

    def get_source_files(self) -> list[str]:
        return [str(file) for file in MESSAGES]

    def get_outputs(self) -> list[str]:
        return [str(file) for file in self.written]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class DistributionWithData(Distribution):
    """Data files for editable installations too: setuptools asks for them by this name."""

    def has_data(self) -> bool:
        return self.has_data_files()


def programs() -> list[str]:
    """Write what `ros2 run` and launch files start."""
    template = (ROOT / NAME / "ros" / "program.in").read_text()
    for program, module in PROGRAMS.items():
        file = SCRATCH / program
        file.write_text(template.replace("@MODULE@", module))
        file.chmod(0o755)
    return [str(SCRATCH / program) for program in PROGRAMS]


def resource(kind: str, text: str) -> tuple[str, list[str]]:
    """Write an entry of the ament index, by which ROS tools find the package."""
    file = SCRATCH / kind / NAME
    file.parent.mkdir()
    file.write_text(text)
    return f"share/ament_index/resource_index/{kind}", [str(file)]


def tree(directory: str) -> list[tuple[str, list[str]]]:
    """List the files of a directory of the source, for installation under share/."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / directory).rglob("*"))
    files = [path for path in files if (ROOT / path).is_file() and "__pycache__" not in path.parts]
    return [(f"share/{NAME}/{path.parent}", [str(path)]) for path in files]


setup(
    packages=find_packages(include=[NAME, f"{NAME}.*"], exclude=[f"{NAME}.msg*", f"{FALLBACK}*"]),
    ext_modules=[Extension(f"{NAME}.{NAME}_s__rosidl_typesupport_c", [])],  # BuildMessages knows
    distclass=DistributionWithData,
    cmdclass={"build_ext": BuildMessages},
    data_files=[
        resource("packages", ""),
        resource("rosidl_interfaces", "\n".join(f"msg/{file.name}" for file in MESSAGES)),
        (f"share/{NAME}", ["package.xml"]),
        (f"lib/{NAME}", programs()),
        *tree("msg"),
        *tree("launch"),
        *tree("config"),
    ],
    # A build directory in the tree would carry files of earlier builds into this one.
    options={"build": {"build_base": str(SCRATCH / "build")}},
)
