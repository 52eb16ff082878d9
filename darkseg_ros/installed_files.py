"""Where the files beside the code lie: launch files, configuration, shipped bundles."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from darkseg_ros.errors import InputError

PACKAGE = "darkseg_ros"
DEFAULT_BUNDLE = "darkseg_slim"


def share_directory() -> Path:
    """The folder that holds ``launch/``, ``config/`` and ``engines/``.

    That is the checkout's root when this module runs from the checkout, else the ament share directory of the
    installed package. The checkout comes first because code and files must be of one version, also when some
    other version of the package is installed and sourced.

    Raises:
        InputError: if the package is neither run from a checkout nor installed where ament finds it.
    """
    # resolved, because `colcon build --symlink-install` leads here by a link in its build folder
    beside_package = Path(__file__).resolve().parent.parent
    if (beside_package / "package.xml").is_file():
        return beside_package
    return _ament_share_directory(beside_package)


def default_bundle() -> Path:
    """The bundle that is used when none is named.

    Raises:
        InputError: if this installation came without it.
    """
    bundle = share_directory() / "engines" / DEFAULT_BUNDLE
    if not (bundle / "model.json").is_file():
        raise InputError(
            f"expected the shipped bundle at {bundle}, found no model.json there; "
            f"name another with --bundle, or build the package from a complete checkout"
        )
    return bundle


def bundle_folder(given: str | Path | None) -> Path:
    """The bundle that a user names by its folder, or a shipped one by its name alone, such as darkseg_accurate.

    Args:
        given: None or empty takes the default. A folder goes before a shipped bundle of the same name.

    Raises:
        InputError: as `default_bundle`.
    """
    if not given:
        return default_bundle()
    folder = Path(given)
    if len(folder.parts) == 1 and not folder.exists():
        shipped = share_directory() / "engines" / folder.name
        if (shipped / "model.json").is_file():
            return shipped
    return folder


def package_version() -> str:
    """As package.xml says it.

    Raises:
        InputError: as `share_directory`.
    """
    version = ElementTree.parse(share_directory() / "package.xml").findtext("version")
    assert version is not None, "package.xml has no version"
    return version


def _ament_share_directory(beside_package: Path) -> Path:
    not_found = (
        f"expected the files of {PACKAGE} in a checkout at {beside_package} or in an ament share directory, "
        f"found neither; source the workspace that the package is installed in"
    )
    try:
        from ament_index_python.packages import get_package_share_directory
    except ImportError as error:
        raise InputError(f"{not_found} (ament_index_python: {error})") from error
    try:
        return Path(get_package_share_directory(PACKAGE))
    except (LookupError, OSError) as error:
        # LookupError: not in the index; OSError: AMENT_PREFIX_PATH is unset
        raise InputError(f"{not_found} (ament_index_python: {error})") from error
