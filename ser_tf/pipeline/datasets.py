"""speech files -> batches for training (tf.data), evaluation and prediction, all with the same spectrogram code."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import tensorflow as tf

from ser_tf.audio.spectrogram import compressed_and_normalised, magnitudes, spectrogram
from ser_tf.audio.vad import INT16_SCALE, check_speech_length
from ser_tf.config import SAMPLE_RATE_HZ, Config, TrainingConfig
from ser_tf.pipeline.augmentation import draws, source_frames, with_changes, with_masks
from ser_tf.pipeline.batches import epoch_batches
from ser_tf.pipeline.speech_cache import HEADER_WORDS, SpeechFile

PADDED_SAMPLES = (SAMPLE_RATE_HZ * np.array([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60])).astype("int64")
"""Whole utterances are padded to the next of these lengths, so that the network receives few shapes."""
FULL_BATCH_SECONDS = 5
"""Batches of longer utterances are smaller, so they need no more memory."""
CROP_LENGTHS = 5
"""Different lengths of training crops, if they vary."""
THREADS = min(4, os.cpu_count() or 1)
READ_AHEAD_BATCHES = 4

Inputs = dict[str, np.ndarray]
"""Arrays, which every Keras backend accepts."""


def training_dataset(
    speech: Sequence[SpeechFile], labels: np.ndarray, config: Config, first_epoch: int = 0
) -> tf.data.Dataset:
    """Endless batches of random crops, epoch after epoch, dealt by `epoch_batches`.

    Every draw depends only on the seed, the epoch and the position in the epoch: a dataset that starts at epoch 7
    yields the same batches as one that started at epoch 0. Balanced batches hold every emotion, independent of
    `labels`. With `crop_variation`, each batch draws the length of its crops.

    Args:
        speech: the training utterances.
        labels: int [N], the class of each.
        config: seed, batches, crop, augmentation, spectrogram.
        first_epoch: the epoch to start with.

    Returns:
        A dataset of ({"spectrogram": float32 [B, T, bins], "frames": int32 [B]}, labels int32 [B]). An epoch has
        ceil(N / B) batches.

    Raises:
        UserError: such batches cannot be dealt from this speech.
    """
    training = config.training
    deal(speech, training, first_epoch)  # raise here: a worker thread of the pipeline would report it too late

    configs = _of_each_crop_length(config)

    def epochs() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        epoch = first_epoch
        while True:
            dealt = deal(speech, training, epoch)
            places = np.arange(dealt.size, dtype=np.int64)
            seeds = np.stack([np.full_like(places, training.seed), (epoch << 32) + places], axis=1)
            generator = np.random.default_rng([training.seed, epoch, 1])
            drawn = generator.integers(len(configs), size=(len(dealt), 1), dtype=np.int32)
            yield dealt.ravel(), seeds, np.broadcast_to(drawn, dealt.shape).ravel()
            epoch += 1

    paths = tf.constant([str(file.path) for file in speech])
    classes = tf.constant(labels, tf.int32)
    samples = tf.constant([crop_samples(of_length) for of_length in configs])

    def crop(utterance: tf.Tensor, seed: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, ...]:
        crop_seed, change_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        cropped = random_crop(_read(tf.gather(paths, utterance)), tf.gather(samples, length), crop_seed)
        return cropped, length, draws(change_seed, config.augmentation), tf.gather(classes, utterance)

    def batch(
        crops: tf.Tensor, length: tf.Tensor, numbers: tf.Tensor, batch_labels: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        inputs = [partial(crop_inputs, crops, numbers, of_length) for of_length in configs]
        return tf.switch_case(length[0], inputs), batch_labels

    signature = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 2], tf.int64), tf.TensorSpec([None], tf.int32))
    return (
        tf.data.Dataset.from_generator(epochs, output_signature=signature)
        .unbatch()
        .map(crop, num_parallel_calls=THREADS)
        .batch(training.batch_size, drop_remainder=True)
        .map(batch, num_parallel_calls=THREADS)
        .prefetch(READ_AHEAD_BATCHES)
        .with_options(pipeline_options())
    )


def _of_each_crop_length(config: Config) -> list[Config]:
    """The configuration with each `crop_seconds` that `crop_variation` allows."""
    training = config.training
    seconds = training.crop_seconds * np.unique(1 + training.crop_variation * np.linspace(-1, 1, CROP_LENGTHS))
    return [replace(config, training=replace(training, crop_seconds=length)) for length in seconds.tolist()]


def crop_samples(config: Config) -> int:
    """Samples of a training crop before augmentation, with spare ones for time stretching."""
    signal = config.spectrogram
    samples = round(config.training.crop_seconds * SAMPLE_RATE_HZ)
    spare = source_frames(signal.frames(samples), config.augmentation) - signal.frames(samples)
    return samples + spare * signal.hop_samples // (2 if signal.reversal == "appended" else 1)


def crop_inputs(crops: tf.Tensor, numbers: tf.Tensor, config: Config) -> dict[str, tf.Tensor]:
    """Network inputs of a batch of training crops.

    Args:
        crops: float32 [B, `crop_samples`].
        numbers: float32 [B, D], from `draws`.
        config: crop, spectrogram, augmentation.

    Returns:
        {"spectrogram": float32 [B, T, bins], "frames": int32 [B], all T}.
    """
    crops = tf.ensure_shape(crops, [None, crop_samples(config)])
    batch = tf.shape(crops)[0]
    magnitude, _ = magnitudes(crops, tf.fill([batch], crops.shape[1]), config.spectrogram)
    frames = config.spectrogram.frames(round(config.training.crop_seconds * SAMPLE_RATE_HZ))
    magnitude = with_changes(magnitude, numbers, frames, config.augmentation)
    true_frames = tf.fill([batch], frames)
    values = compressed_and_normalised(magnitude, true_frames, config.spectrogram)
    return {"spectrogram": with_masks(values, numbers, config.augmentation), "frames": true_frames}


def deal(speech: Sequence[SpeechFile], training: TrainingConfig, epoch: int) -> np.ndarray:
    """Batches of an epoch of `training_dataset`: indices into `speech`, int [batches, B].

    Raises:
        UserError: such batches cannot be dealt from this speech.
    """
    return epoch_batches(
        [file.utterance.emotion for file in speech],
        [file.utterance.speaker for file in speech],
        batch_size=training.batch_size,
        batches=training.batches,
        seed=training.seed,
        epoch=epoch,
    )


def evaluation_batches(
    speech: Sequence[SpeechFile], config: Config, batch_size: int = 16
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """Batches of whole utterances, short ones first, each padded with zeros to the next of `PADDED_SAMPLES`.

    JAX compiles a network for every shape, so all batches of a length have the same size: utterances of that length
    repeat to fill the last one.

    Args:
        speech: the utterances.
        config: the spectrogram.
        batch_size: batch size for utterances of up to 5 s; batches of longer ones are smaller.

    Yields:
        ({"spectrogram": float32 [B, T, bins], "frames": int32 [B]}, int [B]); the last holds the indices of the
        utterances in `speech`, each at least once.
    """
    for places, padded_samples in _alike([file.samples for file in speech], batch_size):
        yield _inputs_of_alike([speech[place].waveform for place in places], padded_samples, config), places


def inputs_of_each(
    speech: Sequence[np.ndarray], config: Config, batch_size: int = 16
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """Like `evaluation_batches`, for utterances in memory.

    Args:
        speech: float32 [N] of each, in [-1, 1] at 16 kHz, without silence (`Speech.waveform`).
        config: the spectrogram.
        batch_size: as for `evaluation_batches`.

    Yields:
        As `evaluation_batches`.

    Raises:
        UserError: more than 60 s of speech.
    """
    for places, padded_samples in _alike([len(waveform) for waveform in speech], batch_size):
        yield _inputs_of_alike([speech[place] for place in places], padded_samples, config), places


def inputs_of(speech: np.ndarray, config: Config) -> Inputs:
    """Network inputs of one utterance, padded as in `evaluation_batches`.

    Args:
        speech: float32 [N] in [-1, 1] at 16 kHz, without silence (`Speech.waveform`).
        config: the spectrogram.

    Returns:
        {"spectrogram": float32 [1, T, bins], "frames": int32 [1]}.

    Raises:
        UserError: more than 60 s of speech.
    """
    ((_, padded_samples),) = _alike([len(speech)], batch_size=1)
    return _inputs_of_alike([speech], padded_samples, config)


def batch_sizes(batch_size: int) -> np.ndarray:
    """Utterances in a batch for each of `PADDED_SAMPLES`: `batch_size` up to 5 s, fewer above, at least one."""
    return np.clip(batch_size * FULL_BATCH_SECONDS * SAMPLE_RATE_HZ // PADDED_SAMPLES, 1, batch_size)


def _alike(samples: Sequence[int], batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Indices of the utterances of each batch, and their padded length."""
    for count in samples:
        check_speech_length(count, "speech")
    length_classes = np.searchsorted(PADDED_SAMPLES, samples)
    for length_class in np.unique(length_classes):
        places = np.flatnonzero(length_classes == length_class)
        seats = batch_sizes(batch_size)[length_class]
        for batch in np.resize(places, (-(-len(places) // seats), seats)):  # `resize` repeats `places`
            yield batch, int(PADDED_SAMPLES[length_class])


def _inputs_of_alike(speech: Sequence[np.ndarray], padded_samples: int, config: Config) -> Inputs:
    """Network inputs of waveforms padded to one length."""
    padded = np.stack([np.pad(samples, (0, padded_samples - len(samples))) for samples in speech])
    lengths = np.array([len(samples) for samples in speech], "int32")
    return {name: value.numpy() for name, value in _compiled_inputs(config)(padded, lengths).items()}


@cache
def _compiled_inputs(config: Config) -> Callable[[np.ndarray, np.ndarray], dict[str, tf.Tensor]]:
    """`padded_inputs` as a graph for any batch and length, which is faster than eager operations."""
    signature = (tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32))
    return tf.function(lambda speech, samples: padded_inputs(speech, samples, config), input_signature=signature)


def padded_inputs(speech: tf.Tensor, samples: tf.Tensor, config: Config) -> dict[str, tf.Tensor]:
    """Network inputs of a batch: speech float32 [B, N] padded with zeros, and its true lengths int32 [B]."""
    values, frames = spectrogram(speech, samples, config.spectrogram)
    return {"spectrogram": values, "frames": frames}


def _read(path: tf.Tensor) -> tf.Tensor:
    """The speech of a cached file, float32 [N], equal to `Speech.waveform`."""
    samples = tf.io.decode_raw(tf.io.read_file(path), tf.int16)[HEADER_WORDS:]
    return tf.cast(samples, tf.float32) / INT16_SCALE


def random_crop(speech: tf.Tensor, crop_samples: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random part of `crop_samples`; shorter speech is repeated first."""
    repeats = -(-crop_samples // tf.size(speech))
    repeated = tf.tile(speech, [repeats])
    start = tf.random.stateless_uniform([], seed, 0, tf.size(repeated) - crop_samples + 1, tf.int32)
    return repeated[start : start + crop_samples]


def pipeline_options() -> tf.data.Options:
    """Deterministic order and few threads: the network needs the cores."""
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = THREADS
    options.threading.max_intra_op_parallelism = 1
    return options
