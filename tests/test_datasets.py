import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from ser_tf.audio.spectrogram import spectrogram
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import AugmentationConfig, Config, SpectrogramConfig, TrainingConfig, VadConfig
from ser_tf.corpora.corpus import Utterance
from ser_tf.errors import UserError
from ser_tf.pipeline import (
    epoch_batches,
    evaluation_batches,
    inputs_of,
    inputs_of_each,
    prepare_speech,
    training_dataset,
)
from ser_tf.pipeline.datasets import PADDED_SAMPLES

EMOTIONS = ("sad", "happy")
WHOLE = VadConfig(minimum_speech_seconds=1000)  # nothing is removed: the test decides what the speech is


def config_with(augmentation: AugmentationConfig | None = None, **training) -> Config:
    schedule = {"batch_size": 4, "crop_seconds": 0.5, **training}
    return Config(vad=WHOLE, training=TrainingConfig(**schedule), augmentation=augmentation or AugmentationConfig())


@pytest.fixture
def prepare(tmp_path, rng):
    """Makes cached speech of the wanted lengths; speakers and emotions alternate."""

    def speech_files(*lengths: int):
        utterances = []
        for number, samples in enumerate(lengths):
            path = tmp_path / f"{number}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(samples), 16_000)
            utterances.append(Utterance(path.stem, path, f"table:{number % 3}", EMOTIONS[number % 2]))
        return prepare_speech(utterances, Config(vad=WHOLE), tmp_path / "cache").items

    return speech_files


def labels_of(speech) -> np.ndarray:
    return np.array([EMOTIONS.index(item.utterance.emotion) for item in speech])


def speech_of(item) -> np.ndarray:
    return remove_silence(read_waveform(item.utterance.path), WHOLE).waveform


def taken(dataset: tf.data.Dataset, batches: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(x["spectrogram"], x["frames"], y) for x, y in dataset.take(batches).as_numpy_iterator()]


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("samples", [8_000, 4_000, 3_000])  # as long as the crop; twice in it; 2 2/3 times in it
def test_training_batches_hold_the_crops_and_labels_that_were_dealt(prepare, samples):
    speech = prepare(*[samples] * 8)
    config = config_with()
    ((values, frames, labels), _) = taken(training_dataset(speech, labels_of(speech), config), 2)
    assert values.shape == (4, 47, 257)  # 1 + (8000 - 512) // 160
    assert values.dtype == np.float32
    assert frames.tolist() == [47] * 4
    assert frames.dtype == labels.dtype == np.int32
    emotions, speakers = [i.utterance.emotion for i in speech], [i.utterance.speaker for i in speech]
    dealt = epoch_batches(emotions, speakers, batch_size=4, batches="balanced", seed=0, epoch=0)[0]
    np.testing.assert_array_equal(labels, labels_of(speech)[dealt])
    for row, utterance in enumerate(dealt):
        repeated = np.tile(speech_of(speech[utterance]), 3)
        # Where the speech fills the crop a whole number of times there is one crop only; else some start fits.
        starts = [0] if samples != 3_000 else range(3 * samples - 8_000 + 1)
        crops = np.stack([repeated[start : start + 8_000] for start in starts])
        candidates, _ = spectrogram(tf.constant(crops), tf.fill([len(crops)], 8_000), config.spectrogram)
        assert np.abs(candidates - values[row]).max(axis=(1, 2)).min() < 1e-4


def test_crops_of_long_speech_differ_and_come_from_it(prepare):
    speech = prepare(*[8_100] * 4)
    config = config_with(batches="plain")
    batches = taken(training_dataset(speech, labels_of(speech), config), 6)
    for epoch, (values, _, _) in enumerate(batches):
        emotions, speakers = [i.utterance.emotion for i in speech], [i.utterance.speaker for i in speech]
        row = epoch_batches(emotions, speakers, batch_size=4, batches="plain", seed=0, epoch=epoch)[0]
        row = row.tolist().index(0)
        crops = np.lib.stride_tricks.sliding_window_view(speech_of(speech[0]), 8_000)  # 101 of them
        candidates, _ = spectrogram(tf.constant(crops), tf.fill([len(crops)], 8_000), config.spectrogram)
        assert np.abs(candidates - values[row]).max(axis=(1, 2)).min() < 1e-4
    assert len({values.tobytes() for values, _, _ in batches}) == 6


