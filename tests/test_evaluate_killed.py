"""An evaluation that is killed again and again ends like one that nobody touched."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import h5py

from ser_tf.runs.folder import RunFolder

LIVES = """
import os, random, signal, sys
from ser_tf.cli import door
from ser_tf.cli.options import import_tensorflow

import_tensorflow()
import keras
from keras import layers
from ser_tf.training import fold_network

def smallest_network(config, bins):
    keras.backend.clear_session()  # or the names of nameless layers count on from the network before
    spectrogram = keras.Input((None, bins), name="spectrogram")
    frames = keras.Input((), dtype="int32", name="frames")
    described = layers.BatchNormalization(name="norm")(layers.GlobalAveragePooling1D()(spectrogram))
    embedding = layers.UnitNormalization()(layers.Dense(8, name="dense")(described))
    return keras.Model(
        {"spectrogram": spectrogram, "frames": frames},
        {"embedding": embedding, "ghost_share": keras.ops.cast(frames, "float32")[:, None]},
    )

fold_network.embedding_network = smallest_network

def live(folder, moment=None):
    # Evaluates in a process of its own, which is killed before its file operation of that number in the folder: what a
    # kill leaves behind is decided by the file operations before it. Gives the status and the number of operations.
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        done = 0

        def count(event, arguments):
            nonlocal done
            if event in ("open", "os.mkdir", "os.rename", "os.remove") and str(arguments[0]).startswith(folder):
                done += 1
                if done == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        sys.argv += ["--run", folder]
        door.main()
        os.write(write_end, str(done).encode())
        os._exit(0)
    os.close(write_end)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read_end) as pipe:
        return os.waitstatus_to_exitcode(status), int(pipe.read() or 0)

folder = sys.argv.pop(1)
status, operations = live(folder + "/undisturbed")
assert status == 0
# Random moments of the undisturbed evaluation, and how many operations lie between them. Each life does some again that
# were done before, so that the last of these moments, too, comes before the end.
moments = [0, *sorted(random.Random(0).sample(range(1, operations), 5))]
for before, moment in zip(moments, moments[1:]):
    status, _ = live(folder + "/killed", moment - before)
    assert status == -signal.SIGKILL
status, _ = live(folder + "/killed")
assert status == 0
"""


TIMED = {"run.json", "checksums.sha256"}


def content_of(folder):
    """What every file holds, but for TensorBoard's events, and what changes with date, process and commit.

    HDF5 and zip hold the times at which they were written, so that checksums differ.
    """
    files = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    read = {".h5": arrays_of, ".keras": network_of}
    content = {path: read.get(path.suffix, Path.read_bytes)(path) for path in files if path.name not in TIMED}
    identities = {path: RunFolder(path.parent).read_identity() for path in folder.rglob("run.json")}
    return {str(path.relative_to(folder)): held for path, held in {**content, **identities}.items()}


def network_of(path):
    """A network's configuration and weights; a `.keras` file also holds the date and addresses in memory."""
    with ZipFile(path) as file:
        config = re.sub(rb'"shared_object_id": \d+', b"", file.read("config.json"))
        return config, arrays_of(io.BytesIO(file.read("model.weights.h5")))


def arrays_of(path):
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return arrays


def test_five_kills_at_random_moments_change_nothing(tones, small, tmp_path):
    schedule = replace(small.training, maximum_epochs=2)
    replace(small, training=schedule).save(tmp_path / "preset.yaml")
    options = ("--corpus", tones, "--preset", tmp_path / "preset.yaml", "--strategies", "S3", "S5", "--fold", 1, 2)
    lives = subprocess.run(
        [sys.executable, "-c", LIVES, *map(str, (tmp_path, "evaluate", *options))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert lives.returncode == 0, lives.stdout + lives.stderr
    found, expected = (content_of(tmp_path / name) for name in ("killed", "undisturbed"))
    assert len([name for name in expected if name.endswith("metrics.json")]) == 4
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
