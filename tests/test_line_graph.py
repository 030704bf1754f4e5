"""The line as a graph gives the answers of the live line for every recording."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REAL
from networks import randomised

from ser_tf.audio.vad import as_int16, remove_silence, voiced_samples
from ser_tf.audio.waveform import read_waveform
from ser_tf.classifier import Classifier, fit_svm
from ser_tf.network.se_resnet import embedding_network, with_softmax_head
from ser_tf.pairwise_svm import coupled
from ser_tf.serving import line_graph
from ser_tf.serving.line_graph import LineGraph, probabilities_of, svm_coupled, svm_votes
from ser_tf.serving.predict import Recogniser

pytestmark = pytest.mark.usefixtures("shallow")

KINDS = ("softmax", "svm", "svm of an older run")
EMOTIONS = ("neutral", "happy", "sad")


def clouds(rng: np.random.Generator, count: int, classes: int = 3, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes on the unit sphere: embeddings and labels, `count` of each class."""
    centres = np.random.default_rng(7).normal(size=(classes, size))
    labels = np.tile(np.arange(classes, dtype="int32"), count)
    embeddings = centres[labels] + 1.5 * rng.normal(size=(len(labels), size))
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype("float32"), labels


@pytest.mark.parametrize("classes", [2, 3, 6, 8])
@pytest.mark.parametrize("confidence", ["coupling", "votes"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float64, 1e-9), (tf.float32, 1e-5)])
def test_an_svm_in_the_graph_is_the_classifiers(rng, classes, confidence, dtype, tolerance):
    emotions = [f"emotion {number}" for number in range(classes)]
    classifier, _ = fit_svm(*clouds(rng, 30, classes), *clouds(rng, 10, classes), emotions)
    if confidence == "votes":
        classifier = replace(classifier, slope=None)
    embeddings, _ = clouds(rng, 100, classes)
    of_graph, variables = probabilities_of(classifier, dtype)
    assert [variable.shape for variable in variables] == [classifier.svm.support.shape]
    probabilities = of_graph({"embedding": tf.constant(embeddings)})
    assert probabilities.dtype == dtype
    np.testing.assert_allclose(probabilities, classifier.probabilities(embeddings), atol=tolerance)


def test_coupling_in_the_graph_survives_margins_that_no_exponential_does():
    margins = np.array([[1e4, 1e5, -1e4], [0.0, -0.0, 1e-9]])
    for dtype in (tf.float32, tf.float64):
        scores = svm_coupled(tf.constant(margins, dtype), 16.0)
        expected = coupled(margins, 16.0)
        np.testing.assert_allclose(scores, expected - expected.mean(axis=1, keepdims=True), rtol=1e-6, atol=1e-6)


def test_a_margin_of_zero_speaks_for_the_first_class_of_a_pair():
    np.testing.assert_array_equal(svm_votes(tf.zeros([1, 3], tf.float64)), [[2, 1, 0]])


