"""The version, from the installed package's metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("stylebench")
except PackageNotFoundError:  # run from a bare checkout
    __version__ = "0+checkout"
