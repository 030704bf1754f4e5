"""Noise has the requested level and spectrum, and is only where it belongs."""

import numpy as np
import pytest

from ser_tf.audio import noise


@pytest.fixture
def waveform(rng):
    """One second of quiet, then two of something louder; and where speech is."""
    is_speech = np.arange(48_000) >= 16_000
    return np.where(is_speech, 0.1, 0.001).astype(np.float32) * rng.standard_normal(48_000, np.float32), is_speech


def power_between(samples: np.ndarray, lowest_hz: float, highest_hz: float) -> float:
    hertz = np.fft.rfftfreq(len(samples), 1 / 16_000)
    return float(np.sum(np.abs(np.fft.rfft(samples)[(hertz >= lowest_hz) & (hertz < highest_hz)]) ** 2))


def test_a_generator_depends_only_on_its_words():
    draws = [noise.generator_of(0, "03-01", kind).integers(2**62) for kind in ("white", "white", "pink")]
    assert draws[0] == draws[1] != draws[2]


def test_white_noise_has_equal_power_in_each_hertz(rng):
    samples = noise.white(160_000, rng)
    assert samples.dtype == np.float32
    # 1000 Hz of 10 s are 10,000 bins, so that the power of two bands differs by about 1.4 %.
    assert power_between(samples, 1000, 2000) == pytest.approx(power_between(samples, 6000, 7000), rel=0.07)


def test_pink_noise_has_equal_power_in_each_audible_octave(rng):
    samples = noise.pink(160_000, rng)
    assert samples.dtype == np.float32
    # The octave from 500 Hz holds 5000 bins: its power varies by about 1.4 %, that of the next ones by less.
    octaves = [power_between(samples, lowest, 2 * lowest) for lowest in (500, 1000, 2000, 4000)]
    assert max(octaves) / min(octaves) < 1.07
    assert power_between(samples, 0, 19.9) < 1e-6 * octaves[0]


def test_every_talker_is_as_loud_as_the_others_and_short_speech_repeats(rng):
    def tone(hertz, seconds, level):
        return (level * np.sin(2 * np.pi * hertz * np.arange(round(16_000 * seconds)) / 16_000)).astype(np.float32)

    talkers = [tone(500, 3, 0.5), tone(1000, 3, 0.001), tone(2000, 0.5, 0.1)]
    babble = noise.babble(talkers, 32_000, rng)
    assert babble.shape == (32_000,)
    powers = [power_between(babble, hertz - 5, hertz + 5) for hertz in (500, 1000, 2000)]
    assert powers == pytest.approx([powers[0]] * 3, rel=1e-3)
    assert sum(powers) == pytest.approx(power_between(babble, 0, 8000), rel=1e-3)  # and nothing else


@pytest.mark.parametrize("snr_db", [20, 0, -5])
def test_the_ratio_is_that_of_speech_to_the_noise_beside_it(waveform, rng, snr_db):
    clean, is_speech = waveform
    added = noise.scaled(noise.pink(len(clean), rng), clean, is_speech, snr_db)
    mixture = noise.mixed(clean, added, slice(0, len(clean)))
    assert np.abs(mixture).max() < 1  # otherwise clipping would change the ratio
    part = (mixture - clean)[is_speech].astype("float64")
    ratio = np.sum(clean[is_speech].astype("float64") ** 2) / np.sum(part**2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.01)


def test_silence_stays_silence(waveform):
    clean, is_speech = waveform
    assert not noise.scaled(np.zeros(len(clean), np.float32), clean, is_speech, 0).any()
    assert not noise.babble([np.zeros(100, np.float32)], 50, np.random.default_rng(0)).any()


def test_noise_stays_in_its_part_and_is_clipped_at_full_scale(waveform, rng):
    clean, _ = waveform
    before = clean.copy()
    mixture = noise.mixed(clean, 2 * noise.white(len(clean), rng), slice(20_000, 48_000))
    np.testing.assert_array_equal(clean, before)
    np.testing.assert_array_equal(mixture[:20_000], clean[:20_000])
    assert mixture[20_000:].max() == 1
    assert mixture[20_000:].min() == -1


def test_each_half_has_half_of_the_speech(waveform):
    _, is_speech = waveform
    halves = [noise.half(is_speech, noise.generator_of(number)) for number in range(20)]
    # Speech is from 16,000 to 48,000, so 16,000 of its samples are before 32,000.
    assert {(half.start, half.stop) for half in halves} == {(0, 32_000), (32_000, 48_000)}
