"""16 kHz samples -> the six frequency bands of WebRTC's detector.

The filters run over short pieces of the signal side by side, repeatedly, until every piece starts from the state in
which the previous one ended. The result is exact. Digital silence, on which filters oscillate for ever, needs no more
passes than noise. A signal that needs too many passes, because it repeats a different small pattern, is filtered piece
by piece.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ser_tf.audio.fixed_point import int16, shifted
from ser_tf.config import VadConfig

LONGEST_PIECE = 20
"""Samples of a piece, filtered one after the other; at low rates a piece has the samples of 10 ms."""
MOST_PASSES = 30
"""Passes over all pieces side by side; speech and noise need fewer than ten."""

BRANCHES = slice(None), None, None, None
"""Turns one number per branch of a filter into [2, 1, 1, 1]."""
DECIMATOR = np.array([5243, 1392], np.int32)[BRANCHES]
"""All-pass coefficients of the upper and the lower branch, Q13."""
SPLITTER = np.array([20_972, 5571], np.int32)[BRANCHES]
"""The same, Q15."""
HIGH_PASS_ZEROS = 6631, -13_262, 6631
"""80 Hz for samples at 500 Hz, Q14."""
HIGH_PASS_POLES = 7756, -5620

Signals = list[tf.Tensor]


def decimated(samples: tf.Tensor) -> tf.Tensor:
    """int32 [B, T] at 16 kHz -> int32 [1, B, T / 2] at 8 kHz, by a pair of all-pass filters."""
    branches = _alternating(samples[None])

    def step(states: Signals, sample: tf.Tensor, scaled: tf.Tensor) -> tuple[Signals, tf.Tensor]:
        output = int16(shifted(states[0], 1) + scaled)
        return [sample - shifted(DECIMATOR * output, 12)], output

    outputs = _recursion(step, [branches, shifted(DECIMATOR * branches, 14)], 8000, states=1)
    return int16(outputs[0] + outputs[1])


def bands_of(narrow: tf.Tensor, config: VadConfig) -> Signals:
    """The six bands of a signal at 8 kHz from low to high, each int32 [1, B, T]."""
    low, high = _split(narrow, 4000, config)  # 0-2 and 2-4 kHz
    lower, upper = _split(tf.concat([low, high], axis=0), 2000, config)  # 0-1 and 2-3, 1-2 and 3-4 kHz
    lowest, band_2 = _split(lower[:1], 1000, config)
    lowest, band_1 = _split(lowest, 500, config)
    return [_high_passed(lowest), band_1, band_2, upper[:1], lower[1:], upper[1:]]


def _split(signals: tf.Tensor, rate_hz: int, config: VadConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Lower and upper half of the spectrum of int32 [signals, B, T]: each int32 [signals, B, T / 2] at `rate_hz`.

    At the end of a frame WebRTC keeps 16 of the 32 bits of each filter state.
    """
    branches = _alternating(signals)

    def step(states: Signals, sample: tf.Tensor, scaled: tf.Tensor) -> tuple[Signals, tf.Tensor]:
        output = shifted(states[0] + scaled, 16)
        return [sample - 2 * SPLITTER * output], output

    inputs = [(1 << 15) * branches, SPLITTER * branches]
    outputs = _recursion(step, inputs, rate_hz, states=1, rounded_every=config.frame_samples(rate_hz))
    return int16(outputs[0] + outputs[1]), int16(outputs[0] - outputs[1])


def _high_passed(signal: tf.Tensor) -> tf.Tensor:
    """int32 [1, B, T] at 500 Hz, without frequencies below 80 Hz."""
    last_two = tf.pad(signal, [[0, 0], [0, 0], [2, 0]])
    count = tf.shape(signal)[-1]
    driven = tf.add_n([zero * last_two[..., 2 - age : 2 - age + count] for age, zero in enumerate(HIGH_PASS_ZEROS)])

    def step(states: Signals, driven: tf.Tensor) -> tuple[Signals, tf.Tensor]:
        last, last_but_one = states
        output = int16(shifted(driven + HIGH_PASS_POLES[0] * last + HIGH_PASS_POLES[1] * last_but_one, 14))
        return [output, last], output

    return _recursion(step, [driven], 500, states=2)


def _recursion(
    step: Callable[..., tuple[Signals, tf.Tensor]],
    inputs: Signals,
    rate_hz: int,
    states: int,
    rounded_every: int | None = None,
) -> tf.Tensor:
    """Run a filter over all pieces of a signal side by side, with the result of running it sequentially.

    Each piece starts from rest, then from where the previous piece ended, until nothing changes: then every start is
    right. Filters forget quickly, and every pass corrects at least one more piece. A filter does not forget a signal
    that repeats a small pattern; its pieces are filtered sequentially, at a constant cost per second.

    Args:
        step: states and the inputs at one time -> states and output, each int32 [..., pieces].
        inputs: int32 [..., T].
        rate_hz: rate of the inputs.
        states: number of tensors in the filter's state.
        rounded_every: after this many samples the states lose their lower 16 bits.

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
    """Better starts than `follow`, the ends of the previous pieces.

    On a signal that repeats itself, such as digital silence, a filter never forgets its last small oscillation. If
    pieces repeat those a period earlier and hand on the state they received, they will do so again, so the oscillation
    need not travel piece by piece. `follows_repeat` marks pieces that follow such a piece.
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
    """[..., pieces] -> [..., period, pieces / period]: pieces a period apart become neighbours."""
    shape = tf.concat([tf.shape(values)[:-1], [-1, period]], axis=0)
    return tf.linalg.matrix_transpose(tf.reshape(values, shape))


def _delayed(values: tf.Tensor) -> tf.Tensor:
    """For each piece the value of the previous one, and zero for the first."""
    return tf.concat([tf.zeros_like(values[..., :1]), values[..., :-1]], axis=-1)


def _alternating(signals: tf.Tensor) -> tf.Tensor:
    """int32 [signals, B, T] -> [branches, signals, B, T / 2]: even samples for the upper branch, odd for the lower."""
    return tf.stack([signals[..., ::2], signals[..., 1::2]])
