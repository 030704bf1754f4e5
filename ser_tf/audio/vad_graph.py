"""waveform -> speech in TensorFlow's own operations: silence removal for a graph that is served without Python.

A twin of `ser_tf.audio.vad`, bit for bit. WebRTC's detector computes in fixed point, and so does this: int32, cut to 16
bits where WebRTC's variables hold no more. "Qn" marks integers that count units of 2 ** -n. The numbers are restated
from WebRTC's published source (BSD licence).

    samples --_decimated--> 8 kHz --_bands--> six bands --_loudness--> of each band in each frame, and is there a sound?
            --_background--> loudness of each band when nobody speaks
            --_decisions---> speech or not
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ser_tf.audio.waveform import MINIMUM_SAMPLES
from ser_tf.config import SAMPLE_RATE_HZ, VadConfig

PIECES_HZ = 100
"""The filters go through pieces of 10 ms side by side. A frame is one, two or three of them."""

BRANCHES = slice(None), None, None, None
"""Turns one number per branch of a filter into [2, 1, 1, 1]."""
DECIMATOR = np.int32([5243, 1392])[BRANCHES]
"""All-pass coefficients of the upper and the lower branch, Q13."""
SPLITTER = np.int32([20_972, 5571])[BRANCHES]
"""The same, Q15."""
HIGH_PASS_ZEROS = 6631, -13_262, 6631
"""80 Hz for samples at 500 Hz, Q14."""
HIGH_PASS_POLES = 7756, -5620

LOUDNESS_PER_OCTAVE = 24_660
"""10 log10(2) dB in Q4 for each doubling of the energy, itself in Q9."""
LOUDNESS_OFFSETS = 368, 368, 272, 176, 176, 176
"""Added to the bands 80-250, 250-500, 500-1000, 1000-2000, 2000-3000 and 3000-4000 Hz."""
LEAST_ENERGY = 10
"""A frame whose bands have no more energy than this together is no speech and teaches nothing."""
POWERS_OF_TWO = 2 ** np.arange(32)

REMEMBERED = 16
"""A band's lowest loudnesses that are kept."""
OLDEST_FRAMES = 100
NO_LOUDNESS = 10_000
FIRST_BACKGROUND = 1600
FALLING, RISING = 6553, 32_439
"""How much of the background's last value remains, Q15."""


def _table(noise: Sequence[int], speech: Sequence[int]) -> np.ndarray:
    """int32 [model, band, Gaussian], from the six bands of each model's first Gaussian, then of its second."""
    return np.int32([noise, speech]).reshape(2, 2, 6).swapaxes(1, 2)


WEIGHTS = _table(
    noise=[34, 62, 72, 66, 53, 25, 94, 66, 56, 62, 75, 103],
    speech=[48, 82, 45, 87, 50, 47, 80, 46, 83, 41, 78, 81],
)
"""Of the two Gaussians, Q7."""
FIRST_MEANS = _table(
    noise=[6738, 4892, 7065, 6715, 6771, 3369, 7646, 3863, 7820, 7266, 5020, 4362],
    speech=[8306, 10_085, 10_078, 11_823, 11_843, 6309, 9473, 9571, 10_879, 7581, 8180, 7483],
)
"""Loudness in dB, Q7, as the deviations."""
FIRST_DEVIATIONS = _table(
    noise=[378, 1064, 493, 582, 688, 593, 474, 697, 475, 688, 421, 455],
    speech=[555, 505, 567, 524, 585, 1231, 509, 828, 492, 1540, 1079, 850],
)
LEAST_DEVIATION = 384
LOG2_E = 5909
"""Q12."""
LARGEST_EXPONENT = 22_005
"""Of a Gaussian, Q10. Its density is zero long before."""
CERTAIN = 1 << 14
"""A share of 1, Q14."""
SHARES_WITHOUT_EVIDENCE = np.int32([[[CERTAIN, 0]], [[0, 0]]])
"""Of the two Gaussians, when the model gives the frame no likelihood."""

BAND_WEIGHTS = np.int32([6, 8, 10, 12, 14, 16])


