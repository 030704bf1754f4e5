import numpy as np
import pytest
import tensorflow as tf

from ser_tf.config import AugmentationConfig
from ser_tf.pipeline.augmentation import with_masks, with_noise


def seed(number: int) -> tf.Tensor:
    return tf.constant([0, number], tf.int64)


@pytest.fixture
def speech() -> tf.Tensor:
    """A sine of level 0.1, whose power is 0.1 ** 2 / 2."""
    return tf.constant(0.1 * np.sin(np.arange(16_000)), tf.float32)


def test_everything_is_off_by_default(speech):
    assert with_noise(speech, seed(0), AugmentationConfig()) is speech
    spectrogram = tf.ones([200, 257])
    np.testing.assert_array_equal(with_masks(spectrogram, seed(0), AugmentationConfig()), spectrogram)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_noise_has_the_wanted_level(speech, snr_db):
    config = AugmentationConfig(noise_probability=1, noise_snr_db=(snr_db, snr_db))
    noise = with_noise(speech, seed(1), config) - speech
    measured = 10 * np.log10(np.mean(np.square(speech)) / np.mean(np.square(noise)))
    # The power of 16000 draws is known to sqrt(2 / 16000) = 1.1 % or 0.05 dB.
    assert measured == pytest.approx(snr_db, abs=0.25)


def test_noise_comes_with_its_probability(speech):
    config = AugmentationConfig(noise_probability=0.3)
    noisy = [bool((with_noise(speech[:100], seed(n), config) != speech[:100]).numpy().any()) for n in range(400)]
    # Binomial: 400 x 0.3 = 120, deviation sqrt(400 x 0.3 x 0.7) = 9.2.
    assert 90 <= sum(noisy) <= 150


def bands(is_zero: np.ndarray) -> int:
    return int(np.sum(np.diff(np.concatenate([[0], is_zero.astype(int)])) == 1))


@pytest.mark.parametrize("number", range(20))
def test_masks_are_bands_of_zeros(number):
    config = AugmentationConfig(time_masks=2, time_mask_frames=30, frequency_masks=1, frequency_mask_bins=24)
    masked = with_masks(tf.ones([200, 257]), seed(number), config).numpy()
    masked_frames, masked_bins = (masked == 0).all(axis=1), (masked == 0).all(axis=0)
    assert bands(masked_frames) <= 2
    assert bands(masked_bins) <= 1
    assert masked_frames.sum() <= 60
    assert masked_bins.sum() <= 24
    np.testing.assert_array_equal(masked, np.outer(~masked_frames, ~masked_bins))


def test_masks_reach_every_place_and_width():
    config = AugmentationConfig(time_masks=1, time_mask_frames=3)
    masked = np.array([with_masks(tf.ones([6, 4]), seed(n), config).numpy()[:, 0] == 0 for n in range(200)])
    assert masked.any(axis=0).all()
    assert set(masked.sum(axis=1).tolist()) == {0, 1, 2, 3}


def test_a_mask_is_no_longer_than_the_spectrogram():
    config = AugmentationConfig(time_masks=1, time_mask_frames=500)
    assert with_masks(tf.ones([3, 4]), seed(0), config).shape == (3, 4)


def test_the_seed_decides(speech):
    config = AugmentationConfig(time_masks=2, frequency_masks=2, noise_probability=1)
    ones = tf.ones([200, 257])
    for augment, values in ((with_noise, speech), (with_masks, ones)):
        first = augment(values, seed(1), config)
        np.testing.assert_array_equal(augment(values, seed(1), config), first)
        assert (augment(values, seed(2), config) != first).numpy().any()
