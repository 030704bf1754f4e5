"""speech files -> batches for training (tf.data), evaluation and prediction, all with the one spectrogram code."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import tensorflow as tf

from ser_tf.audio.spectrogram import compressed_and_normalised, magnitudes, spectrogram
from ser_tf.audio.vad import INT16_SCALE, check_speech_length
from ser_tf.config import SAMPLE_RATE_HZ, Config, TrainingConfig
from ser_tf.pipeline.augmentation import draws, source_frames, with_changes, with_masks
from ser_tf.pipeline.batches import epoch_batches
from ser_tf.pipeline.speech_cache import HEADER_WORDS, SpeechFile

PADDED_SECONDS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
"""Whole utterances are padded to the next of these, so that the network sees few shapes."""
FULL_BATCH_SECONDS = 5
"""Utterances longer than this come in smaller batches, so that a batch of them takes no more memory."""
THREADS = min(4, os.cpu_count() or 1)
READ_AHEAD_BATCHES = 4

Inputs = dict[str, np.ndarray]
"""Arrays, which every Keras backend takes."""


def training_dataset(
    speech: Sequence[SpeechFile], labels: np.ndarray, config: Config, first_epoch: int = 0
) -> tf.data.Dataset:
    """Endless batches of random crops, epoch after epoch as `epoch_batches` deals them.

    Every draw depends on the seed, the epoch and the place in the epoch alone: a dataset that starts at epoch 7 goes on
    exactly as the one that started at epoch 0. Balanced batches hold every emotion, whatever `labels` are.

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
    deal(speech, training, first_epoch)  # a worker thread of the pipeline would report it too late

    def epochs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch = first_epoch
        while True:
            utterances = deal(speech, training, epoch).ravel()
            places = np.arange(len(utterances), dtype=np.int64)
            yield utterances, np.stack([np.full_like(places, training.seed), (epoch << 32) + places], axis=1)
            epoch += 1

    paths = tf.constant([str(file.path) for file in speech])
    classes = tf.constant(labels, tf.int32)
    samples = crop_samples(config)

    def crop(utterance: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        crop_seed, change_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        cropped = random_crop(_read(tf.gather(paths, utterance)), samples, crop_seed)
        return cropped, draws(change_seed, config.augmentation), tf.gather(classes, utterance)

    def batch(crops: tf.Tensor, numbers: tf.Tensor, batch_labels: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return crop_inputs(crops, numbers, config), batch_labels

    signature = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 2], tf.int64))
    return (
        tf.data.Dataset.from_generator(epochs, output_signature=signature)
        .unbatch()
        .map(crop, num_parallel_calls=THREADS)
        .batch(training.batch_size, drop_remainder=True)
        .map(batch, num_parallel_calls=THREADS)
        .prefetch(READ_AHEAD_BATCHES)
        .with_options(pipeline_options())
    )


def crop_samples(config: Config) -> int:
    """Samples of a training crop before its changes: some spare ones where its time may be stretched."""
    signal = config.spectrogram
    samples = round(config.training.crop_seconds * SAMPLE_RATE_HZ)
    spare = source_frames(signal.frames(samples), config.augmentation) - signal.frames(samples)
    return samples + spare * signal.hop_samples // (2 if signal.reversal == "appended" else 1)


def crop_inputs(crops: tf.Tensor, numbers: tf.Tensor, config: Config) -> dict[str, tf.Tensor]:
    """What the network takes of a batch of training crops.

    Args:
        crops: float32 [B, `crop_samples`].
        numbers: float32 [B, D], from `draws`.
        config: crop, spectrogram, augmentation.

    Returns:
        {"spectrogram": float32 [B, T, bins], "frames": int32 [B], all T}.
    """
    batch = tf.shape(crops)[0]
    magnitude, _ = magnitudes(crops, tf.fill([batch], crops.shape[1]), config.spectrogram)
    frames = config.spectrogram.frames(round(config.training.crop_seconds * SAMPLE_RATE_HZ))
    magnitude = with_changes(magnitude, numbers, frames, config.augmentation)
    true_frames = tf.fill([batch], frames)
    values = compressed_and_normalised(magnitude, true_frames, config.spectrogram)
    return {"spectrogram": with_masks(values, numbers, config.augmentation), "frames": true_frames}