class Thresholds(NamedTuple):
    """What a mode asks of frames of 10, 20 and 30 ms."""

    one_band: Sequence[int]
    """log2 of the likelihood ratio, Q2, that any one band must exceed."""
    all_bands: Sequence[int]
    """Sum over the bands, weighted by `BAND_WEIGHTS`, that must be reached."""
    short_hangover: Sequence[int]
    """Frames that still count as speech after it."""
    long_hangover: Sequence[int]
    """After more than six frames of speech in a row."""


MODES = (
    Thresholds((24, 21, 24), (57, 48, 57), (8, 4, 3), (14, 7, 5)),
    Thresholds((37, 32, 37), (100, 80, 100), (8, 4, 3), (14, 7, 5)),
    Thresholds((82, 78, 82), (285, 260, 285), (6, 3, 2), (9, 5, 3)),
    Thresholds((94, 94, 94), (1100, 1050, 1100), (6, 3, 2), (9, 5, 3)),
)
LONG_RUN_FRAMES = 6


def _per_model(noise: int, speech: int) -> np.ndarray:
    return np.int32([noise, speech])[BRANCHES[:3]]


LEARNING_RATES = _per_model(655, 6554)
"""Of the means, Q15 and Q14."""
LEAST_SPEECH_MEANS = np.int32([640, 768])
LARGEST_MEANS = np.int32([[9216, 9088, 8960, 8832, 8704, 8576], [11_392, 11_392, 11_520, 11_520, 11_520, 11_520]])
"""Of a model in a band: the mean of both Gaussians, Q7."""
LARGEST_SPEECH_MEANS = 640 + np.int32([12_800, 11_392, 11_392, 11_520, 11_520, 11_520])[:, None]
"""Of one Gaussian: 5 dB above what the band below may have."""
LEAST_NOISE_MEANS = np.int32([5, 6]) << 7
LARGEST_NOISE_MEANS = (72 + np.arange(2, dtype=np.int32) - np.arange(6, dtype=np.int32)[:, None]) << 7
BACKGROUND_PULL = 154
"""How fast the background moves the noise's means, Q8."""
LEAST_DIFFERENCES = np.int32([544, 544, 576, 576, 576, 576])
"""Between the mean of speech and that of noise in a band, Q5."""


