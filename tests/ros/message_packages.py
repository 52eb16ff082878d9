"""Message packages of other projects that are no wheels, made from their definitions as colcon would make them.

The generators and headers come with ROS 2's wheels; only their CMake files do not work there, so the compiler is called
from here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

PACKAGES = {
    "foxglove_msgs": {
        "CompressedVideo": "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    },
    "ffmpeg_image_transport_msgs": {
        "FFMPEGPacket": "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
        "bool is_bigendian\nuint8[] data\n"
    },
    "vision_msgs": {
        "VisionClass": "uint16 class_id\nstring class_name\n",
        "LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
    },
}
"""Definitions without their comments, by package and message."""

_DEPENDENCIES = ("builtin_interfaces", "std_msgs")
_TYPE_SUPPORTS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
_PARTS = ("rosidl_generator_c", "rosidl_generator_py", "rosidl_typesupport_c", *_TYPE_SUPPORTS)


def missing_tools() -> str:
    """What keeps messages from being made here; empty if nothing does."""
    try:
        import rosidl_adapter  # noqa: F401
        import rosidl_generator_py  # noqa: F401
        import rosidl_typesupport_fastrtps_c  # noqa: F401
    except ImportError as error:
        return f"ROS 2's generators are not installed ({error})"
    if not (Path(sys.prefix) / "share" / "rosidl_generator_c").is_dir():
        return f"ROS 2's generators are not those of its wheels; install {', '.join(PACKAGES)} of your distribution"
    return "" if shutil.which("g++") else "there is no C++ compiler g++"


def make_message_packages(into: Path) -> None:
    """Make all PACKAGES; `into` on the Python path makes them importable, in a few seconds.

    Raises:
        subprocess.CalledProcessError: if the compiler refuses; its words are in the output.
    """
    for package, definitions in PACKAGES.items():
        _generate(package, definitions, into)
        _compile(package, into)


def _generate(package: str, definitions: Mapping[str, str], into: Path) -> None:
    """The Python package, and the C and C++ sources of its libraries."""
    import rosidl_generator_c
    import rosidl_generator_type_description
    import rosidl_typesupport_c
    import rosidl_typesupport_fastrtps_c
    import rosidl_typesupport_introspection_c
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_cli.command.helpers import generate_visibility_control_file
    from rosidl_generator_py.generate_py_impl import generate_py

    share = Path(sys.prefix) / "share"
    made = into / ".sources"
    idl, headers = made / "idl" / package, made / package
    for name, definition in definitions.items():
        message = idl / "msg" / f"{name}.msg"
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_text(definition)
        convert_msg_to_idl(idl, package, message.relative_to(idl), idl / "msg")

    def arguments(generator: str, out: Path = headers) -> str:
        file = made / f"{package}_{generator}.json"
        content = {
            "package_name": package,
            "output_dir": str(out),
            "template_dir": str(share / generator / "resource"),
            "idl_tuples": [f"{idl}:msg/{name}.idl" for name in definitions],
            "ros_interface_files": [str(idl / "msg" / f"{name}.msg") for name in definitions],
            "type_description_tuples": [f"msg/{name}.idl:{headers}/msg/{name}.json" for name in definitions],
            "include_paths": [f"{each}:{share / each}" for each in _DEPENDENCIES],
            "target_dependencies": [],
        }
        file.write_text(json.dumps(content))
        return str(file)

    headers.mkdir()
    rosidl_generator_type_description.generate_type_hash(arguments("rosidl_generator_type_description"))
    rosidl_generator_c.generate_c(arguments("rosidl_generator_c"))
    rosidl_typesupport_fastrtps_c.generate_typesupport_fastrtps_c(arguments("rosidl_typesupport_fastrtps_c"))
    rosidl_typesupport_introspection_c.generate_c(arguments("rosidl_typesupport_introspection_c"))
    rosidl_typesupport_c.generate_c(arguments("rosidl_typesupport_c"), list(_TYPE_SUPPORTS))
    for generator in ("rosidl_generator_c", *_TYPE_SUPPORTS):
        template = share / generator / "resource" / f"{generator}__visibility_control.h.in"
        header = headers / "msg" / f"{generator}__visibility_control.h"
        generate_visibility_control_file(package_name=package, template_path=template, output_path=header)
    generate_py(arguments("rosidl_generator_py", into / package), ["rosidl_typesupport_c"])


def _compile(package: str, into: Path) -> None:
    """Each type support in a library of its own, since they are looked up by the libraries' names."""
    generated, library_folder = into / ".sources" / package, Path(sys.prefix) / "lib"
    fast, slow = (f"lib{package}__{each}.so" for each in _TYPE_SUPPORTS)
    sources = [file for folder in (generated, into / package) for file in folder.rglob("*.c*") if file.suffix != ".pyc"]
    by_introspection = [each for each in sources if each.suffix == ".c" and each.stem.endswith("__type_support")]
    to_python = [each for each in sources if each.is_relative_to(into / package)]
    rest = [each for each in sources if each not in (*by_introspection, *to_python)]
    needed = [f"lib{each}__{part}.so" for each in _DEPENDENCIES for part in _PARTS]
    needed += ["librosidl_runtime_c.so", "librosidl_typesupport_c.so", "libfastcdr.so"]
    installed = [f"-L{library_folder}", f"-Wl,-rpath,{library_folder}", *(f"-l:{each}" for each in needed)]
    beside = [f"-L{into / package}", "-Wl,-rpath,$ORIGIN", f"-l:{fast}"]
    extension = f"{package}_s__rosidl_typesupport_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    for library, content, linked in (
        (fast, rest, installed),
        (slow, by_introspection, [*beside, *installed]),
        (extension, to_python, ["-Wl,--no-as-needed", *beside, f"-l:{slow}", *installed]),
    ):
        objects = _objects(into / ".sources" / library, content, into)
        name = [f"-Wl,-soname,{library}", "-o", into / package / library]
        subprocess.run(["g++", "-shared", *objects, *linked, *name], check=True)


def _objects(stem: Path, sources: list[Path], into: Path) -> list[Path]:
    """Compiled sources, most of them as one: what takes longest is reading the headers."""
    import numpy as np

    include = Path(sys.prefix) / "include"
    headers = [into / ".sources", include, *include.iterdir(), sysconfig.get_path("include"), np.get_include()]
    alone = [each for each in sources if each.stem.endswith("__description")]  # they share static names
    objects = []
    for ending, compiler in ((".c", ["gcc"]), (".cpp", ["g++", "-std=c++17"])):
        united = stem.with_name(f"{stem.name}{ending}")
        content = [f'#include "{each}"\n' for each in sources if each.suffix == ending and each not in alone]
        united.write_text("".join(content))
        for source in (*([united] if content else []), *(each for each in alone if each.suffix == ending)):
            objects.append(source.with_name(f"{source.name}.o"))
            options = ["-c", "-fPIC", *(f"-I{each}" for each in headers)]
            subprocess.run([*compiler, *options, source, "-o", objects[-1]], check=True)
    return objects
