import math

import numpy as np
import pytest
import tensorflow as tf

from ser_tf.config import AugmentationConfig
from ser_tf.pipeline.augmentation import draws, source_frames, with_changes, with_masks

NAMES = ("stretch", "warp", "tilt", "ripple_1", "ripple_2", "ripple_3", "phase_1", "phase_2", "phase_3")
NAMES += ("noisy", "ratio", "colour")


def numbers(**given: float) -> tf.Tensor:
    """The random numbers of one crop: 0.5, which changes nothing but noise, unless given."""
    return tf.constant([[given.get(name, 0.5) for name in NAMES]], tf.float32)


def seeded(config: AugmentationConfig, count: int) -> tf.Tensor:
    return tf.stack([draws(tf.constant([0, number], tf.int64), config) for number in range(count)])


def test_everything_is_off_by_default(rng):
    config = AugmentationConfig()
    magnitude = tf.constant(rng.uniform(size=(3, 20, 257)), tf.float32)
    assert source_frames(20, config) == 20
    changed = with_changes(magnitude, seeded(config, 3), 20, config)
    np.testing.assert_array_equal(with_masks(changed, seeded(config, 3), config), magnitude)


@pytest.mark.parametrize(("number", "factor"), [(0.0, math.exp(-0.2)), (1.0, math.exp(0.2)), (0.5, 1.0)])
def test_stretched_time_runs_at_a_different_pace(number, factor):
    config = AugmentationConfig(time_stretch=0.2)
    ramp = np.arange(source_frames(50, config), dtype="float32")  # frame t holds t
    magnitude = tf.constant(np.repeat(ramp[None, :, None], 4, axis=2))
    stretched = with_changes(magnitude, numbers(stretch=number), 50, config)
    # What lasts `factor` times as long is at t / factor in the source.
    np.testing.assert_allclose(stretched[0, :, 0], np.arange(50) / factor, atol=1e-4)


def test_a_warped_frequency_moves_by_the_factor():
    config = AugmentationConfig(frequency_warp=0.15)
    ramp = np.arange(257, dtype="float32")  # bin k holds k
    magnitude = tf.constant(np.repeat(ramp[None, None, :], 5, axis=1))
    for number, factor in ((0.0, math.exp(-0.15)), (1.0, math.exp(0.15))):
        warped = with_changes(magnitude, numbers(warp=number), 5, config)
        # A frequency that is multiplied by `factor` was at k / factor; above the highest bin there is nothing.
        np.testing.assert_allclose(warped[0, 2], np.minimum(ramp / factor, 256), atol=1e-3)


def test_the_tilt_is_the_gain_from_the_lowest_to_the_highest_frequency():
    config = AugmentationConfig(equaliser_tilt=0.5)
    one_deviation = 0.8413447  # of the normal distribution's values, this share lies below +1
    tilted = with_changes(tf.ones([1, 4, 257]), numbers(tilt=one_deviation), 4, config).numpy()
    assert math.log(tilted[0, 0, -1] / tilted[0, 0, 0]) == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_array_equal(tilted[0, 0], tilted[0, 3])


def test_ripples_get_flatter_with_their_order():
    config = AugmentationConfig(equaliser_ripple=0.3)
    heights = []
    for order in (1, 2, 3):
        given = {f"ripple_{order}": 0.8413447, f"phase_{order}": 0.0}  # one deviation, a whole cosine
        gain = np.log(with_changes(tf.ones([1, 1, 257]), numbers(**given), 1, config)[0, 0])
        heights.append(np.abs(gain).max())
        signs = np.sign(gain[np.abs(gain) > 1e-3])
        assert np.sum(np.diff(signs) != 0) == order  # half a period for each order
    np.testing.assert_allclose(heights, [0.3, 0.15, 0.1], atol=1e-4)


@pytest.mark.parametrize("colour", [0.1, 0.9])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_noise_has_the_wanted_power_and_colour(rng, colour, snr_db):
    config = AugmentationConfig(noise_probability=1, noise_snr_db=(snr_db, snr_db))
    magnitude = tf.constant(rng.uniform(size=(1, 30, 257)), tf.float32)
    noisy = with_changes(magnitude, numbers(colour=colour), 30, config)
    noise = (tf.square(noisy) - tf.square(magnitude)).numpy()[0]
    assert 10 * np.log10(np.mean(np.square(magnitude)) / noise.mean()) == pytest.approx(snr_db, abs=0.01)
    # White: as much in every bin. Pink: half the power at twice the frequency: of bin 101 to bin 50, counted from 0.
    expected = 0.5 if colour < 0.5 else 1.0
    np.testing.assert_allclose(noise[:, 101] / noise[:, 50], expected, rtol=1e-2)


def test_noise_comes_with_its_probability(rng):
    config = AugmentationConfig(noise_probability=0.3)
    magnitude = tf.ones([400, 2, 17])
    noisy = (with_changes(magnitude, seeded(config, 400), 2, config) > 1 + 1e-6).numpy().all(axis=(1, 2))
    # Binomial: 400 x 0.3 = 120, deviation sqrt(400 x 0.3 x 0.7) = 9.2.
    assert 90 <= noisy.sum() <= 150


def bands(is_zero: np.ndarray) -> int:
    return int(np.sum(np.diff(np.concatenate([[0], is_zero.astype(int)])) == 1))


def test_masks_are_bands_of_zeros():
    config = AugmentationConfig(time_masks=2, time_mask_frames=30, frequency_masks=1, frequency_mask_bins=24)
    for masked in with_masks(tf.ones([20, 200, 257]), seeded(config, 20), config).numpy():
        masked_frames, masked_bins = (masked == 0).all(axis=1), (masked == 0).all(axis=0)
        assert bands(masked_frames) <= 2
        assert bands(masked_bins) <= 1
        assert masked_frames.sum() <= 60
        assert masked_bins.sum() <= 24
        np.testing.assert_array_equal(masked, np.outer(~masked_frames, ~masked_bins))


def test_masks_reach_every_place_and_width():
    config = AugmentationConfig(time_masks=1, time_mask_frames=3)
    masked = with_masks(tf.ones([200, 6, 4]), seeded(config, 200), config).numpy()[:, :, 0] == 0
    assert masked.any(axis=0).all()
    assert set(masked.sum(axis=1).tolist()) == {0, 1, 2, 3}


def test_a_mask_is_no_longer_than_the_spectrogram():
    config = AugmentationConfig(time_masks=1, time_mask_frames=500)
    assert with_masks(tf.ones([1, 3, 4]), seeded(config, 1), config).shape == (1, 3, 4)


def test_the_seed_decides():
    config = AugmentationConfig(time_masks=2, frequency_masks=2)
    first = draws(tf.constant([0, 1], tf.int64), config)
    np.testing.assert_array_equal(draws(tf.constant([0, 1], tf.int64), config), first)
    assert (draws(tf.constant([0, 2], tf.int64), config) != first).numpy().all()
    assert len(first) == len(NAMES) + 2 * 4
