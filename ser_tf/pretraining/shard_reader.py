"""shards -> tf.data: crops for training on speaker identity, and whole utterances for verification."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ser_tf.audio.vad import INT16_SCALE
from ser_tf.config import SAMPLE_RATE_HZ, Config
from ser_tf.errors import UserError
from ser_tf.pipeline.datasets import (
    PADDED_SAMPLES,
    READ_AHEAD_BATCHES,
    THREADS,
    Inputs,
    batch_sizes,
    padded_inputs,
    pipeline_options,
    random_crop,
)
from ser_tf.pretraining.manifest import Shards

SHARDS_AT_ONCE = 16
"""Shards read in turn."""
CROPS_SHUFFLED = 1024
"""Crops shuffled together: 80 MB at 2.5 s each."""


@dataclass(frozen=True)
class SpeakerCrops:
    """Crops for training on speaker identity.

    Attributes:
        speakers: in label order: all except the held-out ones, sorted.
        steps: batches per epoch.
        dataset: endless batches ({"spectrogram": float32 [B, T, bins], "frames": int32 [B]}, labels int32 [B]).
    """

    speakers: tuple[str, ...]
    steps: int
    dataset: tf.data.Dataset


class Share(NamedTuple):
    """The part of each batch that one of several hosts computes.

    Attributes:
        host: its number, from 0.
        hosts: their number.
        parts: number of parts a batch is split into, a multiple of `hosts`; the dataset yields parts as batches.
    """

    host: int = 0
    hosts: int = 1
    parts: int = 1


WHOLE = Share()
"""The share of a single host."""


def training_crops(
    shards: Shards,
    config: Config,
    held_out_speakers: Iterable[str] = (),
    first_epoch: int = 0,
    share: Share = WHOLE,
) -> SpeakerCrops:
    """Batches of random crops, one per utterance and epoch; an incomplete last batch is dropped.

    Each epoch has its own order of shards, reads 16 of them in turn, and shuffles blocks of 1024 crops. Since each
    shard is a random sample of all speakers, this mixes well although every file is read sequentially. Every draw
    depends only on the seed, the epoch, and the recording or its place: a dataset that starts at epoch 7 yields the
    same batches as one that started at epoch 0.

    Args:
        shards: of one or several corpora.
        config: seed, batch size, crop, spectrogram. Classes are not balanced, and there is no augmentation.
        held_out_speakers: speakers not to train on.
        first_epoch: the epoch to start with.
        share: with several hosts, each reads all shards and computes the spectrograms of its own parts.

    Raises:
        UserError: a held-out speaker does not exist, or the rest are fewer than two or do not fill a batch.
    """
    training = config.training
    held_out = _checked(shards, held_out_speakers)
    counts = {speaker: count for speaker, count in shards.counts.items() if speaker not in held_out}
    steps = sum(counts.values()) // training.batch_size
    if len(counts) < 2 or not steps:
        raise UserError(
            f"{', '.join(map(str, shards.folders))}: expected at least two speakers to train on and a batch of "
            f"{training.batch_size} utterances. Received: {len(counts)} and {sum(counts.values())}; hold out fewer "
            "speakers or lower batch_size"
        )
    speakers = tuple(counts)
    label_of = _lookup(speakers)
    crop_samples = round(training.crop_seconds * SAMPLE_RATE_HZ)
    paths = tf.constant([str(path) for path in shards.paths])

    def is_trained_on(example: dict[str, tf.Tensor], epoch: tf.Tensor) -> tf.Tensor:
        return label_of.lookup(example["speaker"]) >= 0

    def crop(example: dict[str, tf.Tensor], epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.stack([_mixed(training.seed, epoch), tf.strings.to_hash_bucket_fast(example["sample_hash"], 2**62)])
        speech = tf.io.decode_raw(example["speech"], tf.int16, little_endian=True)
        return random_crop(speech, crop_samples, seed), label_of.lookup(example["speaker"])

    def shuffled(block: tf.Tensor, crops: tf.Tensor, labels: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([_mixed(training.seed, epoch), block])
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(labels)), seed)
        return tf.data.Dataset.from_tensor_slices((tf.gather(crops, order), tf.gather(labels, order)))

    def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(paths, tf.stack([_mixed(training.seed, epoch), -1]))
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .interleave(tf.data.TFRecordDataset, SHARDS_AT_ONCE, num_parallel_calls=THREADS)
            .map(
                lambda record: (_parsed(record, ["speech", "speaker", "sample_hash"]), epoch),
                num_parallel_calls=THREADS,
            )
            .filter(is_trained_on)
            .map(crop, num_parallel_calls=THREADS)
            .batch(CROPS_SHUFFLED)
            .prefetch(1)
            .enumerate()
            .flat_map(lambda block, pair: shuffled(block, pair[0], pair[1], epoch))
            .batch(training.batch_size, drop_remainder=True)
        )

    def batch(crops: tf.Tensor, labels: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        speech = tf.cast(crops, tf.float32) / INT16_SCALE
        return padded_inputs(speech, tf.fill([part], crop_samples), config), labels

    part = training.batch_size // share.parts
    crops = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(epoch_of)
    if share.parts > 1:
        crops = crops.rebatch(part, drop_remainder=True).shard(share.hosts, share.host)
    dataset = crops.map(batch, num_parallel_calls=THREADS).prefetch(READ_AHEAD_BATCHES).with_options(pipeline_options())
    return SpeakerCrops(speakers, steps, dataset)


def gather(shards: Shards, recordings: Iterable[int], path: Path) -> None:
    """Copy the records of some recordings into one file, so that reading them again need not read every shard.

    Args:
        shards: of one or several corpora.
        recordings: sample hashes; of several records with one hash, the first is copied.
        path: the file to write, atomically.

    Raises:
        UserError: a recording is in no shard.
    """
    missing = {_hex(recording) for recording in recordings}
    wanted = _lookup(missing)
    records = (
        tf.data.Dataset.from_tensor_slices([str(shard) for shard in shards.paths])
        .interleave(tf.data.TFRecordDataset, SHARDS_AT_ONCE, num_parallel_calls=THREADS)
        .map(lambda record: (record, _parsed(record, ["sample_hash"])["sample_hash"]), num_parallel_calls=THREADS)
        .filter(lambda record, sample_hash: wanted.lookup(sample_hash) >= 0)
        .with_options(pipeline_options())
    )
    unfinished = path.with_name(f"unfinished-{path.name}")
    with tf.io.TFRecordWriter(str(unfinished)) as writer:
        for record, sample_hash in records.as_numpy_iterator():
            if sample_hash.decode() in missing:
                missing.remove(sample_hash.decode())
                writer.write(record)
    if missing:
        unfinished.unlink()
        first = next(utterance for utterance in shards.utterances() if _hex(utterance.sample_hash) in missing)
        raise UserError(
            f"{', '.join(map(str, shards.folders))}: {len(missing)} recordings of the manifest are in no shard, such "
            f"as {first.path} of {first.speaker}; remove the shard whose page (shard-*.json) names it, and start the "
            "same ser-tf prepare command again"
        )
    unfinished.replace(path)


def whole_utterances(path: Path, config: Config, recordings: Iterable[int], batch_size: int = 16) -> tf.data.Dataset:
    """Whole utterances for verification, each padded with zeros to the next of `PADDED_SAMPLES`.

    Args:
        path: file written by `gather`.
        config: the spectrogram.
        recordings: sample hashes of the utterances to yield.
        batch_size: utterances of up to 5 s per batch; there are fewer longer ones in a batch.

    Returns:
        A finite dataset of ({"spectrogram": float32 [B, T, bins], "frames": int32 [B]}, sample hashes string [B] of 16
        hex digits).
    """
    wanted = _lookup({_hex(recording) for recording in recordings})
    sizes = tf.constant(batch_sizes(batch_size))

    def speech_of(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = _parsed(record, ["speech", "sample_hash"])
        return tf.io.decode_raw(example["speech"], tf.int16, little_endian=True), example["sample_hash"]

    def is_wanted(speech: tf.Tensor, sample_hash: tf.Tensor) -> tf.Tensor:
        return wanted.lookup(sample_hash) >= 0

    def length_class(speech: tf.Tensor, sample_hash: tf.Tensor) -> tf.Tensor:
        return tf.searchsorted(PADDED_SAMPLES, [tf.size(speech, tf.int64)], out_type=tf.int64)[0]

    def seats(length: tf.Tensor) -> tf.Tensor:
        return sizes[length]

    def batches(length: tf.Tensor, window: tf.data.Dataset) -> tf.data.Dataset:
        def padded(speech: tf.Tensor, sample_hash: tf.Tensor) -> tuple[tf.Tensor, ...]:
            samples = tf.size(speech, tf.int64)
            padding = tf.constant(PADDED_SAMPLES)[length] - samples
            return tf.pad(speech, [[0, padding]]), tf.cast(samples, tf.int32), sample_hash

        return window.map(padded).batch(seats(length))

    def inputs(speech: tf.Tensor, samples: tf.Tensor, sample_hash: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        return padded_inputs(tf.cast(speech, tf.float32) / INT16_SCALE, samples, config), sample_hash

    return (
        tf.data.TFRecordDataset(str(path))
        .map(speech_of, num_parallel_calls=THREADS)
        .filter(is_wanted)
        .group_by_window(length_class, batches, window_size_func=seats)
        .map(inputs, num_parallel_calls=THREADS)
        .prefetch(READ_AHEAD_BATCHES)
        .with_options(pipeline_options())
    )


@contextmanager
def damage_explained(shards: Shards, gathered: Path) -> Iterator[None]:
    """Name the file whose damaged records stop a training.

    Args:
        shards: the shards trained on.
        gathered: the file that `gather` wrote, or will write.

    Raises:
        UserError: a record in one of these files is damaged or not in our format.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        damaged = next((path for path in (gathered, *shards.paths) if path.is_file() and _is_damaged(path)), None)
        if damaged is None:
            raise
        again = "the same command" if damaged == gathered else "the same ser-tf prepare command"
        raise UserError(f"{damaged}: a record is damaged; remove the file and start {again} again") from error


