"""Pre-training from a folder of speakers to weights that fine-tuning takes; speakers differ by their pitch."""

import csv
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf

from ser_tf.audio.recording import sample_hash
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import Config, PretrainingConfig
from ser_tf.errors import UserError
from ser_tf.pretraining.cluster import Place
from ser_tf.pretraining.hosts import Hosts
from ser_tf.pretraining.manifest import Shards
from ser_tf.pretraining.prepare import prepare, shards_of
from ser_tf.pretraining.shard_writer import write_shard
from ser_tf.pretraining.speakers import PretrainTask, SpeakerNetwork, pretrain
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import read_provenance, read_recordings, save_weights
from ser_tf.training.finetune import finetune
from ser_tf.training.fold_network import FoldNetwork

pytestmark = pytest.mark.usefixtures("shallow")

SPEAKERS, TAKES = 8, 6
SOFTMAX, MARGIN = PretrainingConfig(held_out=4), PretrainingConfig(held_out=4, loss="am_softmax")


@pytest.fixture(scope="module")
def schedule(small) -> Config:
    return replace(small, training=replace(small.training, batch_size=8, maximum_epochs=2))


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Path:
    """Eight speakers with six recordings each, and one with a single recording."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("corpora") / "voices"
    for number in range(SPEAKERS * TAKES + 1):
        speaker = number // TAKES
        phases = 2 * np.pi * 100 * 1.25**speaker * np.arange(9600 + 800 * (number % 3)) / 16_000
        samples = 0.1 * np.sum([np.sin(n * phases + generator.uniform(0, 6)) / n for n in range(1, 8)], axis=0)
        path = root / f"speaker-{speaker}" / f"take-{number % TAKES}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples + 0.01 * generator.normal(size=len(samples)), 16_000)
    return root


@pytest.fixture(scope="module", autouse=True)
def in_process():
    """This process writes the shards, so that no test waits for TensorFlow in other processes."""
    from ser_tf.pretraining import prepare as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_on_cores", lambda tasks, workers, prologue, report: map(write_shard, tasks))
        yield


@pytest.fixture(scope="module")
def shards(voices, in_process, tmp_path_factory) -> Shards:
    out = tmp_path_factory.mktemp("shards") / "voices"
    prepare(voices, out, Config(), report=lambda line: None)
    return Shards.open([out], Config())


@pytest.fixture(scope="module")
def pretrained(shards, schedule, tmp_path_factory):
    """The finished run of each loss, trained on first use; the softmax run has no ghosts."""
    folder = tmp_path_factory.mktemp("runs")

    def run(pretraining: PretrainingConfig) -> RunFolder:
        run_folder = RunFolder(folder / pretraining.loss)
        if not run_folder.finished:
            config = schedule if pretraining == MARGIN else without_ghosts(schedule)
            pretrain(PretrainTask.make(shards, config, pretraining), run_folder, report=print)
        return run_folder

    return run


def without_ghosts(config: Config) -> Config:
    return replace(config, network=replace(config.network, ghost_clusters=0))


def metrics_of(run: RunFolder):
    return json.loads(run.metrics.read_text())


@pytest.mark.parametrize("pretraining", [SOFTMAX, MARGIN], ids=["softmax", "am_softmax"])
def test_a_run_verifies_speakers_it_has_not_heard(pretrained, shards, pretraining):
    run = pretrained(pretraining)
    metrics = metrics_of(run)
    validation, test, trained = (metrics[f"{side}_speakers"] for side in ("validation", "test", "trained"))
    assert sorted([*validation, *test, *trained]) == list(shards.counts)
    assert (len(validation), len(test)) == (2, 2)
    assert "voices:speaker-8" in trained
    assert metrics["trained_speakers_with_one_recording"] == 1
    assert metrics["recordings"] == 4 * TAKES + 1
    assert metrics["left_out_of_each_epoch"] == 1  # of 25, in batches of 8
    assert metrics["corpora"] == {
        "voices": {"licence": "not known to ser_tf", "speakers": 5, "recordings": 4 * TAKES + 1}
    }
    with (run.path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    for side, speakers in (("validation", validation), ("test", test)):
        of_side = [row for row in rows if row["side"] == side]
        assert {row["first_speaker"] for row in of_side} == set(speakers)
        assert len(of_side) == metrics[side]["trials"]
        for column, scores in (("score", metrics), ("untrained_score", metrics["untrained"])):
            pairs = [(row["same"], float(row[column])) for row in of_side]
            misses = [np.mean([score < limit for same, score in pairs if same == "1"]) for _, limit in pairs]
            alarms = [np.mean([score >= limit for same, score in pairs if same == "0"]) for _, limit in pairs]
            # The rate lies between the two kinds of error at the threshold where they are nearest.
            nearest = int(np.argmin(np.abs(np.subtract(misses, alarms))))
            gap = abs(misses[nearest] - alarms[nearest])
            assert scores[side]["eer"] == pytest.approx((misses[nearest] + alarms[nearest]) / 2, abs=gap + 1e-6)
    with run.log.open() as file:
        epochs = list(csv.DictReader(file))
    assert metrics["epochs"] == len(epochs) == 2
    rates = [float(row["validation_eer"]) for row in epochs]
    assert metrics["best_epoch"] == 1 + int(np.argmin(rates))
    assert metrics["validation"]["eer"] == pytest.approx(min(rates))


def test_the_weights_say_whom_they_have_heard(pretrained, voices, schedule):
    run = pretrained(SOFTMAX)
    metrics, provenance = metrics_of(run), read_provenance(run.weights)
    heard = sorted([*metrics["trained_speakers"], *metrics["validation_speakers"]])
    assert provenance["speakers"] == heard
    assert provenance["data_hash"] == metrics["data_hash"] == run.read_identity()["data_hash"]
    assert provenance["verification"]["test"] == metrics["test"]
    assert provenance["configuration"]["training"]["crop_seconds"] == schedule.training.crop_seconds
    paths = [path for speaker in heard for path in (voices / speaker.removeprefix("voices:")).iterdir()]
    expected = sorted(sample_hash(read_waveform(path)) for path in paths)
    assert read_recordings(run.weights).tolist() == expected


@pytest.mark.parametrize("strategy", ["S2", "S3", "S5"])
@pytest.mark.parametrize("pretraining", [SOFTMAX, MARGIN], ids=["without ghosts", "with ghosts"])
def test_fine_tuning_takes_the_weights(pretrained, task_of, pretraining, strategy):
    run = pretrained(pretraining)
    task = task_of(strategy, weights=run.weights)
    fits = (pretraining == SOFTMAX) == (strategy == "S2")  # S2 has no ghost clusters
    assert task.afresh == (() if fits else ("ghost_vlad",))
    assert str(run.weights) in task.start()


def test_weights_without_ghosts_serve_s2_in_full(pretrained, schedule, task_of, tmp_path):
    run = pretrained(SOFTMAX)
    one_epoch = replace(schedule, training=replace(schedule.training, maximum_epochs=1))
    task = task_of("S2", config=one_epoch, weights=run.weights)
    assert task.afresh == ()
    lines: list[str] = []
    result = finetune(task, RunFolder(tmp_path / "S2"), report=lines.append, network=FoldNetwork(task))
    assert any(line.endswith("arrays taken") for line in lines)
    assert result["weights"]["verification"]["test"]["trials"] > 0


def test_weights_that_heard_a_test_speaker_are_refused(tones, shards, schedule, task_of, tmp_path):
    folder = tmp_path / "copies"  # the recordings of the table's speakers 1 to 6, in folders of other names
    for path in tones.parent.glob("[1-6]-*.wav"):
        (folder / f"person-{path.name[0]}").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"person-{path.name[0]}" / path.name, *soundfile.read(path), subtype="PCM_16")
    out = prepare(folder, tmp_path / "out", schedule, report=print).out
    both = Shards.open([*shards.folders, out], schedule)
    task, path = PretrainTask.make(both, schedule, SOFTMAX), tmp_path / "embedding.weights.h5"
    network = SpeakerNetwork(task, Hosts()).embedding
    save_weights(network, path, task.provenance({}), task.heard)  # as a pre-training does
    with pytest.raises(UserError, match=r"trained on .* of the fold's validation and test recordings"):
        task_of("S3", weights=path)
    without = PretrainTask.make(both, schedule, SOFTMAX, exclude_speakers=["copies:*"])
    assert len(without.excluded) == 6
    assert {name.partition(":")[0] for name in (*without.trained, *without.held_out)} == {"voices"}


def test_a_killed_training_ends_as_the_undisturbed_one(pretrained, shards, schedule, tmp_path, monkeypatch):
    undisturbed = pretrained(MARGIN)
    run = RunFolder(tmp_path / "run")
    task = PretrainTask.make(shards, schedule, MARGIN)
    from ser_tf.pretraining import speakers as module

    write_log = module.write_log

    def killed(run, progress):
        write_log(run, progress)
        if len(progress.epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_log", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(task, run, report=print)
    monkeypatch.setattr(module, "write_log", write_log)
    assert run.utterances.is_file()
    lines: list[str] = []
    pretrain(task, run, report=lines.append)
    assert lines == ["resumed after epoch 1"]  # the second was logged, and its state was not written
    assert not run.utterances.exists()
    assert run.log.read_text() == undisturbed.log.read_text()
    assert run.metrics.read_text() == undisturbed.metrics.read_text()
    assert (run.path / "trials.csv").read_text() == (undisturbed.path / "trials.csv").read_text()
    before = run.metrics.stat().st_mtime_ns
    pretrain(task, run, report=lines.append)
    assert lines[-1] == f"{run.path}: already finished"
    assert run.metrics.stat().st_mtime_ns == before
    other = PretrainTask.make(shards, schedule, replace(MARGIN, margin=0.2))
    with pytest.raises(UserError, match="holds a run with another pretraining; choose another --run"):
        pretrain(other, run, report=print)


def test_a_trial_list_decides_who_is_tested(shards, schedule, tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 speaker-0/take-0.wav speaker-0/take-1.wav\n0 speaker-0/take-0.wav speaker-8/take-0.wav\n")
    task = PretrainTask.make(shards, schedule, SOFTMAX, trial_list=trials)
    assert task.test.speakers == ("voices:speaker-0", "voices:speaker-8")
    assert len(task.validation.speakers) == 2
    assert not set(task.held_out) & set(task.trained)
    trials.write_text("1 speaker-0/take-0.wav speaker-0/take-9.wav\n")
    with pytest.raises(UserError, match=r"one recording speaker-0/take-9.wav \(line 1\) in .* Received: none"):
        PretrainTask.make(shards, schedule, SOFTMAX, trial_list=trials)


def test_what_cannot_be_trained_is_refused(shards, schedule, voices, tmp_path):
    with pytest.raises(UserError, match=r"two speakers or more to train on besides 8 .* Received: 8 speakers with two"):
        PretrainTask.make(shards, schedule, PretrainingConfig(held_out=8))
    with pytest.raises(UserError, match=r"exclude_speakers: .* such as voices:speaker-0, or voices:\*.* Received: rav"):
        PretrainTask.make(shards, schedule, SOFTMAX, exclude_speakers=["ravdess:*"])
    other = replace(schedule, vad=replace(schedule.vad, mode=3))
    with pytest.raises(UserError, match=r"these shards were prepared with vad.mode 2, and this run has 3"):
        Shards.open(shards.folders, other)
    with pytest.raises(UserError, match="batch_size: expected a multiple of 3, the number of accelerators"):
        SpeakerNetwork(PretrainTask.make(shards, schedule, SOFTMAX), SimpleNamespace(devices=3))
    for values, message in (
        ({"held_out": -1}, "held_out: expected at least 0"),
        ({"trials": 1}, "trials: expected at least 2"),
    ):
        with pytest.raises(UserError, match=message):
            PretrainingConfig(**values)


def test_a_speaker_must_not_have_two_spellings(voices, schedule, tmp_path):
    root = tmp_path / "spelt"
    for name, source in (("anna 01", "speaker-0"), ("Anna 1", "speaker-1"), ("bert", "speaker-2")):
        (root / name).mkdir(parents=True)
        (root / name / "one.wav").write_bytes((voices / source / "take-0.wav").read_bytes())
    spelt = Shards.open([prepare(root, tmp_path / "out", schedule, report=print).out], schedule)
    with pytest.raises(
        UserError, match=r"one spelling of a speaker.s name\. Received: spelt:Anna 1 and spelt:anna 01; "
    ):
        PretrainTask.make(spelt, schedule, SOFTMAX)


def test_a_recording_must_not_be_on_two_sides_under_two_names(voices, shards, schedule, tmp_path):
    def with_copies(**sources: str) -> Shards:
        """Some speakers have a single recording; they are never drawn for verification."""
        root = tmp_path / "-".join(sources) / "copies"
        for name, source in sources.items():
            (root / name).mkdir(parents=True)
            (root / name / "one.wav").write_bytes((voices / source / "take-0.wav").read_bytes())
        return Shards.open([*shards.folders, prepare(root, root.parent / "out", schedule, report=print).out], schedule)

    def make(of: Shards, *excluded: str, trial_list: Path | None = None) -> PretrainTask:
        return PretrainTask.make(of, schedule, SOFTMAX, excluded, trial_list)

    def refused(*names: str):
        message = (
            rf": 1 recordings are on two sides .* under two names \({', '.join(names)}\); give each recording once"
        )
        return pytest.raises(UserError, match=message)

    validation = make(shards).validation.speakers[0]
    both = with_copies(x=validation.removeprefix("voices:"), y="speaker-8")  # y and speaker-8 are both trained on
    with refused("copies:x", validation):
        make(both)
    with refused("copies:x", validation):  # excluded and verified
        make(both, "copies:x")
    with refused("copies:y", "voices:speaker-8"):  # trained on and excluded
        make(both, "copies:x", validation, "voices:speaker-8")
    task = make(both, "copies:*", validation, "voices:speaker-8")
    assert len(task.trained) == SPEAKERS - 1 - 4

    trials = tmp_path / "trials.txt"
    pairs = "1 speaker-0/take-0 speaker-0/take-1\n0 speaker-0/take-0 {}\n"
    trials.write_text(pairs.format("speaker-8/take-0"))
    validation = make(shards, trial_list=trials).validation.speakers[0]
    one = with_copies(z=validation.removeprefix("voices:"), w="speaker-8")
    trials.write_text(pairs.format("z/one"))
    with refused("copies:z", validation):  # validation and test
        make(one, trial_list=trials)
    trials.write_text(pairs.format("speaker-8/take-0"))
    with refused("copies:w", "voices:speaker-8"):  # trained on and tested
        make(one, "copies:z", validation, trial_list=trials)
    listed = make(shards, "voices:speaker-8", trial_list=trials)  # excluded, and yet tested: the list decides
    assert listed.test.speakers == ("voices:speaker-0", "voices:speaker-8")


def test_a_folder_of_speakers_is_prepared_once_beside_the_run(voices, tmp_path):
    lines: list[str] = []
    out = shards_of(voices, tmp_path / "shards", Config(), lines.append)
    assert out.parent == tmp_path / "shards"
    assert f"{SPEAKERS * TAKES + 1} utterances of {SPEAKERS + 1} speakers (1 with a single one)" in lines[-1]
    assert shards_of(voices, tmp_path / "shards", Config(), lines.append) == out
    assert "(0 written now)" in lines[-1]
    assert shards_of(out, tmp_path / "nowhere", Config(), lines.append) == out  # shards already
    assert shards_of(voices, tmp_path / "shards", replace(Config(), vad=replace(Config().vad, mode=3)), print) != out


TWO_DEVICES = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from ser_tf.network import se_resnet
se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)
from ser_tf.pretraining import speakers as module
from ser_tf.pretraining.hosts import Hosts
from ser_tf.config import Config, PretrainingConfig
from ser_tf.pretraining.manifest import Shards
from ser_tf.runs.folder import RunFolder
from pathlib import Path
folder = Path(sys.argv[1])
config = Config.load(folder / "config.yaml")
shards = Shards.open([Path(sys.argv[2])], config)
task = module.PretrainTask.make(shards, config, PretrainingConfig(held_out=4))
networks = []
class Kept(module.SpeakerNetwork):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        networks.append(self)
module.SpeakerNetwork = Kept
for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
    module.pretrain(task, RunFolder(folder / f"run-{len(devices)}"), print, Hosts.one(devices))
variables = [[keras.ops.convert_to_numpy(value) for value in network.trained.variables] for network in networks]
assert len(networks[1].embedding.variables[0].value.values) == 2  # one copy on each device
gap = max(float(np.abs(one - other).max()) for one, other in zip(*variables, strict=True))
np.savez(folder / "gap.npz", gap=gap)
"""


