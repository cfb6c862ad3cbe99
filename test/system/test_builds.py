"""The two builds of one tree, colcon's and pip's, install the same package and talk to each other.

Each build runs for real, once for all tests: about a minute together.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from hand_mesh_ros.ros.environment import child_environment

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SITE = sysconfig.get_paths()["purelib"]
PROGRAMS = {
    "hand_mesh_node",
    "hand_edge_node",
    "camera_cell_node",
    "cell_calibration_node",
    "servo_bridge_node",
    "hand-mesh",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BIN / "colcon").exists(),
        reason="no colcon in this environment: pip install 'hand-mesh-ros[colcon]'",
    ),
]

# Numba would compile the solver anew for this place, which takes a minute and is tested elsewhere.
IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, re
os.environ["NUMBA_DISABLE_JIT"] = "1"
import hand_mesh_ros, hand_mesh_ros.msg, hand_mesh_ros.ros
names = [module.name for module in pkgutil.walk_packages(hand_mesh_ros.__path__, "hand_mesh_ros.")]
names = [name for name in names if not re.search("_s__|_fallback|[.]lib", name)]
print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))
"""

PUBLISH = """
import sys, time
import hand_mesh_ros.ros, rclpy
from hand_mesh_ros.msg import Hand, HandArray

hand = Hand(track_id=41, side=Hand.RIGHT)
hand.joint_covariance[125] = 0.5
hand.mano.model_id = sys.argv[1]
rclpy.init()
publisher = (node := rclpy.create_node("publisher")).create_publisher(HandArray, "hands", 1)
for _ in range(600):  # the test ends this process as soon as the message was heard
    publisher.publish(HandArray(views=["left", "right"], hands=[hand]))
    time.sleep(0.1)
"""

SUBSCRIBE = """
import json, sys, time
import hand_mesh_ros.ros, rclpy
from hand_mesh_ros.msg import Hand, HandArray

heard = []
rclpy.init()
node = rclpy.create_node("subscriber")
node.create_subscription(HandArray, "hands", heard.append, 1)
end = time.monotonic() + 40
while not heard and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.2)
assert heard, "nothing heard in 40 s"
hand = heard[0].hands[0]
print(json.dumps({
    "views": list(heard[0].views), "track_id": hand.track_id, "is_right": hand.side == Hand.RIGHT,
    "last_covariance": float(hand.joint_covariance[125]), "sender": hand.mano.model_id,
    "sent_type": str(node.get_publishers_info_by_topic("hands")[0].topic_type_hash),
    "own_type": str(node.get_subscriptions_info_by_topic("hands")[0].topic_type_hash),
}))
"""


@dataclass(frozen=True)
class Build:
    """An installed build: where it is, and the words that start its Python."""

    prefix: Path
    python: tuple[str, ...]

    def start(self, code: str, *arguments: str, domain_id: int = 0) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.python, "-c", code, *arguments],
            cwd=self.prefix,
            env=child_environment(domain_id),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def output(self, code: str, *, domain_id: int = 0) -> str:
        process = self.start(code, domain_id=domain_id)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out


