"""What this program is."""

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    """Return the version of the installed package, or say that it runs from its source."""
    try:
        return version("diffdp")
    except PackageNotFoundError:
        return "source"