def test_two_devices_learn_and_verify_as_one_does(shards, schedule, tmp_path):
    """An epoch has three batches; weights and verification must not depend on the number of devices."""
    one_epoch = replace(schedule, training=replace(schedule.training, maximum_epochs=1))
    one_epoch.save(tmp_path / "config.yaml")
    arguments = map(str, [tmp_path, shards.folders[0]])
    subprocess.run([sys.executable, "-c", TWO_DEVICES, *arguments], check=True, timeout=900)
    with np.load(tmp_path / "gap.npz") as found:
        assert found["gap"] < 1e-5
    one, two = (RunFolder(tmp_path / f"run-{number}") for number in (1, 2))
    tables = [pd.read_csv(run.path / "trials.csv") for run in (one, two)]
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=1e-5)
    assert metrics_of(two) == metrics_of(one) | {"devices": 2}
    assert read_provenance(two.weights)["verification"] == read_provenance(one.weights)["verification"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"worker": "a:1,b:2"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:2"], "ps": ["c:3"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_damaged_list_of_hosts_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG: expected such as"):
        Place.from_environment()


@pytest.mark.parametrize("text", [None, "{}", '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}'])
def test_a_host_may_be_alone(text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    assert Place.from_environment() == (0, 1)


def test_several_hosts_train_with_tensorflow_alone(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(UserError, match=r"expected one host with KERAS_BACKEND=jax\. Received: 2"):
        Hosts.join(Place(1, 2), print)


def test_a_host_that_cannot_join_the_others_says_so(monkeypatch):
    def fail() -> None:
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr("tensorflow.distribute.MultiWorkerMirroredStrategy", fail)
    with pytest.raises(UserError, match=r"host 1 cannot join the others \(Could not start gRPC server\)"):
        Hosts.join(Place(1, 2), print)


HOST = """
import os, sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from ser_tf.errors import UserError
from ser_tf.pretraining.cluster import Place
from ser_tf.pretraining.hosts import Hosts
hosts = Hosts.join(Place.from_environment(), print)
from ser_tf.network import se_resnet
se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)
from ser_tf.config import Config, PretrainingConfig
from ser_tf.pretraining.manifest import Shards
from ser_tf.pretraining import speakers as module
from ser_tf.training.progress import VerificationProgress
from ser_tf.runs.folder import RunFolder
config, run, killed_after = Config.load(Path(sys.argv[1])), RunFolder(Path(sys.argv[3])), int(sys.argv[4])
shards = Shards.open([Path(sys.argv[2])], config)
task = module.PretrainTask.make(shards, config, PretrainingConfig(held_out=4))
save = VerificationProgress.save
def save_and_die(progress, path, variables):
    save(progress, path, variables)
    values = {str(number): keras.ops.convert_to_numpy(variable) for number, variable in enumerate(variables)}
    np.savez(run.path.with_name(f"{run.path.name}-epoch-{len(progress.epochs)}.npz"), **values)
    if len(progress.epochs) == killed_after:
        os._exit(9)
VerificationProgress.save = save_and_die
try:
    module.pretrain(task, run, print, hosts)
except UserError as error:
    print(error)
    os._exit(1)
print("heard", *hosts.place, hosts.devices)
"""


@pytest.fixture
def start_hosts(shards, schedule, tmp_path):
    """Start each host in its own process; none outlives the test."""
    started: list[subprocess.Popen] = []

    def start(run: str, seeds: list[int], killed_after: int = 0) -> list[subprocess.Popen]:
        with ExitStack() as stack:
            listeners = [stack.enter_context(socket.socket()) for _ in seeds]
            for listener in listeners:
                listener.bind(("localhost", 0))
            workers = [f"localhost:{listener.getsockname()[1]}" for listener in listeners]
        for number, seed in enumerate(seeds):
            config = tmp_path / f"{seed}.yaml"
            replace(schedule, training=replace(schedule.training, seed=seed)).save(config)
            told = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": number}}
            environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CONFIG": json.dumps(told)}
            arguments = map(str, [config, shards.folders[0], tmp_path / run, killed_after])
            command = [sys.executable, "-c", HOST, *arguments]
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-len(seeds) :]

    yield start
    for process in started:
        process.kill()
        process.wait()


def last_lines(processes: list[subprocess.Popen]) -> list[str]:
    return [process.communicate(timeout=900)[0].splitlines()[-1] for process in processes]


def test_two_hosts_learn_as_one_does_and_resume(start_hosts, tmp_path):
    """Host 0 dies after the first epoch; after a restart, both hosts end as a single host does."""
    assert last_lines(start_hosts("one", [0])) == ["heard 0 1 1"]
    first, second = start_hosts("two", [0, 0], killed_after=1)
    assert "host 1: another of the 2 hosts is gone" in last_lines([first, second])[1]
    assert (first.returncode, second.returncode) == (9, 1)
    both = start_hosts("two", [0, 0])
    assert last_lines(both) == ["heard 0 2 2", "heard 1 2 2"]
    assert [process.returncode for process in both] == [0, 0]

    for epoch, tolerance in ((1, 1e-5), (2, 1e-3)):
        files = [tmp_path / f"{run}-epoch-{epoch}.npz" for run in ("one", "two")]
        with np.load(files[0]) as expected, np.load(files[1]) as found:
            assert max(float(np.abs(expected[name] - found[name]).max()) for name in expected) < tolerance
    one, two = (metrics_of(RunFolder(tmp_path / run)) for run in ("one", "two"))
    assert two.keys() == one.keys()
    assert (two["hosts"], two["devices"], two["epochs"]) == (2, 2, 2)
    logs = [pd.read_csv(RunFolder(tmp_path / run).log)[["loss", "accuracy"]] for run in ("one", "two")]
    pd.testing.assert_frame_equal(*logs, rtol=1e-3)


def test_a_host_with_another_task_is_refused(start_hosts):
    said = last_lines(start_hosts("two", [0, 1]))
    assert "another of the 2 hosts is gone" in said[0]
    assert "holds a run with another configuration" in said[1]