def _is_damaged(path: Path) -> bool:
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            example = _parsed(record, ["speech", "speaker", "sample_hash"])
            samples = tf.size(tf.io.decode_raw(example["speech"], tf.int16))
            if not 0 < samples <= PADDED_SAMPLES[-1]:
                return True
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        return True
    return False


def _parsed(record: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
    return tf.io.parse_single_example(record, {name: tf.io.FixedLenFeature([], tf.string) for name in names})


def _checked(shards: Shards, speakers: Iterable[str]) -> set[str]:
    chosen = set(speakers)
    absent = sorted(chosen - shards.counts.keys())
    if absent:
        raise UserError(
            f"{', '.join(map(str, shards.folders))}: expected the speaker {absent[0]}. Received: shards of "
            f"{len(shards.counts)} other speakers such as {next(iter(shards.counts))}"
        )
    return chosen


def _hex(sample_hash: int) -> str:
    """A sample hash as records store it."""
    return f"{sample_hash:016x}"


def _lookup(texts: Iterable[str]) -> tf.lookup.StaticHashTable:
    """Table: text -> its index, -1 for other texts."""
    names = list(texts)
    table = tf.lookup.KeyValueTensorInitializer(tf.constant(names, tf.string), tf.range(len(names)))
    return tf.lookup.StaticHashTable(table, -1)


def _mixed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """One number from seed and epoch; epochs stay below 2**32."""
    return tf.constant(np.array(seed << 32, np.uint64).astype(np.int64)) + epoch  # seeds from 2**31 on wrap around
