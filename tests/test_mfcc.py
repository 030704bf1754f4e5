import numpy as np
import pytest
from scipy.fft import dct

from ser_tf.audio.mfcc import mfcc_statistics


def brute_mfccs(speech):
    """20 MFCCs of each frame, from their definition, in float64: HTK's mel scale, 40 triangles from 20 to 8000 Hz."""
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(512) / 512)
    starts = range(0, len(speech) - 512 + 1, 160)
    power = [np.abs(np.fft.rfft(window * speech[start : start + 512].astype("float64"))) ** 2 for start in starts]
    mel = 1127 * np.log1p(np.arange(257) * 31.25 / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 42)
    bands = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        bands.append(np.clip(np.minimum((mel - low) / (centre - low), (high - mel) / (high - centre)), 0, None))
    coefficients = dct(np.log(np.array(power) @ np.array(bands).T + 1e-6), norm="ortho")[:, :20]
    coefficients[:, 0] *= 2**0.5  # tf.signal scales all alike, as HTK does
    return coefficients


def test_mfcc_statistics_are_those_of_the_definition(rng):
    speech = rng.normal(scale=0.1, size=8000) * np.linspace(0.1, 1, 8000)
    mfccs = brute_mfccs(speech)
    padded = np.pad(mfccs, ((4, 4), (0, 0)), mode="edge")
    deltas = np.array([np.polyfit(np.arange(9), padded[frame : frame + 9], 1)[0] for frame in range(len(mfccs))])
    expected = np.concatenate([mfccs.mean(0), deltas.mean(0), mfccs.std(0), deltas.std(0)])
    np.testing.assert_allclose(mfcc_statistics(speech.astype("float32")), expected, atol=2e-3)


def test_mfcc_statistics_of_louder_speech_differ_only_in_the_first_mean(rng):
    speech = rng.normal(scale=0.05, size=8000).astype("float32")
    change = mfcc_statistics(4 * speech) - mfcc_statistics(speech)
    # Each of the 40 log powers grows by ln 16; the first coefficient is their sum times sqrt(2 / 40).
    assert change[0] == pytest.approx(40 * np.log(16) * (2 / 40) ** 0.5, rel=1e-3)
    np.testing.assert_allclose(change[1:], 0, atol=2e-3)


def test_mfcc_statistics_of_one_window(rng):
    statistics = mfcc_statistics(rng.normal(scale=0.1, size=512).astype("float32"))
    assert np.isfinite(statistics).all()
    assert np.count_nonzero(statistics[:20]) == 20
    np.testing.assert_allclose(statistics[20:], 0, atol=1e-5)  # no deltas, no deviation
