"""Installs the vehicle's part, `darkseg_ros`, with its launch files, configuration and bundles."""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, find_packages, setup

PACKAGE = "darkseg_ros"
SHARE = f"share/{PACKAGE}"
ROOT = Path(__file__).resolve().parent


def files_in(folder: str) -> list[str]:
    """Files directly in a folder of the checkout, relative to its root as setuptools wants them."""
    return sorted(f"{folder}/{path.name}" for path in (ROOT / folder).iterdir() if path.is_file())


def bundles() -> list[str]:
    """Folders of the shipped bundles, such as ``engines/darkseg_slim``."""
    return sorted(f"engines/{path.parent.name}" for path in (ROOT / "engines").glob("*/model.json"))


FINISH = f"{PACKAGE}/model/backends/finish"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Nighttime semantic segmentation for driver assistance: a night camera in, class maps out.",
    license="Apache-2.0",
    maintainer="darkseg_ros maintainers",
    maintainer_email="maintainers@darkseg.example",
    python_requires=">=3.10",
    # `training` and `engines` run from the checkout: their names are too general to install.
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={f"{PACKAGE}.pictures": ["templates/*"]},
    # Loaded by ctypes: plain C without Python's headers. Without a compiler the package installs and is slower.
    ext_modules=[
        Extension(
            f"{FINISH.replace('/', '.')}._kernel",
            sources=[f"{FINISH}/kernel.c"],
            depends=[f"{FINISH}/kernel_body.h"],
            extra_compile_args=["-O3", "-ffp-contract=off", "-Wno-psabi"],
            optional=True,
        ),
        *(
            Extension(
                f"{PACKAGE}.model._{name}",
                sources=[f"{PACKAGE}/model/{name}.c"],
                extra_compile_args=["-O3"],
                optional=True,
            )
            for name in ("exposure_table", "stretch")
        ),
    ],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", files_in("launch")),
        *((f"{SHARE}/{folder}", files_in(folder)) for folder in ("config", "config/security")),
        *((f"{SHARE}/{bundle}", files_in(bundle)) for bundle in bundles()),
    ],
    install_requires=["setuptools"],
    # colcon picks pytest as the test runner by this entry.
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "darkseg = darkseg_ros.commands.cli:main",
            "build_plan = darkseg_ros.commands.build_plan:main",
            "segmentation_node = darkseg_ros.nodes.segmentation_node:main",
            "overlay_node = darkseg_ros.nodes.overlay_node:main",
            "evaluation_node = darkseg_ros.nodes.evaluation_node:main",
            "day2night_node = darkseg_ros.nodes.day2night_node:main",
        ],
    },
)