AUGMENTED = AugmentationConfig(
    time_stretch=0.2, time_masks=1, time_mask_frames=9, frequency_masks=1, noise_probability=0.5
)


@pytest.mark.parametrize("augmentation", [AugmentationConfig(), AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("variation", [0, 0.5])
def test_a_seed_gives_the_same_batches_and_resuming_goes_on(prepare, augmentation, variation):
    speech = prepare(*range(6_000, 16_000, 1_000))  # 10 utterances: 3 batches an epoch
    config = config_with(augmentation, crop_variation=variation)
    labels = labels_of(speech)
    first = taken(training_dataset(speech, labels, config), 9)
    assert_equal(taken(training_dataset(speech, labels, config), 9), first)
    assert_equal(taken(training_dataset(speech, labels, config, first_epoch=1), 6), first[3:])
    different = taken(training_dataset(speech, labels, config_with(augmentation, seed=1)), 1)
    assert different[0][0].shape != first[0][0].shape or (different[0][0] != first[0][0]).any()


def test_each_batch_has_one_of_five_crop_lengths(prepare):
    speech = prepare(*[12_000] * 8)
    batches = taken(training_dataset(speech, labels_of(speech), config_with(crop_variation=0.5)), 60)
    for values, frames, _ in batches:
        assert frames.tolist() == [values.shape[1]] * 4
    counts = Counter(values.shape[1] for values, _, _ in batches)
    # 1 + (N - 512) // 160 for 0.25, 0.375, 0.5, 0.625 and 0.75 s. 60 batches miss a length with a chance of 8e-6.
    assert sorted(counts) == [22, 35, 47, 60, 72]
    whole = np.stack([speech_of(item) for item in speech])
    expected, _ = spectrogram(tf.constant(whole), tf.fill([8], 12_000), config_with().spectrogram)
    longest = next(values for values, _, _ in batches if values.shape[1] == 72)  # as long as the speech
    for row in longest:
        assert np.abs(expected - row).max(axis=(1, 2)).min() < 1e-4


def test_augmentation_reaches_the_spectrogram(prepare):
    speech = prepare(*[8_000] * 4)  # one crop only: what differs is augmentation
    labels = labels_of(speech)
    clean = taken(training_dataset(speech, labels, config_with()), 1)[0][0]
    noisy = taken(training_dataset(speech, labels, config_with(AugmentationConfig(noise_probability=1))), 1)[0][0]
    assert (noisy != clean).mean() > 0.99
    masks = AugmentationConfig(time_masks=3, time_mask_frames=40)
    masked = taken(training_dataset(speech, labels, config_with(masks)), 1)[0][0]
    hidden = (masked == 0).all(axis=2)  # [B, T]
    assert hidden.any()
    assert len({row.tobytes() for row in hidden}) > 1  # each utterance has its own masks
    np.testing.assert_array_equal(masked[~hidden], clean[~hidden])


def test_balanced_batches_hold_every_emotion_whatever_the_labels(prepare):
    speech = prepare(*[8_000] * 12)
    emotion_numbers = labels_of(speech)
    for _, _, utterances in taken(training_dataset(speech, np.arange(12), config_with()), 6):
        assert np.bincount(emotion_numbers[utterances]).tolist() == [2, 2]


def test_impossible_batches_are_reported_at_once(prepare):
    speech = prepare(8_000, 8_000, 8_000)
    with pytest.raises(UserError, match=r"at most the number of training utterances, 3. Received: batch_size=4"):
        training_dataset(speech, labels_of(speech), config_with())


def test_evaluation_gives_every_whole_utterance(prepare):
    lengths = [40_000, 8_000, 16_000, 16_001, 512, 90_000, 12_345]
    speech = prepare(*lengths)
    config = config_with()
    seen = set()
    for inputs, places in evaluation_batches(speech, config, batch_size=2):
        # The padded length is one of the few.
        assert inputs["spectrogram"].shape[1] in {1 + (samples - 512) // 160 for samples in PADDED_SAMPLES}
        for values, frames, place in zip(inputs["spectrogram"], inputs["frames"], places, strict=True):
            alone, true_frames = spectrogram(
                speech_of(speech[place])[np.newaxis], tf.constant([lengths[place]]), config.spectrogram
            )
            assert frames == true_frames[0] == alone.shape[1]
            np.testing.assert_allclose(values[:frames], alone[0], atol=1e-5)
            assert not values[frames:].any()
            seen.add(place)
    assert seen == set(range(len(lengths)))


def test_evaluation_has_one_shape_for_each_padded_length(prepare):
    # Five of up to 1 s, three of up to 1.5 s, and five of up to 10 s, of which 4 seats of 5 s hold two.
    speech = prepare(*[9_000] * 3, *[20_000] * 3, *[16_000] * 2, *[150_000] * 5)
    batches = list(evaluation_batches(speech, config_with(), batch_size=4))
    frames = {seconds: 1 + int(seconds * 16_000 - 512) // 160 for seconds in (1, 1.5, 10)}
    shapes = [(4, frames[1])] * 2 + [(4, frames[1.5])] + [(2, frames[10])] * 3
    assert [inputs["spectrogram"].shape for inputs, _ in batches] == [(*shape, 257) for shape in shapes]
    # The last batch of each length begins again with the length's first utterances.
    assert [places.tolist() for _, places in batches] == [
        [0, 1, 2, 6], [7, 0, 1, 2], [3, 4, 5, 3], [8, 9], [10, 11], [12, 8]
    ]  # fmt: skip


@pytest.mark.parametrize("normalisation", ["global", "per_bin", "per_frame"])
def test_prediction_and_evaluation_agree(prepare, normalisation):
    speech = prepare(20_000, 9_000, 23_456)
    config = dataclasses.replace(config_with(), spectrogram=SpectrogramConfig(normalisation=normalisation))
    for inputs, places in evaluation_batches(speech, config):
        for row, place in enumerate(places):
            alone = inputs_of(speech_of(speech[place]), config)
            assert alone["frames"].tolist() == [inputs["frames"][row]]
            np.testing.assert_allclose(alone["spectrogram"][0], inputs["spectrogram"][row], atol=1e-5)


def test_utterances_in_memory_come_in_the_batches_of_evaluation(prepare):
    speech = prepare(40_000, 8_000, 16_000, 7_000, 150_000, 100_000, 7_500)
    config = config_with()
    in_memory = list(inputs_of_each([speech_of(item) for item in speech], config, batch_size=2))
    for (inputs, places), (expected, expected_places) in zip(
        in_memory, evaluation_batches(speech, config, batch_size=2), strict=True
    ):
        np.testing.assert_array_equal(places, expected_places)
        np.testing.assert_array_equal(inputs["frames"], expected["frames"])
        np.testing.assert_allclose(inputs["spectrogram"], expected["spectrogram"], atol=1e-5)


def test_speech_of_more_than_60_s_has_no_inputs():
    assert inputs_of(np.zeros(960_000, np.float32), Config())["frames"].tolist() == [5_997]
    with pytest.raises(UserError, match=r"speech: expected at most 60 s of speech. Received: 60.1 s; cut it into"):
        inputs_of(np.zeros(961_600, np.float32), Config())


def test_real_recordings_go_through_every_route(shared_data, tmp_path):
    paths = sorted((shared_data / "ravdess" / "Actor_01").glob("*.flac"))[::10]
    utterances = [Utterance(path.stem, Path(path), "ravdess:01", "sad") for path in paths]
    speech = prepare_speech(utterances, Config(), tmp_path).items
    for inputs, places in evaluation_batches(speech, Config()):
        for row, place in enumerate(places):
            alone = inputs_of(remove_silence(read_waveform(paths[place]), VadConfig()).waveform, Config())
            np.testing.assert_allclose(alone["spectrogram"][0], inputs["spectrogram"][row], atol=1e-4)
