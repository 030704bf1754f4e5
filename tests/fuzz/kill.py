"""`make kill`: kill commands at random moments, start them again, and compare them with undisturbed ones.

    python -m tests.fuzz.kill [--kills 20] [--seed 0] [--command NAME]

Each command is killed that many times, at moments drawn evenly over its undisturbed duration, before it may end. Its
output must equal that of the undisturbed command.
"""

import argparse
import filecmp
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import onnx
import onnx.numpy_helper

from tests.fuzz.inputs import write_table

SMALL = """
spectrogram: {compression: log}
network:
  {width: 0.125, stem_stride: 2, final_pool_time_stride: 1, squeeze_reduction: 4, descriptor_size: 8, clusters: 2}
augmentation: {noise_probability: 0.5, time_stretch: 0.1, time_masks: 1, time_mask_frames: 5}
training: {crop_seconds: 0.5, crop_variation: 0.3, batch_size: 6, maximum_epochs: 6, patience_epochs: 6}
"""
TIMED = {"run.json", "checksums.sha256", "preparation.json", "provenance.json", "model_card.md"}
"""Files with times, paths or versions."""


def commands(corpus: Path, second: Path, preset: Path, out: Path) -> dict[str, list[str]]:
    """Arguments of each command; it writes into `out`."""
    common = ["--preset", str(preset)]
    return {
        "finetune": ["finetune", "--corpus", str(corpus), "--strategy", "S5", "--run", str(out), *common],
        "evaluate": ["evaluate", "--corpus", str(corpus), "--strategies", "S1", "--run", str(out), *common],
        "pretrain": [
            *("pretrain", "--task", "emotions", "--corpus", str(corpus), str(second), "--run", str(out)),
            *(*common, "--training.schedule", "cosine", "--training.steps", "40"),
        ],
        "prepare": ["prepare", "--corpus", str(corpus), "--out", str(out)],
        "export": ["export", str(corpus.parent.parent / "run"), str(out), "--format", "onnx"],
    }


def run_until(arguments: list[str], seconds: float | None) -> bool:
    """Run a command, and tell whether it ended before it was killed.

    Raises:
        RuntimeError: it ended with an error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "ser_tf", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        raise RuntimeError(f"ser-tf {' '.join(arguments)} ended with {process.returncode}:\n{output[-2000:]}")
    return True


def difference(one: Path, other: Path) -> str:
    """The first file that differs between two folders; empty if none does."""
    names = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (one, other)]
    names = [{name for name in side if "tensorboard" not in name.parts and name.name != ".lock"} for side in names]
    if names[0] != names[1]:
        return f"files: {sorted(map(str, names[0] ^ names[1]))}"
    for name in sorted(names[0]):
        if name.name in TIMED:
            continue
        first, second = one / name, other / name
        if name.suffix in (".h5", ".keras", ".npz"):
            same = _same_arrays(first, second)
        elif name.suffix == ".onnx":
            same = _onnx_content(first) == _onnx_content(second)
        else:
            same = filecmp.cmp(first, second, False)
        if not same:
            return str(name)
    return ""


def _same_arrays(one: Path, other: Path) -> bool:
    """Compare arrays, not bytes: archives store the time of writing."""
    if one.suffix == ".npz":
        with np.load(one) as first, np.load(other) as second:
            return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)
    found: list[dict[str, np.ndarray]] = []
    for path in (one, other):
        arrays: dict[str, np.ndarray] = {}
        content = path.read_bytes()
        if path.suffix == ".keras":
            with ZipFile(path) as archive:
                content = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(content)) as file:
            file.visititems(
                lambda name, item, arrays=arrays: arrays.update({name: item[()]}) if hasattr(item, "shape") else None
            )
        found.append(arrays)
    return found[0].keys() == found[1].keys() and all(np.array_equal(found[0][key], found[1][key]) for key in found[0])


def _onnx_content(path: Path) -> dict[str, list[bytes] | list[str]]:
    """What an ONNX file computes with: tf2onnx orders and numbers the nodes of one network differently in each run."""
    model = onnx.load(path)
    nodes, metadata = [], sorted(f"{entry.key}: {entry.value}" for entry in model.metadata_props)
    for node in model.graph.node:
        attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        nodes.append(b"".join([node.op_type.encode(), bytes([len(node.input), len(node.output)]), *attributes]))
    constants = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return {
        "nodes": sorted(nodes),
        "constants": sorted(f"{array.dtype} {array.shape} ".encode() + array.tobytes() for array in constants),
        "ends": [end.SerializeToString(deterministic=True) for end in (*model.graph.input, *model.graph.output)],
        "metadata": metadata,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    names = list(commands(Path(), Path(), Path(), Path()))
    parser.add_argument("--command", choices=names, help="only this one")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ser-tf-kill-"))
    os.environ["SER_TF_CACHE"] = str(scratch / "cache")
    preset = scratch / "small.yaml"
    preset.write_text(SMALL)
    corpus, second = write_table(scratch / "corpus"), write_table(scratch / "second", pitch_hz=300)
    generator = random.Random(arguments.seed)
    failed = False
    try:
        run_until(commands(corpus, second, preset, scratch / "run")["finetune"], None)  # what export exports
        for name in names:
            if arguments.command not in (None, name):
                continue
            whole, out = scratch / name / "whole", scratch / name / "killed"
            whole.parent.mkdir()
            start = time.monotonic()
            run_until(commands(corpus, second, preset, whole)[name], None)
            seconds, kills, rounds = time.monotonic() - start, 0, 0
            problem = ""
            while kills < arguments.kills and not problem:
                ended = False
                while not ended:
                    limit = generator.uniform(0.3, 1) * seconds if kills < arguments.kills else None
                    ended = run_until(commands(corpus, second, preset, out)[name], limit)
                    kills += not ended
                    ended |= name == "export" and out.exists()  # the folder appears when it is complete
                problem = difference(whole, out)
                rounds += 1
                shutil.rmtree(out)
            failed |= bool(problem)
            print(
                f"{name:<10} {kills:>3} kills in {rounds} runs: {problem or 'equal to the undisturbed run'}", flush=True
            )
    except RuntimeError as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
