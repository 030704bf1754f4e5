"""Machine and versions behind the numbers."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Machine, load and versions. Imports TensorFlow."""
    import tensorflow as tf

    from ser_tf.runs.provenance import environment

    made_with = environment()
    made_with["packages"]["librosa"] = metadata.version("librosa")
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{made_with['machine']}, {_processor()}, {memory_gib:.0f} GiB memory, {', '.join(gpus) or 'no GPU'}"
    return made_with | {"machine": machine, "load_average": os.getloadavg()[0]}


def _processor() -> str:
    """The CPU's name, which Python's `platform` does not know on Linux."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