def checked(*command: str | Path, **variables: str) -> None:
    result = subprocess.run(
        [str(word) for word in command],
        env=child_environment() | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


@pytest.fixture(scope="module")
def colcon_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The tree built as in any workspace; its setup file is sourced to use it."""
    work = tmp_path_factory.mktemp("colcon")
    checked(
        *(BIN / "colcon", "--log-base", work / "log", "build", "--base-paths", ROOT),
        *("--build-base", work / "build", "--install-base", work / "install"),
        PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
        AMENT_PREFIX_PATH=sys.prefix,
        CMAKE_PREFIX_PATH=sys.prefix,
    )
    setup = work / "install" / "local_setup.bash"
    source = ("bash", "-c", 'source "$0" && exec "$@"', str(setup), sys.executable)
    return Build(work / "install" / "hand_mesh_ros", source)


@pytest.fixture(scope="module")
def pip_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`pip install .` in a new environment, which borrows the dependencies of this one."""
    prefix = tmp_path_factory.mktemp("pip") / "venv"
    venv.create(prefix, symlinks=True)
    python = prefix / "bin" / "python"
    checked(
        *(BIN / "python", "-m", "pip", "--python", python),
        *("install", "--quiet", "--no-deps", "--disable-pip-version-check", ROOT),
    )
    paths = {"base": str(prefix), "platbase": str(prefix)}
    site = Path(
        sysconfig.get_path("purelib", "venv" if sys.version_info >= (3, 11) else None, paths)
    )
    (site / "borrowed.pth").write_text(f"{SITE}\n")
    return Build(prefix, (str(python),))


@pytest.fixture(params=["colcon", "pip"])
def build(request: pytest.FixtureRequest) -> Build:
    found: Build = request.getfixturevalue(f"{request.param}_build")
    return found


def test_messages_and_modules_import_from_the_installation(build: Build) -> None:
    modules: dict[str, str] = json.loads(build.output(IMPORT_EVERYTHING))
    assert {"hand_mesh_ros.msg", "hand_mesh_ros.types", "hand_mesh_ros.ros"} <= set(modules)
    elsewhere = [file for file in modules.values() if build.prefix not in Path(file).parents]
    assert not elsewhere


def test_everything_in_the_source_package_is_installed(build: Build) -> None:
    made = re.compile(r"__pycache__|_fallback|\.so$|^hand_mesh_ros/msg/")
    files = [path.relative_to(ROOT) for path in (ROOT / "hand_mesh_ros").rglob("*.*")]
    wanted = [path for path in files if (ROOT / path).is_file() and not made.search(str(path))]
    assert wanted
    (site,) = {path.parents[1] for path in build.prefix.glob("lib/python*/*/hand_mesh_ros/msg")}
    assert not [name for name in wanted if not (site / name).is_file()]


def test_ros_tools_find_it(build: Build) -> None:
    index = build.prefix / "share" / "ament_index" / "resource_index"
    assert (index / "packages" / "hand_mesh_ros").is_file()
    listed = set((index / "rosidl_interfaces" / "hand_mesh_ros").read_text().split())
    share = build.prefix / "share" / "hand_mesh_ros"
    definitions = {f"msg/{path.name}" for path in (ROOT / "msg").glob("*.msg")}
    assert definitions <= listed
    assert all((share / name).is_file() for name in definitions | {"package.xml"})
    for directory in ("launch", "config"):
        files = [path for path in (ROOT / directory).rglob("*") if path.is_file()]
        files = [path for path in files if "__pycache__" not in path.parts]
        assert all((share / path.relative_to(ROOT)).is_file() for path in files)


def test_programs_can_be_started(build: Build) -> None:
    programs = list((build.prefix / "lib" / "hand_mesh_ros").iterdir())
    assert {program.name for program in programs} == PROGRAMS
    for program in programs:
        assert os.access(program, os.X_OK)
        modules = [line for line in program.read_text().splitlines() if line.startswith("from ")]
        build.output(modules[0])


@pytest.mark.parametrize("sender", ["colcon", "pip"])
def test_nodes_of_both_builds_hear_each_other(
    colcon_build: Build, pip_build: Build, sender: str
) -> None:
    both = {"colcon": colcon_build, "pip": pip_build}
    (listener,) = set(both) - {sender}
    domain_id = 1 + os.getpid() % 99
    publisher = both[sender].start(PUBLISH, sender, domain_id=domain_id)
    try:
        heard = json.loads(both[listener].output(SUBSCRIBE, domain_id=domain_id))
    finally:
        publisher.terminate()
        publisher.communicate(timeout=20)
    assert heard.pop("sent_type") == heard.pop("own_type")
    assert heard == {
        "views": ["left", "right"],
        "track_id": 41,
        "is_right": True,
        "last_covariance": 0.5,
        "sender": sender,
    }


def test_without_a_compiler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hand_mesh_ros.ros import rosidl_build

    monkeypatch.setenv("CC", str(tmp_path / "no-gcc"))
    definition = tmp_path / "Number.msg"
    definition.write_text("float32 value\n")
    package = rosidl_build.InterfacePackage("number_msgs", (definition,), ())
    with pytest.raises(RuntimeError, match=r"no-gcc.*apt-get install gcc g\+\+"):
        rosidl_build.build(package, tmp_path / "number_msgs")