def deal(speech: Sequence[SpeechFile], training: TrainingConfig, epoch: int) -> np.ndarray:
    """Who comes with whom in an epoch of `training_dataset`: places in `speech`, int [batches, B].

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
    """Batches of whole utterances, the short ones first, each padded with zeros to the next of `PADDED_SECONDS`.

    JAX compiles a network for every shape, so that all batches of a length have the same: the last is filled up with
    utterances of that length once more.

    Args:
        speech: the utterances.
        config: the spectrogram.
        batch_size: utterances of up to 5 s in a batch; longer ones come in smaller batches.

    Yields:
        ({"spectrogram": float32 [B, T, bins], "frames": int32 [B]}, int [B]), the last the places of the utterances in
        `speech`, each at least once.
    """
    for places, padded_samples in _alike([file.samples for file in speech], batch_size):
        yield _inputs_of_alike([speech[place].waveform for place in places], padded_samples, config), places


def inputs_of_each(
    speech: Sequence[np.ndarray], config: Config, batch_size: int = 16
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """The batches of `evaluation_batches`, of utterances that are in memory.

    Args:
        speech: float32 [N] of each, in [-1, 1] at 16 kHz, without silence (`Speech.waveform`).
        config: the spectrogram.
        batch_size: as in `evaluation_batches`.

    Yields:
        As `evaluation_batches`.

    Raises:
        UserError: more than 60 s of speech.
    """
    for places, padded_samples in _alike([len(waveform) for waveform in speech], batch_size):
        yield _inputs_of_alike([speech[place] for place in places], padded_samples, config), places


def inputs_of(speech: np.ndarray, config: Config) -> Inputs:
    """What the network takes of one utterance, padded like those of `evaluation_batches`.

    Args:
        speech: float32 [N] in [-1, 1] at 16 kHz, without silence (`Speech.waveform`).
        config: the spectrogram.

    Returns:
        {"spectrogram": float32 [1, T, bins], "frames": int32 [1]}.

    Raises:
        UserError: more than 60 s of speech.
    """
    return _inputs_of_alike([speech], _padded_samples(len(speech)), config)


def _alike(samples: Sequence[int], batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Places of the utterances of each batch, and the length they are padded to."""
    padded = np.array([_padded_samples(count) for count in samples])
    for padded_samples in np.unique(padded):
        places = np.flatnonzero(padded == padded_samples)
        full_batch = batch_size * FULL_BATCH_SECONDS * SAMPLE_RATE_HZ // padded_samples
        seats = max(1, min(batch_size, full_batch))
        for batch in np.resize(places, (-(-len(places) // seats), seats)):  # where places end, they begin again
            yield batch, int(padded_samples)


def _inputs_of_alike(speech: Sequence[np.ndarray], padded_samples: int, config: Config) -> Inputs:
    """What the network takes of waveforms that are padded to one length."""
    padded = np.stack([np.pad(samples, (0, padded_samples - len(samples))) for samples in speech])
    lengths = np.array([len(samples) for samples in speech], "int32")
    return {name: value.numpy() for name, value in _compiled_inputs(config)(padded, lengths).items()}


@cache
def _compiled_inputs(config: Config) -> Callable[[np.ndarray, np.ndarray], dict[str, tf.Tensor]]:
    """`padded_inputs` as a graph of any batch and length, which is faster than operation by operation."""
    signature = (tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32))
    return tf.function(lambda speech, samples: padded_inputs(speech, samples, config), input_signature=signature)


def padded_inputs(speech: tf.Tensor, samples: tf.Tensor, config: Config) -> dict[str, tf.Tensor]:
    """What the network takes of a batch: speech float32 [B, N] padded with zeros, and its true lengths int32 [B]."""
    values, frames = spectrogram(speech, samples, config.spectrogram)
    return {"spectrogram": values, "frames": frames}


def _read(path: tf.Tensor) -> tf.Tensor:
    """The speech of a cached file, float32 [N]; the same numbers as `Speech.waveform`."""
    samples = tf.io.decode_raw(tf.io.read_file(path), tf.int16)[HEADER_WORDS:]
    return tf.cast(samples, tf.float32) / INT16_SCALE


def random_crop(speech: tf.Tensor, crop_samples: int, seed: tf.Tensor) -> tf.Tensor:
    """A random stretch of `crop_samples`; shorter speech repeats itself first."""
    repeats = -(-crop_samples // tf.size(speech))
    repeated = tf.tile(speech, [repeats])
    start = tf.random.stateless_uniform([], seed, 0, tf.size(repeated) - crop_samples + 1, tf.int32)
    return tf.ensure_shape(repeated[start : start + crop_samples], [crop_samples])


def _padded_samples(samples: int) -> int:
    check_speech_length(samples, "speech")
    return next(int(s * SAMPLE_RATE_HZ) for s in PADDED_SECONDS if s * SAMPLE_RATE_HZ >= samples)


def pipeline_options() -> tf.data.Options:
    """Same order always, and few threads: the network needs the cores."""
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = THREADS
    options.threading.max_intra_op_parallelism = 1
    return options
