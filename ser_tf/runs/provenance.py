"""Provenance of a run: versions, backend, machine and commit."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

MODULES = ("tensorflow", "keras", "numpy", "sklearn", "soundfile", "soxr", "webrtcvad")
"""Modules that influence a result; each may come from one of several packages, such as tensorflow-cpu."""


def environment() -> dict[str, Any]:
    """Versions, backend and machine."""
    import keras

    return {
        "ser_tf": metadata.version("ser_tf"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _distributions()},
        "backend": keras.backend.backend(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@cache
def _distributions() -> list[str]:
    """The installed packages that contain `MODULES` and the backend."""
    import keras

    held_by = metadata.packages_distributions()
    modules = dict.fromkeys((*MODULES, keras.backend.backend()))
    return list(dict.fromkeys(name for module in modules for name in held_by.get(module, ())))


def commit() -> str | None:
    """Commit of the checkout that the package runs from; None for an installed wheel."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", __file__], capture_output=True, check=False
        )
        if tracked.returncode:
            return None
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
