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

from ser_tf.audio.checks import MINIMUM_SAMPLES
from ser_tf.config import SAMPLE_RATE_HZ, VadConfig

LONGEST_PIECE = 20
"""Samples that a filter goes through one after the other; what 10 ms hold, where that is less."""
MOST_PASSES = 30
"""Over all pieces side by side; speech and noise need less than ten."""

BRANCHES = slice(None), None, None, None
"""Turns one number per branch of a filter into [2, 1, 1, 1]."""
DECIMATOR = np.array([5243, 1392], np.int32)[BRANCHES]
"""All-pass coefficients of the upper and the lower branch, Q13."""
SPLITTER = np.array([20_972, 5571], np.int32)[BRANCHES]
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


Signals = list[tf.Tensor]


def _table(noise: Sequence[int], speech: Sequence[int]) -> np.ndarray:
    """int32 [model, band, Gaussian], from the six bands of each model's first Gaussian, then of its second."""
    return np.array([noise, speech], np.int32).reshape(2, 2, 6).swapaxes(1, 2)


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
SHARES_WITHOUT_EVIDENCE = np.array([[[CERTAIN, 0]], [[0, 0]]], np.int32)
"""Of the two Gaussians, when the model gives the frame no likelihood."""

BAND_WEIGHTS = np.array([6, 8, 10, 12, 14, 16], np.int32)


