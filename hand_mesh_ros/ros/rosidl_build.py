"""Generate and compile a ROS interface package without CMake, for `pip install`.

`setup.py` loads this file by its path inside pip's build environment, and CMake runs it, so it
imports nothing of `hand_mesh_ros`. The rosidl generators of the environment write the code; the C
and C++ compilers make, beside the generated Python modules, the same libraries that CMake would:

    <package>/msg/*.py                                   message classes
    <package>/msg/lib<package>__rosidl_*.so              C structures and type supports
    <package>/<package>_s__rosidl_typesupport_c.*.so     what rclpy imports
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# rmw_fastrtps opens the introspection type support besides its own, so both are built.
TYPE_SUPPORTS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
RUNTIME_LIBRARIES = (
    "rosidl_typesupport_c", "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_fastrtps_cpp",
    "rosidl_typesupport_introspection_c", "rosidl_runtime_c", "rcutils", "rmw", "fastcdr",
)  # fmt: skip


@dataclass(frozen=True)
class InterfacePackage:
    """A set of messages: `files` (.msg), of ROS package `name`, using messages of `dependencies`.

    `dependencies` must be complete: packages that dependencies depend on are listed too.
    """

    name: str
    files: tuple[Path, ...]
    dependencies: tuple[str, ...]


def build(package: InterfacePackage, destination: Path) -> list[Path]:
    """Write the importable package into `destination` (made if absent); return the files written.

    Files are replaced, never rewritten in place: a process that has mapped the old library
    keeps it.

    Raises RuntimeError, naming the Debian package to install, if there is no compiler, and with
    the compiler's own words if it fails.
    """
    prefix = _ros_prefix()
    with tempfile.TemporaryDirectory(prefix="rosidl_build_") as directory:
        work = Path(directory)
        stages = _generate(package, prefix, work)
        *libraries, extension = _compile(package, stages, prefix, work / "lib")
        inner = [*sorted((stages["python"] / "msg").glob("*.py")), *libraries]
        written = [_replace(file, destination / "msg" / file.name) for file in inner]
        return [*written, _replace(extension, destination / extension.name)]


def build_tf2_msgs(destination: Path) -> list[Path]:
    """Write `tf2_msgs` with its TFMessage, for ROS from wheels, which lack it; see `build`.

    The type is defined by its one field: it is the same type, by hash, as the distribution's.
    """
    with tempfile.TemporaryDirectory(prefix="tf2_msgs_") as directory:
        definition = Path(directory) / "TFMessage.msg"
        definition.write_text("geometry_msgs/TransformStamped[] transforms\n")
        dependencies = ("builtin_interfaces", "std_msgs", "geometry_msgs")
        written = build(InterfacePackage("tf2_msgs", (definition,), dependencies), destination)
    (destination / "__init__.py").touch()
    return [*written, destination / "__init__.py"]


def _ros_prefix() -> Path:
    """Return the prefix that holds the rosidl generators, and put it on AMENT_PREFIX_PATH."""
    import ament_index_python

    # <prefix>/lib/pythonX.Y/site-packages/ament_index_python/__init__.py
    prefix = Path(ament_index_python.__file__).resolve().parents[4]
    known = os.environ.get("AMENT_PREFIX_PATH", "")
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(filter(None, (str(prefix), known)))
    return prefix


def _generate(package: InterfacePackage, prefix: Path, work: Path) -> dict[str, Path]:
    """Run the generators; return the output directory of each stage."""
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    definitions = work / "share" / package.name
    for file in package.files:
        target = definitions / "msg" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        convert_msg_to_idl(definitions, package.name, Path("msg") / file.name, target.parent)

    interfaces = [f"{definitions}:msg/{file.stem}.idl" for file in package.files]
    share = [str(prefix / "share" / name) for name in package.dependencies] + [str(definitions)]
    # The generated sources include each other as <package>/msg/..., from include roots.
    stages = {
        stage: work / stage / package.name
        for stage in ("hashes", "c", "dispatch", "introspection", "fastrtps", "python")
    }

    hashes = HashTypeDescription("hash").generate_type_hashes(
        package.name, interfaces, share, stages["hashes"]
    )
    GenerateC("c").generate(package.name, interfaces, share, stages["c"], hashes)
    generators = {
        "dispatch": GenerateCTypesupport("c", typesupport_implementations=list(TYPE_SUPPORTS)),
        "introspection": GenerateIntrospectionCTypesupport("introspection_c"),
        "fastrtps": GenerateFastRTPSCTypesupport("fastrtps_c"),
        "python": GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]),
    }
    for stage, generator in generators.items():
        generator.generate(package.name, interfaces, share, stages[stage])
    return stages


def _compile(
    package: InterfacePackage, stages: dict[str, Path], prefix: Path, output: Path
) -> list[Path]:
    """Compile the generated sources into `output`; return the four libraries and the extension."""
    output.mkdir()
    libraries = {
        stage: output / f"lib{package.name}__{kind}.so"
        for stage, kind in {
            "c": "rosidl_generator_c",
            "introspection": "rosidl_typesupport_introspection_c",
            "fastrtps": "rosidl_typesupport_fastrtps_c",
            "dispatch": "rosidl_typesupport_c",
        }.items()
    }
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    libraries["python"] = output / f"{package.name}_s__rosidl_typesupport_c{suffix}"

    objects = _compile_objects({stage: stages[stage] for stage in libraries}, prefix)
    theirs = _library_options(package.dependencies)
    ours: list[str] = []  # each library may use those before it
    for stage, library in libraries.items():
        # The dispatching library opens the type supports by name, at run time: they are found
        # because they are loaded already, which they are because they are needed.
        links = ["-Wl,--no-as-needed", *ours, "-Wl,--as-needed", *theirs]
        paths = [f"-L{output}", f"-L{prefix / 'lib'}", "-Wl,-rpath,$ORIGIN:$ORIGIN/msg"]
        command = [*_compiler("CXX", "g++"), "-shared", f"-Wl,-soname,{library.name}"]
        _run(*command, "-o", library, *objects[stage], *paths, *links)
        ours.append(f"-l:{library.name}")
    return list(libraries.values())


def _compile_objects(stages: dict[str, Path], prefix: Path) -> dict[str, list[Path]]:
    import numpy

    roots = [directory.parent for directory in stages.values()]
    roots += [prefix / "include", *sorted((prefix / "include").glob("*/"))]
    roots += [Path(sysconfig.get_paths()["include"]), Path(numpy.get_include())]
    flags = ["-c", "-fPIC", "-O2", "-w", *(f"-I{root}" for root in roots)]
    sources = {
        stage: sorted(path for path in directory.rglob("*") if path.suffix in (".c", ".cpp"))
        for stage, directory in stages.items()
    }

    def compile_one(source: Path) -> None:
        is_cpp = source.suffix == ".cpp"
        compiler = _compiler("CXX", "g++") if is_cpp else _compiler("CC", "gcc")
        standard = "-std=c++17" if is_cpp else "-std=gnu11"
        _run(*compiler, standard, *flags, source, "-o", source.with_suffix(".o"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, (source for group in sources.values() for source in group)))
    return {
        stage: [source.with_suffix(".o") for source in group] for stage, group in sources.items()
    }


def _library_options(dependencies: Iterable[str]) -> list[str]:
    kinds = ("rosidl_generator_c", "rosidl_generator_py", "rosidl_typesupport_c", *TYPE_SUPPORTS)
    names = [f"lib{name}__{kind}.so" for name in dependencies for kind in kinds]
    names += [f"lib{name}.so" for name in RUNTIME_LIBRARIES]
    return [f"-l:{name}" for name in names]


def _compiler(variable: str, default: str) -> list[str]:
    return shlex.split(os.environ.get(variable, "")) or [default]


def _run(*command: str | Path) -> None:
    words = [str(word) for word in command]
    try:
        result = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(
            f"The compiler {words[0]!r} was not found, and the ROS messages cannot be built "
            "without it. Install it (Debian, Ubuntu: apt-get install gcc g++), or name another "
            "one by the environment variables CC and CXX."
        ) from error
    if result.returncode != 0:
        raise RuntimeError(
            f"Building the ROS messages failed: {shlex.join(words)}\n{result.stderr}\n"
            "A missing Python.h means that Python's development files are not installed "
            "(Debian, Ubuntu: apt-get install python3-dev)."
        )


def _replace(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    passing = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, passing)
    os.replace(passing, target)
    return target


if __name__ == "__main__":
    build_tf2_msgs(Path(sys.argv[1]))