def remove_silence(samples: tf.Tensor, lengths: tf.Tensor, config: VadConfig) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Join the voiced frames of each waveform, as `ser_tf.audio.vad.remove_silence` does; it refuses none for its length.

    Args:
        samples: int16 [B, N] at 16 kHz, padded with anything to a common N.
        lengths: int32 [B], the true length of each waveform.
        config: the detector's mode, frame length, padding, and the least speech worth keeping alone.

    Returns:
        The speech, int16 [B, N'], zero beyond its end; its lengths, int32 [B]; and where a waveform was kept whole
        because it holds too little speech, bool [B].
    """
    frame_samples = _frame_samples(config)
    count = tf.shape(samples)[1]
    is_true = tf.sequence_mask(lengths, count)  # [B, N]
    filled = tf.pad(tf.where(is_true, samples, 0), [[0, 0], [0, -count % frame_samples]])
    frames = -(-lengths // frame_samples)  # the last one is filled up with zeros
    is_speech = _dilated(voiced_frames(filled, frames * frame_samples, config), config.padding_frames)
    is_voiced = tf.repeat(is_speech, frame_samples, axis=1)[:, :count] & is_true

    voiced_samples = tf.cast(tf.math.count_nonzero(is_voiced, axis=1), tf.float64)
    kept_whole = voiced_samples < max(config.minimum_speech_seconds * SAMPLE_RATE_HZ, MINIMUM_SAMPLES)
    speech = tf.ragged.boolean_mask(samples, tf.where(kept_whole[:, None], is_true, is_voiced))
    return speech.to_tensor(), tf.cast(speech.row_lengths(), tf.int32), kept_whole


def voiced_frames(samples: tf.Tensor, lengths: tf.Tensor, config: VadConfig) -> tf.Tensor:
    """What one fresh detector per row decides on each of its whole frames.

    Args:
        samples: int16 [B, N] at 16 kHz, padded with anything to a common N.
        lengths: int32 [B], the true length of each row.
        config: the detector's mode and frame length.

    Returns:
        bool [B, N // frame samples]: speech; false beyond a row's whole frames.
    """
    frame_samples = _frame_samples(config)
    frames = tf.shape(samples)[1] // frame_samples
    narrow = _decimated(tf.cast(samples[:, : frames * frame_samples], tf.int32))
    loudness, is_sound = _loudness(_bands(narrow, _pieces(config)), _pieces(config))
    is_speech = _decisions(loudness, is_sound, _background(loudness, is_sound), config)
    return tf.transpose(is_speech) & tf.sequence_mask(lengths // frame_samples, frames)


def _pieces(config: VadConfig) -> int:
    """Pieces in a frame."""
    return config.frame_milliseconds * PIECES_HZ // 1000


def _frame_samples(config: VadConfig) -> int:
    return _pieces(config) * SAMPLE_RATE_HZ // PIECES_HZ


def _dilated(is_speech: tf.Tensor, frames: int) -> tf.Tensor:
    """`is_speech` [B, F] with that many more frames on each side of every voiced one."""
    if frames == 0:
        return is_speech
    before = tf.cumsum(tf.pad(tf.cast(is_speech, tf.int32), [[0, 0], [frames + 1, frames]]), axis=1)
    return before[:, 2 * frames + 1 :] > before[:, : -2 * frames - 1]


def _decimated(samples: tf.Tensor) -> tf.Tensor:
    """int32 [B, N] at 16 kHz to 8 kHz, as int32 [samples of a piece, 1, B, pieces]: a pair of all-pass filters."""
    batch, count = tf.unstack(tf.shape(samples))
    piece_samples = SAMPLE_RATE_HZ // PIECES_HZ
    pairs = tf.reshape(samples, [batch, count // piece_samples, piece_samples // 2, 2])
    branches = tf.transpose(pairs, [2, 3, 0, 1])[:, :, None]  # [steps, branches, 1, B, pieces]

    def step(states: list[tf.Tensor], sample: tf.Tensor, scaled: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        output = _int16(_shifted(states[0], 1) + scaled)
        return [sample - _shifted(DECIMATOR * output, 12)], output

    outputs = _recursion(step, [branches, _shifted(DECIMATOR * branches, 14)], state_count=1)
    return _int16(outputs[:, 0] + outputs[:, 1])


def _bands(narrow: tf.Tensor, frame_pieces: int) -> list[tf.Tensor]:
    """The six bands of a signal at 8 kHz from low to high, each int32 [samples of a piece, 1, B, pieces]."""
    low, high = _split(narrow, frame_pieces)  # 0-2 and 2-4 kHz
    lower, upper = _split(tf.concat([low, high], axis=1), frame_pieces)  # 0-1 and 2-3, 1-2 and 3-4 kHz
    lowest, band_2 = _split(lower[:, :1], frame_pieces)
    lowest, band_1 = _split(lowest, frame_pieces)
    return [_high_passed(lowest), band_1, band_2, upper[:, :1], lower[:, 1:], upper[:, 1:]]


def _split(signals: tf.Tensor, frame_pieces: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The lower and the upper half of the spectrum of int32 [n, signals, B, pieces], each at half the rate.

    When a frame ends, WebRTC keeps 16 of the 32 bits of a filter's state.
    """
    steps = signals.shape[0] // 2
    branches = tf.reshape(signals, tf.concat([[steps, 2], tf.shape(signals)[1:]], axis=0))
    begins_frame = tf.range(tf.shape(signals)[-1]) % frame_pieces == 0

    def step(states: list[tf.Tensor], sample: tf.Tensor, scaled: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        output = _shifted(states[0] + scaled, 16)
        return [sample - 2 * SPLITTER * output], output

    inputs = [branches * (1 << 15), branches * SPLITTER]
    outputs = _recursion(step, inputs, state_count=1, kept_bits=tf.where(begins_frame, -1 << 16, -1))
    return _int16(outputs[:, 0] + outputs[:, 1]), _int16(outputs[:, 0] - outputs[:, 1])


def _high_passed(signal: tf.Tensor) -> tf.Tensor:
    """int32 [n, 1, B, pieces] at 500 Hz, without what lies below 80 Hz."""
    step_count, _, batch, pieces = tf.unstack(tf.shape(signal))
    in_order = tf.reshape(tf.transpose(signal, [1, 2, 3, 0]), [1, batch, pieces * step_count])
    history = tf.pad(in_order, [[0, 0], [0, 0], [2, 0]])
    zeros = [HIGH_PASS_ZEROS[age] * history[..., 2 - age : tf.shape(history)[-1] - age] for age in range(3)]
    driven = tf.transpose(tf.reshape(tf.add_n(zeros), [1, batch, pieces, signal.shape[0]]), [3, 0, 1, 2])

    def step(states: list[tf.Tensor], driven: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        last, last_but_one = states
        output = _int16(_shifted(driven + HIGH_PASS_POLES[0] * last + HIGH_PASS_POLES[1] * last_but_one, 14))
        return [output, last], output

    return _recursion(step, [driven], state_count=2)


def _recursion(
    step: Callable[..., tuple[list[tf.Tensor], tf.Tensor]],
    inputs: list[tf.Tensor],
    state_count: int,
    kept_bits: tf.Tensor | int = -1,
) -> tf.Tensor:
    """Run a filter over all pieces at once, exactly as if it went through one after the other.

    Each piece starts from rest, and then again from where the piece before it ended, until that changes nothing: then
    every piece has started where its predecessor ends, and the first one from rest. Filters forget, so that happens
    soon; at the worst, one more piece is right after each pass.

    Args:
        step: states and the inputs of one sample -> states and output, each int32 [..., pieces].
        inputs: int32 [samples of a piece, ..., pieces].
        state_count: how many tensors the state is made of.
        kept_bits: int32 [pieces], the bits of the state with which a piece starts.

    Returns:
        The outputs, int32 [samples of a piece, ..., pieces].
    """

    def go_through(starts: list[tf.Tensor], outputs: tf.Tensor, settled: tf.Tensor) -> tuple[Any, ...]:
        states, outputs = starts, []
        for sample in zip(*map(tf.unstack, inputs), strict=True):
            states, output = step(states, *sample)
            outputs.append(output)
        follow = [tf.bitwise.bitwise_and(_delayed(state), kept_bits) for state in states]
        settled = tf.reduce_all([tf.reduce_all(a == b) for a, b in zip(starts, follow, strict=True)])
        return follow, tf.stack(outputs), settled

    rest = [tf.zeros_like(inputs[0][0])] * state_count
    _, outputs, _ = tf.while_loop(
        lambda _starts, _outputs, settled: ~settled, go_through, (rest, tf.zeros_like(inputs[0]), False)
    )
    return outputs


def _loudness(bands: list[tf.Tensor], frame_pieces: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Loudness of the bands in each frame, int32 [F, B, 6] in dB, Q4; and whether there is a sound, bool [F, B]."""
    measured = [_band_loudness(band[:, 0], frame_pieces) for band in bands]
    loudness, energy = (tf.transpose(tf.stack(each), [2, 1, 0]) for each in zip(*measured, strict=True))
    return loudness + LOUDNESS_OFFSETS, tf.reduce_sum(energy, axis=-1) > LEAST_ENERGY


def _band_loudness(band: tf.Tensor, frame_pieces: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Of int32 [n, B, pieces]: loudness in dB, Q4, and energy up to `LEAST_ENERGY` + 1, both int32 [B, F].

    The energy is first shifted so far to the right that it fits into 31 bits, then normalised to 15 bits, of which the
    lower 14 serve as the fraction of its logarithm.
    """
    steps, batch, pieces = band.shape[0], tf.shape(band)[1], tf.shape(band)[2]
    framed = tf.reshape(band, [steps, batch, pieces // frame_pieces, frame_pieces])
    peak = tf.reduce_max(tf.where(framed == -(1 << 15), 0, tf.abs(framed)), axis=[0, 3])  # -2 ** 15 has no absolute value
    headroom = 31 - _bit_length(peak * peak)
    shift = tf.maximum((steps * frame_pieces).bit_length() - headroom, 0)
    squares = _shifted(framed * framed, shift[..., None])
    energy = tf.reduce_sum(tf.cast(squares, tf.int64), axis=[0, 3])

    normalising = _bit_length(energy) - 15
    mantissa = tf.cast(_shifted(energy, tf.cast(tf.maximum(normalising, 0), tf.int64)), tf.int32)
    mantissa = tf.bitwise.left_shift(mantissa, tf.maximum(-normalising, 0))
    shift += normalising
    octaves = (14 << 10) + _shifted(tf.bitwise.bitwise_and(mantissa, (1 << 14) - 1), 4)  # Q10
    loudness = _shifted(LOUDNESS_PER_OCTAVE * octaves, 19) + _shifted(LOUDNESS_PER_OCTAVE * shift, 9)
    little = _shifted(mantissa, tf.maximum(-shift, 0))
    return tf.maximum(loudness, 0), tf.where(shift >= 0, LEAST_ENERGY + 1, little)


class _Memory(NamedTuple):
    """The lowest loudnesses of each band, in order: int32 [B, 6, 16]."""

    values: tf.Tensor
    ages: tf.Tensor
    """Frames since a value came."""
    background: tf.Tensor
    """int32 [B, 6]: the third lowest, smoothed."""
    frames: tf.Tensor
    """int32 [B, 1]: how many with a sound there were."""


def _background(loudness: tf.Tensor, is_sound: tf.Tensor) -> tf.Tensor:
    """What each band's loudness [F, B, 6] does not fall below for long, int32 [F, B, 6] in dB, Q4."""
    batch = tf.shape(loudness)[1]
    memory = _Memory(
        values=tf.fill([batch, 6, REMEMBERED], NO_LOUDNESS),
        ages=tf.zeros([batch, 6, REMEMBERED], tf.int32),
        background=tf.fill([batch, 6], FIRST_BACKGROUND),
        frames=tf.zeros([batch, 1], tf.int32),
    )

    def step(memory: _Memory, loudness: tf.Tensor, is_sound: tf.Tensor) -> tuple[_Memory, tf.Tensor]:
        values, ages = _remember(memory, loudness)
        lowest = tf.where(memory.frames > 2, values[..., 2], values[..., 0])
        lowest = tf.where(memory.frames > 0, lowest, FIRST_BACKGROUND)
        remains = tf.where(lowest < memory.background, FALLING, RISING)
        smoothed = (remains + 1) * memory.background + ((1 << 15) - 1 - remains) * lowest + (1 << 14)
        new = _Memory(values, ages, _shifted(smoothed, 15), memory.frames + 1)
        kept = _Memory(*(_chosen(is_sound, *pair) for pair in zip(new, memory, strict=True)))
        return kept, kept.background

    return _frame_by_frame(step, memory, (loudness, is_sound), tf.int32)


def _remember(memory: _Memory, loudness: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values and ages of the memory one frame later, with the loudness [B, 6] of that frame if it is among the lowest.

    WebRTC walks through the memory from its lowest value. When it drops one that is too old, the next one moves up into
    the place just looked at: it grows no older in this frame, and is not dropped either.
    """
    places = tf.range(REMEMBERED)
    is_old = memory.ages == OLDEST_FRAMES
    is_before = places <= places[:, None]
    last_young = tf.reduce_max(tf.where(is_before & ~is_old[:, :, None], places, -1), axis=-1)  # [B, 6, 16]
    is_dropped = (places - last_young) % 2 == 1
    is_passed_over = tf.pad(is_dropped, [[0, 0], [0, 0], [1, 0]])[..., :-1]
    values = tf.where(is_dropped, NO_LOUDNESS, memory.values)
    ages = memory.ages + tf.where(is_passed_over, 0, 1)

    loudness = loudness[..., None]
    place = tf.reduce_sum(tf.cast(memory.values <= loudness, tf.int32), axis=-1, keepdims=True)
    order = tf.concat([tf.where(is_dropped, 3 * REMEMBERED, 2 * places), 2 * place - 1], axis=-1)
    first = tf.math.top_k(-order, REMEMBERED).indices
    values = tf.gather(tf.concat([values, loudness], axis=-1), first, batch_dims=2)
    ages = tf.gather(tf.concat([ages, tf.ones_like(loudness)], axis=-1), first, batch_dims=2)
    return values, ages


class _Detector(NamedTuple):
    """What adapts while a waveform is heard."""

    means: tf.Tensor
    """int32 [B, model, band, Gaussian] in dB, Q7; the models are noise and speech."""
    deviations: tf.Tensor
    run: tf.Tensor
    """int32 [B], frames of speech in a row, up to six."""
    hangover: tf.Tensor
    """int32 [B], frames that will still count as speech."""


def _decisions(loudness: tf.Tensor, is_sound: tf.Tensor, background: tf.Tensor, config: VadConfig) -> tf.Tensor:
    """Whether each frame is speech, bool [F, B], from loudness and background [F, B, 6]."""
    one_band, all_bands, short_hangover, long_hangover = (each[_pieces(config) - 1] for each in MODES[config.mode])
    batch = tf.shape(loudness)[1]
    detector = _Detector(
        means=tf.tile(FIRST_MEANS[None], [batch, 1, 1, 1]),
        deviations=tf.tile(FIRST_DEVIATIONS[None], [batch, 1, 1, 1]),
        run=tf.zeros([batch], tf.int32),
        hangover=tf.zeros([batch], tf.int32),
    )

    def step(
        detector: _Detector, loudness: tf.Tensor, is_sound: tf.Tensor, background: tf.Tensor
    ) -> tuple[_Detector, tf.Tensor]:
        slopes, likelihoods, shares = _likelihoods(detector, loudness)
        octaves = _bit_length(likelihoods)
        ratios = octaves[:, 1] - octaves[:, 0]  # log2 [B, 6]
        is_speech = tf.reduce_any(4 * ratios > one_band, axis=-1)
        is_speech |= tf.reduce_sum(BAND_WEIGHTS * ratios, axis=-1) >= all_bands
        is_speech &= is_sound

        means, deviations = _learned(detector, loudness, background, slopes, shares, is_speech)
        run = tf.where(is_speech, detector.run + 1, 0)
        hangover = tf.where(run > LONG_RUN_FRAMES, long_hangover, short_hangover)
        adapted = _Detector(
            means=_chosen(is_sound, means, detector.means),
            deviations=_chosen(is_sound, deviations, detector.deviations),
            run=tf.minimum(run, LONG_RUN_FRAMES),
            hangover=tf.where(is_speech, hangover, tf.maximum(detector.hangover - 1, 0)),
        )
        return adapted, is_speech | (detector.hangover > 0)

    return _frame_by_frame(step, detector, (loudness, is_sound, background), tf.bool)


def _likelihoods(detector: _Detector, loudness: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """How well the models explain the loudness [B, 6] of a frame.

    Returns:
        (x - mean) / deviation ** 2 of each Gaussian, int32 [B, model, band, Gaussian], Q11; each model's likelihood,
        int32 [B, model, band], Q27; and the Gaussians' shares in it, [B, model, band, Gaussian], Q14.
    """
    inverse = ((1 << 17) + _shifted(detector.deviations, 1)) // detector.deviations  # Q10
    precision = _shifted(tf.square(_shifted(inverse, 2)), 2)  # Q14
    distance = 8 * loudness[:, None, :, None] - detector.means  # Q7
    slopes = _shifted(precision * distance, 10)
    exponent = tf.minimum(_shifted(slopes * distance, 9), LARGEST_EXPONENT)  # Q10
    octaves = _shifted(LOG2_E * exponent, 12)
    # 2 ** -octaves: its fraction by a straight line, then shifted by its whole part. Q10
    fraction = tf.bitwise.bitwise_or(1 << 10, tf.bitwise.bitwise_and(-octaves, (1 << 10) - 1))
    density = inverse * _shifted(fraction, _shifted(octaves - 1, 10) + 1)  # Q20
    parts = WEIGHTS * density
    likelihoods = tf.reduce_sum(parts, axis=-1)

    whole = _shifted(likelihoods, 12)  # Q15
    first = tf.bitwise.left_shift(_shifted(parts[..., 0], 12), 14) // tf.maximum(whole, 1)
    shares = tf.where((whole > 0)[..., None], tf.stack([first, CERTAIN - first], axis=-1), SHARES_WITHOUT_EVIDENCE)
    return slopes, likelihoods, shares


def _learned(
    detector: _Detector,
    loudness: tf.Tensor,
    background: tf.Tensor,
    slopes: tf.Tensor,
    shares: tf.Tensor,
    is_speech: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Means and deviations after a frame: the model of what was heard learns from it, the noise also its background."""
    means, deviations = detector.means, detector.deviations
    is_speech = is_speech[:, None, None]

    pull = _int16(_shifted(shares * slopes, 11))
    moved = means + _shifted(_shifted(pull * LEARNING_RATES, 21) + _per_model(0, 1), 1)  # only speech is rounded
    heard = tf.clip_by_value(moved[:, 1], LEAST_SPEECH_MEANS, LARGEST_SPEECH_MEANS)
    speech = tf.where(is_speech, heard, means[:, 1])

    noise = tf.where(is_speech, means[:, 0], moved[:, 0])
    away = 16 * background - _shifted(_weighted(means)[:, 0], 6)  # Q8
    noise += _shifted(BACKGROUND_PULL * away, 9)[..., None]
    noise = tf.clip_by_value(noise, LEAST_NOISE_MEANS, LARGEST_NOISE_MEANS)

    offset = loudness[:, None, :, None] - _shifted(means + _per_model(0, 4), 3)  # Q4
    excess = _shifted(slopes * offset, 3) - (1 << 12)  # ((x - mean) / deviation) ** 2 - 1, Q12
    gain = _shifted(_shifted(shares + _per_model(2, 0), 2) * excess, _per_model(14, 4))
    change = _int16(tf.truncatediv(gain, _int16(deviations * _per_model(1, 10))) + _per_model(32, 128))
    widened = tf.maximum(deviations + _shifted(change, _per_model(6, 8)), LEAST_DEVIATION)
    learns = tf.stack([~is_speech, is_speech], axis=1)
    return _separated(tf.stack([noise, speech], axis=1)), tf.where(learns, widened, deviations)


def _separated(means: tf.Tensor) -> tf.Tensor:
    """The means [B, model, band, Gaussian], moved apart where noise and speech are too close, and below their limits."""
    centre = _shifted(_weighted(means), 9)  # Q5
    lack = tf.maximum(LEAST_DIFFERENCES - (centre[:, 1] - centre[:, 0]), 0)
    means += tf.stack([-_shifted(3 * lack, 2), _shifted(13 * lack, 2)], axis=1)[..., None]
    return means - tf.maximum(_shifted(_weighted(means), 7) - LARGEST_MEANS, 0)[..., None]


def _weighted(means: tf.Tensor) -> tf.Tensor:
    """The mean of both Gaussians, int32 [B, model, band], Q14."""
    return tf.reduce_sum(WEIGHTS * means, axis=-1)


def _frame_by_frame(
    step: Callable[..., tuple[Any, tf.Tensor]], state: Any, frames: tuple[tf.Tensor, ...], dtype: tf.DType
) -> tf.Tensor:
    """The outputs of a step, which takes and returns a state, on each [B, ...] of [F, B, ...]."""
    count = tf.shape(frames[0])[0]

    def body(number: tf.Tensor, state: Any, outputs: tf.TensorArray) -> tuple[tf.Tensor, Any, tf.TensorArray]:
        state, output = step(state, *(tf.gather(each, number) for each in frames))
        return number + 1, state, outputs.write(number, output)

    _, _, outputs = tf.while_loop(
        lambda number, *_: number < count, body, (0, state, tf.TensorArray(dtype, count))
    )
    return outputs.stack()


def _delayed(values: tf.Tensor) -> tf.Tensor:
    """Each piece's value is that of the piece before; the first one's is zero."""
    return tf.pad(values, [[0, 0]] * (values.shape.rank - 1) + [[1, 0]])[..., :-1]


def _chosen(condition: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Rows of `one` where the condition [B] holds, else of `other`."""
    return tf.where(tf.reshape(condition, [-1] + [1] * (one.shape.rank - 1)), one, other)


def _shifted(values: tf.Tensor, bits: tf.Tensor | int) -> tf.Tensor:
    """values / 2 ** bits, rounded down."""
    return tf.bitwise.right_shift(values, bits)


def _int16(values: tf.Tensor) -> tf.Tensor:
    """What 16 bits hold of int32: beyond them it wraps around."""
    return _shifted(tf.bitwise.left_shift(values, 16), 16)


def _bit_length(values: tf.Tensor) -> tf.Tensor:
    """How many binary digits the values have, none for 0."""
    return tf.reduce_sum(tf.cast(tf.cast(values, tf.int64)[..., None] >= POWERS_OF_TWO, tf.int32), axis=-1)