class Thresholds(NamedTuple):
    """What a mode asks, for frames of 10, 20 and 30 ms."""

    one_band: Sequence[int]
    """log2 of the likelihood ratio, Q2, that any one band must exceed."""
    all_bands: Sequence[int]
    """Or the sum over the bands, weighted by `BAND_WEIGHTS`, must reach this."""
    short_hangover: Sequence[int]
    """Frames after speech that count as speech, too."""
    long_hangover: Sequence[int]
    """The same after more than `LONG_RUN_FRAMES` in a row."""

    def at(self, frame_milliseconds: int) -> list[int]:
        """The four for frames of that length."""
        return [each[frame_milliseconds // 10 - 1] for each in self]


MODES = (
    Thresholds((24, 21, 24), (57, 48, 57), (8, 4, 3), (14, 7, 5)),
    Thresholds((37, 32, 37), (100, 80, 100), (8, 4, 3), (14, 7, 5)),
    Thresholds((82, 78, 82), (285, 260, 285), (6, 3, 2), (9, 5, 3)),
    Thresholds((94, 94, 94), (1100, 1050, 1100), (6, 3, 2), (9, 5, 3)),
)
LONG_RUN_FRAMES = 6


def _per_model(noise: int, speech: int) -> np.ndarray:
    """int32 [model, band, Gaussian]: TensorFlow is quicker without broadcasting."""
    return np.array([noise, speech], np.int32).repeat(12).reshape(2, 6, 2)


IS_SPEECH_MODEL = _per_model(0, 1) == 1
LEARNING_RATES = _per_model(655, 6554)
"""Of the means, Q15 and Q14."""
SMALLEST_MEANS = np.where(IS_SPEECH_MODEL, [640, 768], [5 << 7, 6 << 7]).astype(np.int32)
LARGEST_MEANS = _table(
    noise=[(72 - band) << 7 for band in range(6)] + [(73 - band) << 7 for band in range(6)],
    speech=[13_440, 12_032, 12_032, 12_160, 12_160, 12_160] * 2,
)
LARGEST_CENTRES = np.array(
    [[9216, 9088, 8960, 8832, 8704, 8576], [11_392, 11_392, 11_520, 11_520, 11_520, 11_520]], np.int32
)
"""Of both Gaussians together, [model, band]."""
BACKGROUND_PULL = 154
"""How fast the background moves the noise's means, Q8."""
LEAST_DIFFERENCES = np.array([544, 544, 576, 576, 576, 576], np.int32)
"""Between the centres of speech and noise in a band, Q5."""


def remove_silence(samples: tf.Tensor, lengths: tf.Tensor, config: VadConfig) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Join the voiced frames of each waveform as `ser_tf.audio.vad.remove_silence` does; none is refused as too long.

    Args:
        samples: int16 [B, N] at 16 kHz, padded with anything to a common N.
        lengths: int32 [B], the true length of each waveform.
        config: the detector's mode, frame length, padding, and the least speech worth keeping alone.

    Returns:
        The speech, int16 [B, N'], zero beyond its end; its lengths, int32 [B]; and where a waveform was kept whole
        because it holds too little speech, bool [B].
    """
    frame_samples = _samples(config, SAMPLE_RATE_HZ)
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
    frame_samples = _samples(config, SAMPLE_RATE_HZ)
    frames = tf.shape(samples)[1] // frame_samples
    heard = tf.pad(samples[:, : frames * frame_samples], [[0, 0], [0, frame_samples]])  # no loop over no frame stacks
    narrow = _decimated(tf.cast(heard, tf.int32))
    loudness, is_sound = _loudness(_bands(narrow, config), config)
    is_speech = _decisions(loudness, is_sound, _background(loudness, is_sound), config)
    return tf.transpose(is_speech[:-1]) & tf.sequence_mask(lengths // frame_samples, frames)


def _samples(config: VadConfig, rate_hz: int) -> int:
    """Of one frame."""
    return rate_hz * config.frame_milliseconds // 1000


def _dilated(is_speech: tf.Tensor, frames: int) -> tf.Tensor:
    """`is_speech` [B, F] with that many more frames on each side of every voiced one."""
    if frames == 0:
        return is_speech
    before = tf.cumsum(tf.pad(tf.cast(is_speech, tf.int32), [[0, 0], [frames + 1, frames]]), axis=1)
    return before[:, 2 * frames + 1 :] > before[:, : -2 * frames - 1]


def _decimated(samples: tf.Tensor) -> tf.Tensor:
    """int32 [B, T] at 16 kHz -> int32 [1, B, T / 2] at 8 kHz, by a pair of all-pass filters."""
    branches = _alternating(samples[None])

    def step(states: Signals, sample: tf.Tensor, scaled: tf.Tensor) -> tuple[Signals, tf.Tensor]:
        output = _int16(_shifted(states[0], 1) + scaled)
        return [sample - _shifted(DECIMATOR * output, 12)], output

    outputs = _recursion(step, [branches, _shifted(DECIMATOR * branches, 14)], 8000, states=1)
    return _int16(outputs[0] + outputs[1])


def _bands(narrow: tf.Tensor, config: VadConfig) -> Signals:
    """The six bands of a signal at 8 kHz from low to high, each int32 [1, B, T]."""
    low, high = _split(narrow, 4000, config)  # 0-2 and 2-4 kHz
    lower, upper = _split(tf.concat([low, high], axis=0), 2000, config)  # 0-1 and 2-3, 1-2 and 3-4 kHz
    lowest, band_2 = _split(lower[:1], 1000, config)
    lowest, band_1 = _split(lowest, 500, config)
    return [_high_passed(lowest), band_1, band_2, upper[:1], lower[1:], upper[1:]]


def _split(signals: tf.Tensor, rate_hz: int, config: VadConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """The halves of the spectrum of int32 [signals, B, T], lower and upper: int32 [signals, B, T / 2] at `rate_hz`.

    At the end of a frame WebRTC keeps 16 of the 32 bits of the filters' states.
    """
    branches = _alternating(signals)

    def step(states: Signals, sample: tf.Tensor, scaled: tf.Tensor) -> tuple[Signals, tf.Tensor]:
        output = _shifted(states[0] + scaled, 16)
        return [sample - 2 * SPLITTER * output], output

    inputs = [(1 << 15) * branches, SPLITTER * branches]
    outputs = _recursion(step, inputs, rate_hz, states=1, rounded_every=_samples(config, rate_hz))
    return _int16(outputs[0] + outputs[1]), _int16(outputs[0] - outputs[1])


def _high_passed(signal: tf.Tensor) -> tf.Tensor:
    """int32 [1, B, T] at 500 Hz, without what lies below 80 Hz."""
    last_two = tf.pad(signal, [[0, 0], [0, 0], [2, 0]])
    count = tf.shape(signal)[-1]
    driven = tf.add_n([zero * last_two[..., 2 - age : 2 - age + count] for age, zero in enumerate(HIGH_PASS_ZEROS)])

    def step(states: Signals, driven: tf.Tensor) -> tuple[Signals, tf.Tensor]:
        last, last_but_one = states
        output = _int16(_shifted(driven + HIGH_PASS_POLES[0] * last + HIGH_PASS_POLES[1] * last_but_one, 14))
        return [output, last], output

    return _recursion(step, [driven], 500, states=2)


def _recursion(
    step: Callable[..., tuple[Signals, tf.Tensor]],
    inputs: Signals,
    rate_hz: int,
    states: int,
    rounded_every: int | None = None,
) -> tf.Tensor:
    """Run a filter over all pieces of a signal side by side, exactly as if it went through one after the other.

    Each piece starts from rest, and then again from where the piece before it ended, until that changes nothing: then
    all starts are right. Filters forget, so that is soon; every pass sets one more piece right at least. Only of a
    signal that repeats a small pattern they do not: then the pieces come one after the other after all, which is slow,
    but no slower for each second of a long recording.

    Args:
        step: states and the inputs at one time -> states and output, each int32 [..., pieces].
        inputs: int32 [..., T].
        rate_hz: of the inputs.
        states: how many tensors the filter remembers.
        rounded_every: after so many samples the states lose their lower 16 bits.

    Returns:
        The outputs, int32 [..., T].
    """
    shape = tf.shape(inputs[0])
    piece = min(LONGEST_PIECE, rate_hz // 100)
    pieces = shape[-1] // piece
    in_pieces = [tf.reshape(each, tf.concat([shape[:-1], [pieces, piece]], axis=0)) for each in inputs]
    period = 1 if rounded_every is None else rounded_every // piece
    same = [tf.reduce_all(each[..., period:, :] == each[..., :-period, :], axis=-1) for each in in_pieces]
    no_piece_before = tf.zeros_like(in_pieces[0][..., :period, 0], tf.bool)
    follows_repeat = _delayed(tf.concat([no_piece_before, tf.reduce_all(same, axis=0)], axis=-1))
    kept_bits = tf.fill([pieces], -1)
    if rounded_every is not None:
        kept_bits = tf.where(piece * tf.range(pieces) % rounded_every == 0, -1 << 16, -1)

    def go_through(starts: Signals, piece_of_each: Signals) -> tuple[Signals, tf.Tensor]:
        ends, outputs = starts, []
        for at_one_time in zip(*(tf.unstack(each, axis=-1) for each in piece_of_each), strict=True):
            ends, output = step(ends, *at_one_time)
            outputs.append(output)
        return ends, tf.stack(outputs, axis=-1)

    def side_by_side(starts: Signals, outputs: tf.Tensor, settled: tf.Tensor) -> tuple[Signals, tf.Tensor, tf.Tensor]:
        ends, outputs = go_through(starts, in_pieces)
        follow = [tf.bitwise.bitwise_and(_delayed(end), kept_bits) for end in ends]
        settled = tf.reduce_all([tf.reduce_all(a == b) for a, b in zip(starts, follow, strict=True)])
        return _further(starts, follow, follows_repeat, period), outputs, settled

    def one_after_the_other() -> tf.Tensor:
        def next_piece(number: tf.Tensor, ends: Signals, outputs: tf.TensorArray) -> tuple[Any, ...]:
            starts = [tf.bitwise.bitwise_and(end, kept_bits[number]) for end in ends]
            ends, output = go_through(starts, [tf.gather(each, [number], axis=-2) for each in in_pieces])
            return number + 1, ends, outputs.write(number, output[..., 0, :])

        first = (0, [each[..., :1] for each in rest], tf.TensorArray(tf.int32, pieces))
        *_, outputs = tf.while_loop(lambda number, _ends, _outputs: number < pieces, next_piece, first)
        last = in_pieces[0].shape.rank - 1
        return tf.transpose(outputs.stack(), [*range(1, last), 0, last])

    rest = [tf.zeros_like(in_pieces[0][..., 0])] * states
    _, outputs, settled = tf.while_loop(
        lambda _starts, _outputs, settled: tf.logical_not(settled),
        side_by_side,
        (rest, tf.zeros_like(in_pieces[0]), False),
        maximum_iterations=MOST_PASSES,
    )
    return tf.reshape(tf.cond(settled, lambda: outputs, one_after_the_other), shape)


def _further(starts: Signals, follow: Signals, follows_repeat: tf.Tensor, period: int) -> Signals:
    """Better starts than `follow`, where the pieces before ended.

    Of a signal that repeats itself, as digital silence, a filter never forgets its last small oscillation: when pieces
    repeat those a period before and hand on what these got, they will do so again, and the oscillation need not travel
    piece by piece. `follows_repeat` tells where the piece before is such a one.
    """
    columns = [_columns(each, period) for each in follow]
    handed_on = _columns(follows_repeat, period)
    for before, after in zip(starts, columns, strict=True):
        handed_on &= after == _delayed(_columns(before, period))
    is_new = tf.reshape(tf.concat([tf.ones_like(handed_on[..., :1]), ~handed_on[..., 1:]], axis=-1), [-1])
    source = tf.cumsum(tf.cast(is_new, tf.int32)) - 1
    further = [tf.reshape(tf.gather(tf.reshape(each, [-1])[is_new], source), tf.shape(each)) for each in columns]
    return [tf.reshape(tf.linalg.matrix_transpose(each), tf.shape(starts[0])) for each in further]


def _columns(values: tf.Tensor, period: int) -> tf.Tensor:
    """[..., pieces] -> [..., period, pieces / period]: what lies a period apart, side by side."""
    shape = tf.concat([tf.shape(values)[:-1], [-1, period]], axis=0)
    return tf.linalg.matrix_transpose(tf.reshape(values, shape))


def _delayed(values: tf.Tensor) -> tf.Tensor:
    """For each piece the value of the piece before it, and zero for the first."""
    return tf.concat([tf.zeros_like(values[..., :1]), values[..., :-1]], axis=-1)


def _alternating(signals: tf.Tensor) -> tf.Tensor:
    """int32 [signals, B, T] -> [branches, signals, B, T / 2]: even samples for the upper branch, odd for the lower."""
    return tf.stack([signals[..., ::2], signals[..., 1::2]])


def _loudness(bands: Signals, config: VadConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Loudness of the bands in each frame, int32 [F, B, 6] in dB, Q4; and whether there is a sound, bool [F, B]."""
    rates_hz = 500, 500, 1000, 2000, 2000, 2000
    measured = [
        _band_loudness(band[0], _samples(config, rate_hz)) for band, rate_hz in zip(bands, rates_hz, strict=True)
    ]
    loudness, energy = (tf.transpose(tf.stack(each), [2, 1, 0]) for each in zip(*measured, strict=True))
    return loudness + LOUDNESS_OFFSETS, tf.reduce_sum(energy, axis=-1) > LEAST_ENERGY


def _band_loudness(band: tf.Tensor, frame_samples: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Of int32 [B, T]: loudness in dB, Q4, and energy up to `LEAST_ENERGY` + 1, both int32 [B, F].

    The squares are shifted so that their sum fits into 31 bits, and that is normalised to 15: the leading one, and 14
    that serve as the fraction of its logarithm.
    """
    batch, count = tf.unstack(tf.shape(band))
    framed = tf.reshape(band, [batch, count // frame_samples, frame_samples])
    peak = tf.reduce_max(tf.where(framed == -(1 << 15), 0, tf.abs(framed)), axis=-1)  # 16 bits hold no 2 ** 15
    headroom = 31 - _bit_length(peak * peak)
    shift = tf.maximum(frame_samples.bit_length() - headroom, 0)
    energy = tf.reduce_sum(tf.cast(_shifted(framed * framed, shift[..., None]), tf.int64), axis=-1)
    energy = tf.bitwise.bitwise_and(energy, (1 << 32) - 1)  # WebRTC's sum wraps around where every sample is -2 ** 15

    normalising = _bit_length(energy) - 15
    mantissa = tf.cast(_shifted(energy, tf.cast(tf.maximum(normalising, 0), tf.int64)), tf.int32)
    mantissa = tf.bitwise.left_shift(mantissa, tf.maximum(-normalising, 0))
    shift += normalising
    octaves = (14 << 10) + _shifted(tf.bitwise.bitwise_and(mantissa, (1 << 14) - 1), 4)  # Q10
    loudness = _shifted(LOUDNESS_PER_OCTAVE * octaves, 19) + _shifted(LOUDNESS_PER_OCTAVE * shift, 9)
    little = _shifted(mantissa, tf.maximum(-shift, 0))
    return tf.maximum(loudness, 0), tf.where(shift >= 0, LEAST_ENERGY + 1, little)


class _Memory(NamedTuple):
    """The lowest values of each band's loudness."""

    values: tf.Tensor
    """int32 [B, 6, 16], in order."""
    ages: tf.Tensor
    """In frames with a sound."""
    background: tf.Tensor
    """int32 [B, 6]: the third lowest, smoothed."""


def _background(loudness: tf.Tensor, is_sound: tf.Tensor) -> tf.Tensor:
    """What each band's loudness [F, B, 6] seldom falls below, int32 [F, B, 6] in dB, Q4."""
    batch = tf.shape(loudness)[1]
    memory = _Memory(
        values=tf.fill([batch, 6, REMEMBERED], NO_LOUDNESS),
        ages=tf.zeros([batch, 6, REMEMBERED], tf.int32),
        background=tf.fill([batch, 6], FIRST_BACKGROUND),
    )
    is_sound = is_sound[..., None]
    earlier = tf.cumsum(tf.cast(is_sound, tf.int32), exclusive=True)  # frames with a sound before this one

    def step(
        memory: _Memory, loudness: tf.Tensor, is_sound: tf.Tensor, earlier: tf.Tensor
    ) -> tuple[_Memory, tf.Tensor]:
        values, ages = _remember(memory, loudness)
        lowest = tf.where(earlier > 2, values[..., 2], values[..., 0])
        lowest = tf.where(earlier > 0, lowest, FIRST_BACKGROUND)
        remains = tf.where(lowest < memory.background, FALLING, RISING)
        smoothed = (remains + 1) * memory.background + ((1 << 15) - 1 - remains) * lowest + (1 << 14)
        background = tf.where(is_sound, _shifted(smoothed, 15), memory.background)
        values = tf.where(is_sound[..., None], values, memory.values)
        ages = tf.where(is_sound[..., None], ages, memory.ages)
        return _Memory(values, ages, background), background

    return _frame_by_frame(step, memory, (loudness, is_sound, earlier), tf.int32)


def _remember(memory: _Memory, loudness: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values and ages one frame later, with the loudness [B, 6] of that frame if it is among the lowest.

    WebRTC walks through the memory from its lowest value. When it forgets one, the next moves up into the place just
    looked at and is passed over: in this frame it neither grows older nor is it forgotten.
    """
    places = tf.range(REMEMBERED)
    is_old = memory.ages == OLDEST_FRAMES
    comes_before = places < places[:, None]
    last_young = tf.reduce_max(tf.where(comes_before & ~is_old[:, :, None], places, -1), axis=-1)  # [B, 6, 16]
    passed_over = (places - 1 - last_young) % 2  # of old ones in a row, every other one is forgotten
    is_forgotten = is_old & (passed_over == 0)

    newest = loudness[..., None]
    values = tf.concat([tf.where(is_forgotten, NO_LOUDNESS, memory.values), newest], axis=-1)
    ages = tf.concat([memory.ages + 1 - passed_over, tf.ones_like(newest)], axis=-1)
    place = tf.reduce_sum(tf.cast(memory.values <= newest, tf.int32), axis=-1, keepdims=True)
    rank = tf.concat([tf.where(is_forgotten, 2 * REMEMBERED, 2 * places), 2 * place - 1], axis=-1)
    order = tf.math.top_k(-rank, REMEMBERED).indices
    return tf.gather(values, order, batch_dims=2), tf.gather(ages, order, batch_dims=2)


class _Models(NamedTuple):
    """Two mixtures of two Gaussians for each band, int32 [B, model, band, Gaussian] in dB, Q7."""

    means: tf.Tensor
    deviations: tf.Tensor


class _Hangover(NamedTuple):
    run: tf.Tensor
    """int32 [B], frames of speech in a row."""
    left: tf.Tensor
    """int32 [B], frames that will still count as speech."""


def _decisions(loudness: tf.Tensor, is_sound: tf.Tensor, background: tf.Tensor, config: VadConfig) -> tf.Tensor:
    """Whether each frame is speech, bool [F, B], from loudness and background [F, B, 6]."""
    one_band, all_bands, short_hangover, long_hangover = MODES[config.mode].at(config.frame_milliseconds)
    batch = tf.shape(loudness)[1]
    models = _Models(
        means=tf.tile(FIRST_MEANS[None], [batch, 1, 1, 1]), deviations=tf.tile(FIRST_DEVIATIONS[None], [batch, 1, 1, 1])
    )
    hangover = _Hangover(run=tf.zeros([batch], tf.int32), left=tf.zeros([batch], tf.int32))

    def step(
        state: tuple[_Models, _Hangover], loudness: tf.Tensor, background: tf.Tensor, is_sound: tf.Tensor
    ) -> tuple[tuple[_Models, _Hangover], tf.Tensor]:
        models, hangover = state
        slopes, likelihoods, shares = _likelihoods(models, loudness)
        octaves = _bit_length(likelihoods)
        ratios = octaves[:, 1] - octaves[:, 0]  # log2 [B, 6]
        is_speech = tf.reduce_any(4 * ratios > one_band, axis=-1)
        is_speech |= tf.reduce_sum(BAND_WEIGHTS * ratios, axis=-1) >= all_bands
        is_speech &= is_sound
        learned = _learned(models, loudness, background, slopes, shares, is_speech[:, None, None, None])
        models = _Models(
            *(tf.where(is_sound[:, None, None, None], *pair) for pair in zip(learned, models, strict=True))
        )

        run = tf.where(is_speech, hangover.run + 1, 0)
        after = tf.where(run > LONG_RUN_FRAMES, long_hangover, short_hangover)
        left = tf.where(is_speech, after, tf.maximum(hangover.left - 1, 0))
        return (models, _Hangover(run, left)), is_speech | (hangover.left > 0)

    per_gaussian = tf.tile(loudness[:, :, None, :, None], [1, 1, 2, 1, 2])
    return _frame_by_frame(step, (models, hangover), (per_gaussian, background, is_sound), tf.bool)


def _likelihoods(models: _Models, loudness: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """How well the models explain the loudness of a frame, int32 [B, model, band, Gaussian], Q4.

    Returns:
        (x - mean) / deviation ** 2 of each Gaussian, int32 [B, model, band, Gaussian], Q11; each model's likelihood,
        int32 [B, model, band], Q27; and the Gaussians' shares in it, [B, model, band, Gaussian], Q14.
    """
    inverse = ((1 << 17) + _shifted(models.deviations, 1)) // models.deviations  # Q10
    precision = _shifted(tf.square(_shifted(inverse, 2)), 2)  # Q14
    distance = 8 * loudness - models.means  # Q7
    slopes = _shifted(precision * distance, 10)
    exponent = tf.minimum(_shifted(slopes * distance, 9), LARGEST_EXPONENT)  # Q10
    octaves = _shifted(LOG2_E * exponent, 12)
    # 2 ** -octaves: its fraction by a straight line, then shifted by its whole part. Q10
    fraction = tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(-octaves, (1 << 10) - 1), 1 << 10)
    density = inverse * _shifted(fraction, _shifted(octaves + (1 << 10) - 1, 10))  # Q20
    parts = WEIGHTS * density
    likelihoods = tf.reduce_sum(parts, axis=-1)

    whole = _shifted(likelihoods, 12)[..., None]  # Q15
    first = (_shifted(parts[..., :1], 12) * CERTAIN) // tf.maximum(whole, 1)
    shares = tf.where(whole > 0, tf.concat([first, CERTAIN - first], axis=-1), SHARES_WITHOUT_EVIDENCE)
    return slopes, likelihoods, shares


def _learned(
    models: _Models,
    loudness: tf.Tensor,
    background: tf.Tensor,
    slopes: tf.Tensor,
    shares: tf.Tensor,
    is_speech: tf.Tensor,
) -> _Models:
    """The models after a frame: that of what was heard learns from it, and the noise also follows the background."""
    means, deviations = models
    learns = is_speech == IS_SPEECH_MODEL

    pull = _int16(_shifted(shares * slopes, 11))
    step = _shifted(_shifted(pull * LEARNING_RATES, 21) + _per_model(0, 1), 1)  # only speech is rounded
    away = 16 * background - _shifted(_weighted(means)[:, 0], 6)  # Q8
    follow = tf.stack([_shifted(BACKGROUND_PULL * away, 9), tf.zeros_like(away)], axis=1)[..., None]
    moved = tf.where(learns, means + step, means) + follow
    moved = tf.where(learns | ~IS_SPEECH_MODEL, tf.clip_by_value(moved, SMALLEST_MEANS, LARGEST_MEANS), moved)

    offset = loudness - _shifted(means + _per_model(0, 4), 3)  # Q4
    excess = _shifted(slopes * offset, 3) - (1 << 12)  # ((x - mean) / deviation) ** 2 - 1, Q12
    gain = _shifted(_shifted(shares + _per_model(2, 0), 2) * excess, _per_model(14, 4))
    change = tf.truncatediv(gain, _int16(deviations * _per_model(1, 10)))
    change = _shifted(_int16(change + _per_model(32, 128)), _per_model(6, 8))
    widened = tf.maximum(deviations + change, LEAST_DEVIATION)
    return _Models(_separated(moved), tf.where(learns, widened, deviations))


def _separated(means: tf.Tensor) -> tf.Tensor:
    """The means [B, model, band, Gaussian], moved apart where noise and speech are too close, and below a limit."""
    centre = _shifted(_weighted(means), 9)  # Q5
    lack = tf.maximum(LEAST_DIFFERENCES - (centre[:, 1] - centre[:, 0]), 0)
    means += tf.stack([-_shifted(3 * lack, 2), _shifted(13 * lack, 2)], axis=1)[..., None]
    return means - tf.maximum(_shifted(_weighted(means), 7) - LARGEST_CENTRES, 0)[..., None]


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

    outputs = tf.TensorArray(dtype, count)
    return tf.while_loop(lambda number, *_: number < count, body, (0, state, outputs))[-1].stack()


def _shifted(values: tf.Tensor, bits: tf.Tensor | int) -> tf.Tensor:
    """values / 2 ** bits, rounded down."""
    return tf.bitwise.right_shift(values, bits)


def _int16(values: tf.Tensor) -> tf.Tensor:
    """What 16 bits hold of int32: beyond them it wraps around."""
    return tf.cast(tf.cast(values, tf.int16), tf.int32)


def _bit_length(values: tf.Tensor) -> tf.Tensor:
    """How many binary digits the values have, none for 0."""
    return tf.reduce_sum(tf.cast(tf.cast(values, tf.int64)[..., None] >= POWERS_OF_TWO, tf.int32), axis=-1)