@pytest.fixture(scope="module")
def recognisers(shallow, small) -> dict[str, Recogniser]:
    """Networks with random biases and batch statistics, so that padding becomes non-zero."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = randomised(embedding_network(small.network), rng)
    size = network.output["embedding"].shape[-1]
    svm, _ = fit_svm(*clouds(rng, 20, size=size), *clouds(rng, 10, size=size), EMOTIONS)
    features = with_softmax_head(network, len(EMOTIONS), small.network.head_units)
    return {
        "softmax": Recogniser(small, network, features, Classifier(EMOTIONS, 5.0)),
        "svm": Recogniser(small, network, network, svm),
        "svm of an older run": Recogniser(small, network, network, replace(svm, slope=None, inverse_temperature=1.0)),
    }


@pytest.fixture(scope="module")
def lines(recognisers):
    return {kind: LineGraph(recogniser).signatures() for kind, recogniser in recognisers.items()}


@pytest.fixture(scope="module")
def recordings(tones):
    """Waveforms of four lengths from 0.15 to 1.7 s; the longer two pause between two tones."""
    first, second = (read_waveform(tones.parent / f"{name}.wav") for name in ("1-sad-0", "3-angry-2"))
    pause = np.zeros(8000, "float32")
    return [
        first[:2400],
        second[:4801],
        np.concatenate([first, pause, second]),
        np.concatenate([second, pause, first[:3333]]),
    ]


def batch_of(waveforms, filler=0.0):
    """Rows of equal length, filled up with `filler`."""
    lengths = np.array([len(waveform) for waveform in waveforms], "int32")
    batch = np.full((len(waveforms), max(lengths, default=0)), filler, "float32")
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": tf.constant(batch), "length": tf.constant(lengths)}


def expect_live(answers, live):
    """Check that the rows of answers equal the predictions of `Recogniser`."""
    for row, prediction in enumerate(live):
        assert answers["problem"][row].numpy() == b""
        assert answers["emotion"][row].numpy().decode() == prediction.emotion
        distribution = list(prediction.probabilities.values())
        np.testing.assert_allclose(answers["probabilities"][row], distribution, atol=1e-5)
        np.testing.assert_allclose(answers["embedding"][row], prediction.embedding, atol=1e-5)
        descriptors = len(prediction.ghost_share)
        np.testing.assert_allclose(answers["ghost_share"][row][:descriptors], prediction.ghost_share, atol=1e-5)
        assert not np.any(answers["ghost_share"][row][descriptors:])
        assert answers["speech_seconds"][row].numpy() == pytest.approx(prediction.speech_seconds, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_each_recording_of_a_batch_gets_the_answer_of_the_live_line(recognisers, lines, recordings, kind):
    live = [recognisers[kind](waveform, 16_000) for waveform in recordings]
    assert len({prediction.probability for prediction in live}) == len(live)
    pauses = [
        len(waveform) / 16_000 - prediction.speech_seconds
        for waveform, prediction in zip(recordings, live, strict=True)
    ]
    assert max(pauses) > 0.3
    expect_live(lines[kind]["padded"](**batch_of(recordings)), live)
    expect_live(lines[kind]["padded"](**batch_of(recordings, filler=np.nan)), live)
    for waveform, prediction in zip(recordings, live, strict=True):
        alone = lines[kind]["serving_default"](waveform=tf.constant(waveform[None]))
        expect_live(alone, [prediction])
        assert alone["ghost_share"].shape[1] == len(prediction.ghost_share)


@pytest.mark.parametrize("kind", KINDS)
def test_real_recordings_of_one_batch_get_the_answers_of_the_live_line(recognisers, lines, shared_data, kind):
    waveforms = [read_waveform(shared_data / name) for name in REAL]
    live = [recognisers[kind](waveform, 16_000) for waveform in waveforms]
    expect_live(lines[kind]["padded"](**batch_of(waveforms)), live)


@pytest.mark.parametrize("kind", KINDS)
def test_speech_is_taken_as_it_is(recognisers, lines, recordings, kind):
    recogniser = recognisers[kind]
    live = [recogniser(waveform, 16_000) for waveform in recordings]
    speech = [remove_silence(waveform, recogniser.config.vad).waveform for waveform in recordings]
    expect_live(lines[kind]["speech"](**batch_of(speech, filler=0.3)), live)
    silence = np.zeros(8000, "float32")
    longer = lines[kind]["speech"](**batch_of([np.concatenate([speech[0], silence])]))
    assert longer["speech_seconds"][0].numpy() == pytest.approx((len(speech[0]) + 8000) / 16_000)


def test_the_stages_in_a_row_are_the_line(lines, recordings):
    line = lines["softmax"]
    batch = batch_of(recordings)
    spectrogram = line["spectrogram"](**batch)
    assert spectrogram["spectrogram"].shape[2] == 257
    np.testing.assert_array_equal(spectrogram["frames"], 1 + (batch["length"].numpy() - 512) // 160)
    embedded = line["embed"](**spectrogram)
    answers = line["speech"](**batch)
    assert embedded.keys() == {"embedding", "ghost_share"}
    for name, rows in embedded.items():
        np.testing.assert_array_equal(rows, answers[name])


BAD = {
    "NaN": (lambda good: np.where(np.arange(len(good)) == 7, np.nan, good), line_graph.NOT_FINITE),
    "infinite": (lambda good: np.where(np.arange(len(good)) == 7, -np.inf, good), line_graph.NOT_FINITE),
    "int16 as float": (lambda good: np.rint(good * 32_768), line_graph.TOO_LOUD),
    "empty": (lambda good: good[:0], line_graph.TOO_SHORT),
    "one sample": (lambda good: good[:1], line_graph.TOO_SHORT),
    "31 ms": (lambda good: good[:511], line_graph.TOO_SHORT),
    "silent": (lambda good: 0 * good, line_graph.SILENT),
    "below 16 bit": (lambda good: 1e-5 * good / np.abs(good).max(), line_graph.SILENT),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_recording_says_why_and_spoils_no_other(recognisers, lines, recordings, bad):
    spoil, reason = BAD[bad]
    good = recordings[2]
    live = recognisers["softmax"](good, 16_000)
    answers = lines["softmax"]["padded"](**batch_of([good, spoil(recordings[3]), good]))
    expect_live({name: tf.gather(rows, [0, 2]) for name, rows in answers.items()}, [live, live])
    expect_no_answer(answers, row=1, reason=reason)


def expect_no_answer(answers, row, reason):
    assert answers["problem"][row].numpy().decode() == reason
    assert answers["emotion"][row].numpy() == b""
    for name in ("probabilities", "embedding", "ghost_share", "speech_seconds"):
        assert np.isnan(answers[name][row]).all()


@pytest.mark.parametrize("signature", ["padded", "speech"])
@pytest.mark.parametrize("length", [-1, 6000])
def test_a_length_that_is_none_says_so(lines, recordings, signature, length):
    good = recordings[1][:4800]
    answers = lines["softmax"][signature](waveform=tf.constant([good, good]), length=tf.constant([4800, length]))
    assert answers["problem"][0].numpy() == b""
    expect_no_answer(answers, row=1, reason=line_graph.WRONG_LENGTH)


def test_what_is_too_long_says_so_and_costs_no_network(lines, recordings, rng):
    minutes = rng.uniform(-0.5, 0.5, 61 * 16_000).astype("float32")
    answers = lines["softmax"]["speech"](**batch_of([recordings[0], minutes]))
    expect_no_answer(answers, row=1, reason=line_graph.TOO_MUCH_SPEECH)
    assert (
        answers["ghost_share"].shape[1]
        == lines["softmax"]["speech"](**batch_of(recordings[:1]))["ghost_share"].shape[1]
    )
    hour = np.zeros(601 * 16_000, "float32")
    expect_no_answer(lines["softmax"]["speech"](**batch_of([hour])), row=0, reason=line_graph.TOO_LONG)


def test_a_batch_needs_a_recording_but_no_samples(lines):
    with pytest.raises(tf.errors.InvalidArgumentError, match="waveform: expected at least one recording"):
        lines["softmax"]["serving_default"](waveform=tf.zeros([0, 8000]))
    answers = lines["softmax"]["serving_default"](waveform=tf.zeros([1, 0]))
    expect_no_answer(answers, row=0, reason=line_graph.TOO_SHORT)


@pytest.mark.parametrize("signature", ["padded", "speech"])
@pytest.mark.parametrize(("recordings", "lengths"), [(3, 1), (1, 2), (3, 2), (2, 0)])
def test_there_is_a_length_for_each_recording(lines, signature, recordings, lengths):
    with pytest.raises(tf.errors.InvalidArgumentError, match="length: expected as many as there are recordings"):
        lines["softmax"][signature](waveform=tf.fill([recordings, 8000], 0.1), length=tf.fill([lengths], 4000))


@pytest.mark.parametrize("signature", ["padded", "speech"])
def test_samples_just_beyond_full_scale_are_cut_off_as_the_live_line_does(recognisers, lines, recordings, signature):
    recogniser = recognisers["softmax"]
    loud = np.rint(recordings[3] * np.float32(1.2 / np.abs(recordings[3]).max() * 32_768)) / np.float32(32_768)
    assert (np.abs(loud) > 1).sum() > 10
    is_voiced = voiced_samples(as_int16(loud), recogniser.config.vad)  # the live line gets the loud samples themselves
    given = loud[is_voiced] if signature == "speech" else loud
    expect_live(lines["softmax"][signature](**batch_of([given])), [recogniser(loud, 16_000)])


def test_integers_are_refused_by_the_signature(lines):
    with pytest.raises(Exception, match="float"):
        lines["softmax"]["serving_default"](waveform=tf.zeros([1, 8000], tf.int16))


def test_of_equal_probabilities_the_first_emotion_is_named(recognisers):
    # An inverse temperature of 0 makes all of them equal.
    recogniser = recognisers["softmax"]
    flat = type(recogniser)(
        recogniser.config, recogniser.embedding, recogniser.features, Classifier(("a", "b", "c"), 0.0)
    )
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype("float32")
    answers = LineGraph(flat).signatures()["serving_default"](waveform=tf.constant(noise[None]))
    assert answers["emotion"].numpy().tolist() == [b"a"] == [flat(noise, 16_000).emotion.encode()]
