"""Crops and whole utterances from shards."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import PRESETS, VadConfig
from ser_tf.errors import UserError
from ser_tf.pipeline import inputs_of
from ser_tf.pretraining.manifest import Shards
from ser_tf.pretraining.prepare import prepare
from ser_tf.pretraining.shard_reader import Share, damage_explained, gather, training_crops, whole_utterances
from ser_tf.pretraining.shard_writer import write_shard

TINY = PRESETS["tiny"]
CONFIG = dataclasses.replace(TINY, training=dataclasses.replace(TINY.training, batch_size=4, crop_seconds=0.5))
TAKES = {"anna": 9, "bert": 9, "cleo": 5, "dora": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Recordings of noise, each with its own bandwidth and length."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("corpora") / "voices"
    for speaker, takes in TAKES.items():
        (root / speaker).mkdir(parents=True)
        for take in range(takes):
            samples = 0.1 * generator.standard_normal(8_000 + 2_000 * take)
            soundfile.write(root / speaker / f"{take}.wav", samples, 16_000)
    return root


def prepared(root: Path, out: Path) -> Path:
    """Shards of a folder of speakers, written by this process."""
    from ser_tf.pretraining import prepare as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_on_cores", lambda tasks, workers, prologue, report: map(write_shard, tasks))
        return prepare(root, out, CONFIG, report=print).out


@pytest.fixture(scope="module")
def opened(corpus, tmp_path_factory) -> Shards:
    return Shards.open([prepared(corpus, tmp_path_factory.mktemp("out"))], CONFIG)


def with_training(**parameters):
    return dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **parameters))


def batches(crops, count):
    return [(inputs["spectrogram"].numpy(), labels.numpy()) for inputs, labels in crops.dataset.take(count)]


@pytest.fixture(scope="module")
def two_epochs(opened):
    """24 utterances in batches of 4: two epochs of six batches."""
    crops = training_crops(opened, CONFIG)
    assert crops.speakers == tuple(f"voices:{name}" for name in sorted(TAKES))
    assert crops.steps == 6
    return batches(crops, 12)


def test_an_epoch_holds_every_utterance_once(two_epochs):
    for epoch in (two_epochs[:6], two_epochs[6:]):
        labels = np.concatenate([labels for _, labels in epoch])
        assert [Counter(labels)[number] for number in range(4)] == [9, 9, 5, 1]


def test_every_epoch_has_another_order_and_other_crops(two_epochs):
    assert any((a[1] != b[1]).any() for a, b in zip(two_epochs[:6], two_epochs[6:], strict=True))
    first, second = (
        {crop.tobytes() for crops, _ in epoch for crop in crops} for epoch in (two_epochs[:6], two_epochs[6:])
    )
    # Four recordings are as long as a crop and come whole in both; the others have at least 2001 places to start from.
    assert len(first) == len(second) == 24
    assert len(first & second) <= 4


def test_the_last_batch_is_left_out_when_it_is_not_full(opened):
    crops = training_crops(opened, with_training(batch_size=5))
    assert crops.steps == 4  # 24 = 4 * 5 + 4
    assert all(len(labels) == 5 for _, labels in batches(crops, 9))


def test_speakers_held_out_do_not_come(opened):
    crops = training_crops(opened, CONFIG, held_out_speakers=["voices:anna", "voices:dora"])
    assert crops.speakers == ("voices:bert", "voices:cleo")
    assert crops.steps == 14 // 4
    labels = np.concatenate([labels for _, labels in batches(crops, 3 * crops.steps)])
    assert set(labels) == {0, 1}


def test_a_crop_goes_through_the_one_spectrogram(two_epochs, corpus):
    dora = sorted(TAKES).index("dora")
    (found, *_) = (
        crop for crops, labels in two_epochs for crop, label in zip(crops, labels, strict=True) if label == dora
    )
    speech = remove_silence(read_waveform(corpus / "dora" / "0.wav"), VadConfig()).waveform
    assert len(speech) == 8_000  # as long as a crop, so that there is one place to start from
    frames = len(found)
    np.testing.assert_allclose(found, inputs_of(speech, CONFIG)["spectrogram"][0, :frames], atol=1e-4)


def test_a_dataset_that_starts_at_a_later_epoch_goes_on_as_the_other(opened, two_epochs):
    resumed = batches(training_crops(opened, CONFIG, first_epoch=1), 6)
    for (one, label), (other, other_label) in zip(two_epochs[6:], resumed, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(label, other_label)


@pytest.mark.parametrize("parts", [2, 4])
def test_two_hosts_share_the_batches_of_one(opened, two_epochs, parts):
    shares = [training_crops(opened, CONFIG, share=Share(host, 2, parts)) for host in (0, 1)]
    of_hosts = [batches(crops, 12 * parts // 2) for crops in shares]
    by_turns = [part for both in zip(*of_hosts, strict=True) for part in both]
    for number, (spectrograms, labels) in enumerate(two_epochs):
        found = by_turns[parts * number : parts * (number + 1)]
        assert np.concatenate([part for _, part in found]).tolist() == labels.tolist()
        np.testing.assert_allclose(np.concatenate([part for part, _ in found]), spectrograms, atol=1e-5)


def test_another_seed_gives_another_order(opened, two_epochs):
    other_seed = batches(training_crops(opened, with_training(seed=1)), 6)
    assert any((a[1] != b[1]).any() for a, b in zip(two_epochs[:6], other_seed, strict=True))


def test_whole_utterances_are_those_of_prediction(opened, corpus, tmp_path):
    names = {utterance.sample_hash: utterance.name for utterance in opened.utterances()}
    gathered = [each for each, name in names.items() if not name.startswith("cleo")]
    wanted = [each for each in gathered if not names[each].startswith("bert")]
    gather(opened, gathered, tmp_path / "utterances.tfrecord")
    found = {}
    utterances = whole_utterances(tmp_path / "utterances.tfrecord", CONFIG, wanted + wanted, batch_size=3)
    for inputs, sample_hashes in utterances:
        for place, sample_hash in enumerate(sample_hashes.numpy()):
            frames = int(inputs["frames"][place])
            found[names[int(sample_hash, 16)]] = inputs["spectrogram"].numpy()[place, :frames]
    assert sorted(found) == [*(f"anna/{take}" for take in range(9)), "dora/0"]
    for name, spectrogram in found.items():
        speech = remove_silence(read_waveform(corpus / f"{name}.wav"), VadConfig())
        inputs = inputs_of(speech.waveform, CONFIG)
        expected = inputs["spectrogram"][0, : int(inputs["frames"][0])]
        np.testing.assert_allclose(spectrogram, expected, atol=1e-4)


def test_a_recording_with_two_names_is_gathered_once(opened, corpus, tmp_path):
    for name in ("anna", "bert"):
        (tmp_path / "copies" / name).mkdir(parents=True)
        (tmp_path / "copies" / name / "copy.wav").write_bytes((corpus / name / "3.wav").read_bytes())
    both = Shards.open([*opened.folders, prepared(tmp_path / "copies", tmp_path / "out")], CONFIG)
    recordings = [each.sample_hash for each in both.utterances() if each.path in ("anna/3.wav", "anna/copy.wav")]
    assert len(recordings) == 2
    assert len(set(recordings)) == 1
    gather(both, recordings, tmp_path / "one.tfrecord")
    (record,) = tf.data.TFRecordDataset(str(tmp_path / "one.tfrecord")).as_numpy_iterator()
    assert record in {whole for path in both.paths for whole in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()}
    assert [path.name for path in tmp_path.glob("*.tfrecord")] == ["one.tfrecord"]


def test_a_recording_that_no_shard_holds_is_named(corpus, tmp_path):
    """One record is removed from its shard; the other records are intact."""
    shards = Shards.open([prepared(corpus, tmp_path / "out")], CONFIG)
    utterances = list(shards.utterances())
    records = list(tf.data.TFRecordDataset(str(shards.paths[0])).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(shards.paths[0])) as writer:
        for record in records[1:]:
            writer.write(record)
    recordings = [utterance.sample_hash for utterance in utterances]
    gather(shards, recordings[1:], tmp_path / "rest.tfrecord")
    message = rf"1 recordings of the manifest .* such as {utterances[0].path} of {utterances[0].speaker}; remove the"
    with pytest.raises(UserError, match=message):
        gather(shards, recordings, tmp_path / "all.tfrecord")
    assert [path.name for path in tmp_path.glob("*.tfrecord")] == ["rest.tfrecord"]


def test_what_cannot_be_trained_on_is_refused(opened):
    with pytest.raises(UserError, match=r"expected the speaker voices:emil. Received: shards of 4 other"):
        training_crops(opened, CONFIG, held_out_speakers=["voices:emil"])
    with pytest.raises(UserError, match=r"expected at least two speakers to train on and a batch .* 1 and 9; hold"):
        training_crops(opened, CONFIG, held_out_speakers=["voices:anna", "voices:cleo", "voices:dora"])


def damaged_shard(corpus: Path, out: Path, damage: str) -> tuple[Shards, Path]:
    """Shards, one of them unreadable: it has a flipped bit, or a record of a different program with valid checksums."""
    shards = Shards.open([prepared(corpus, out)], CONFIG)
    path = shards.paths[3]
    if damage == "a flipped bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(b"another" if damage == "another record" else tf.train.Example().SerializeToString())
    return shards, path


@pytest.mark.parametrize("damage", ["a flipped bit", "another record", "no features"])
def test_a_shard_with_a_damaged_record_is_named(corpus, tmp_path, damage):
    shards, path = damaged_shard(corpus, tmp_path / "out", damage)
    recordings = [utterance.sample_hash for utterance in shards.utterances()]
    gathered = tmp_path / "utterances.tfrecord"
    message = rf"^{path}: a record is damaged; remove the file and start the same ser-tf prepare command again$"
    with pytest.raises(UserError, match=message), damage_explained(shards, gathered):
        gather(shards, recordings, gathered)
    crops = training_crops(shards, CONFIG)
    with pytest.raises(UserError, match=message), damage_explained(shards, gathered):
        batches(crops, crops.steps + 1)


def test_gathered_utterances_with_a_damaged_record_are_named(opened, tmp_path):
    path = tmp_path / "utterances.tfrecord"
    recordings = [utterance.sample_hash for utterance in opened.utterances()]
    gather(opened, recordings, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = rf"^{path}: a record is damaged; remove the file and start the same command again$"
    with pytest.raises(UserError, match=message), damage_explained(opened, path):
        list(whole_utterances(path, CONFIG, recordings))


def test_an_error_of_ours_is_not_taken_for_damage(opened, tmp_path):
    error = tf.errors.InvalidArgumentError(None, None, "a slip")
    with pytest.raises(tf.errors.InvalidArgumentError), damage_explained(opened, tmp_path / "utterances.tfrecord"):
        raise error


def test_every_seed_of_32_bits_gives_crops(opened):
    crops = training_crops(opened, with_training(seed=2**32 - 1))
    assert len(batches(crops, 1)) == 1
