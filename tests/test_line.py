"""The whole line: every route gives the same numbers, and an embedding depends only on its utterance."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import soundfile
from networks import randomised

from ser_tf.audio.spectrogram import spectrogram
from ser_tf.audio.vad import Speech, remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.classifier import Classifier
from ser_tf.config import PRESETS, TrainingConfig
from ser_tf.corpora.corpus import Utterance
from ser_tf.corpora.synthetic import synthesise
from ser_tf.network.se_resnet import embedding_network, with_softmax_head
from ser_tf.pipeline import evaluation_batches, inputs_of, prepare_speech, training_dataset
from ser_tf.serving.predict import Recogniser

CONFIG = PRESETS["tiny"]
EMOTIONS = ("neutral", "happy", "sad")
REAL = (
    "originals/ravdess/03-01-06-01-01-02-20.wav",  # stereo, 48 kHz
    "originals/ravdess/03-01-05-02-02-01-15.wav",  # mono, 48 kHz
    "originals/ravdess/03-01-08-01-02-02-01.wav",  # stereo, 48 kHz
    "crema_d/AudioOGG/1001_DFA_ANG_XX.ogg",
    "crema_d/AudioOGG/1040_IEO_HAP_HI.ogg",
)


@pytest.fixture
def real(shared_data):
    return [shared_data / name for name in REAL]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    root = tmp_path_factory.mktemp("line") / "corpus"
    synthesise(root, speakers=2, takes=1, emotions=("happy",))
    return sorted(root.rglob("*.wav"))


@pytest.fixture(params=["real", "synthetic"])
def recordings(request):
    """Paths of real recordings, and of synthetic ones without them."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    """A tiny network with random biases and batch statistics, so that padding becomes non-zero."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    embedding = randomised(embedding_network(CONFIG.network), rng)
    features = with_softmax_head(embedding, len(EMOTIONS), CONFIG.network.head_units)
    return Recogniser(CONFIG, embedding, features, Classifier(EMOTIONS, 5.0))


@pytest.fixture(scope="module")
def embed(recogniser):
    """speech -> embedding: from float32 [B, N] and their true lengths to float32 [B, E]."""

    def line(speech: np.ndarray, samples: list[int]) -> np.ndarray:
        values, frames = spectrogram(speech, samples, CONFIG.spectrogram)
        return recogniser.features.predict_on_batch({"spectrogram": values, "frames": frames})["embedding"]

    return line


def speech_of(path) -> Speech:
    return remove_silence(read_waveform(path), CONFIG.vad)


def test_every_route_gives_the_same_spectrogram(recordings, tmp_path):
    utterances = [Utterance(path.stem, path, "table:anna", EMOTIONS[0]) for path in recordings]
    prepared = prepare_speech(utterances, CONFIG, tmp_path)
    assert len(prepared.items) == len(recordings)
    evaluated = {
        int(place): (values, int(frames))
        for inputs, places in evaluation_batches(prepared.items, CONFIG)
        for values, frames, place in zip(inputs["spectrogram"], inputs["frames"], places, strict=True)
    }
    for place, item in enumerate(prepared.items):
        speech = speech_of(item.utterance.path)
        predicted = inputs_of(speech.waveform, CONFIG)
        values, frames = evaluated[place]
        assert frames == predicted["frames"][0] == 1 + (len(speech.samples) - 512) // 160
        np.testing.assert_allclose(values, predicted["spectrogram"][0], atol=1e-5)

    # The training route cuts crops; here one that is as long as the speech, which leaves it whole.
    item, (values, frames) = prepared.items[0], evaluated[0]
    whole = TrainingConfig(batch_size=1, batches="plain", crop_seconds=item.samples / 16_000)
    dataset = training_dataset([item], np.array([0]), replace(CONFIG, training=whole))
    trained, _ = next(dataset.as_numpy_iterator())
    assert trained["frames"] == [frames]
    np.testing.assert_allclose(trained["spectrogram"][0], values[:frames], atol=1e-5)


def test_every_kind_of_recording_and_the_corpus_route_get_the_same_emotion(recordings, recogniser, tmp_path):
    utterances = [Utterance(path.stem, path, "table:anna", EMOTIONS[0]) for path in recordings]
    items = prepare_speech(utterances, CONFIG, tmp_path).items
    for inputs, places in evaluation_batches(items, CONFIG):
        logits = recogniser.features.predict_on_batch(inputs)["logits"]
        for place, distribution in zip(places, recogniser.classifier.probabilities(logits), strict=True):
            path = recordings[place]
            prediction = recogniser(path)
            np.testing.assert_allclose(list(prediction.probabilities.values()), distribution, atol=1e-5)
            assert prediction.emotion == EMOTIONS[distribution.argmax()]
            assert prediction.probability == max(prediction.probabilities.values())
            assert prediction.speech_seconds == items[place].samples / 16_000
            samples, rate_hz = soundfile.read(path, dtype="float32")
            for same in (
                recogniser(str(path)),
                recogniser(path.read_bytes()),
                recogniser(samples, rate_hz),
                recogniser(read_waveform(path), 16_000),
            ):
                assert same == prediction


def test_different_recordings_get_different_distributions(recordings, recogniser):
    # A network that ignored its input would pass every test of equality.
    distributions = [list(recogniser(path).probabilities.values()) for path in recordings]
    for number, first in enumerate(distributions):
        assert all(np.abs(np.subtract(first, other)).max() > 1e-4 for other in distributions[:number])


def test_an_embedding_depends_neither_on_padding_nor_on_its_batch(real, embed, rng):
    # 32 utterances of 41 to 72 frames, cut from the recordings: every T mod 32. Their ends lie inside a hop.
    waveforms = [speech_of(path).waveform for path in real]
    utterances = []
    for frames in range(41, 73):
        waveform = waveforms[frames % len(waveforms)]
        samples = 512 + 160 * (frames - 1) + int(rng.integers(160))
        start = int(rng.integers(len(waveform) - samples + 1))
        utterances.append(waveform[start : start + samples])
    alone = [embed(utterance[None], [len(utterance)])[0] for utterance in utterances]
    for embedding in alone:
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    assert max(np.abs(alone[0] - other).max() for other in alone[1:]) > 0.01

    def expect_the_same(rows: list[int], samples: int) -> None:
        batch = rng.uniform(-1, 1, size=(len(rows), samples)).astype("float32")
        for values, row in zip(batch, rows, strict=True):
            values[: len(utterances[row])] = utterances[row]
        embeddings = embed(batch, [len(utterances[row]) for row in rows])
        np.testing.assert_allclose(embeddings, [alone[row] for row in rows], atol=1e-5)

    # A batch of each length holds every utterance that 0 to 64 frames of padding bring there.
    for frames in range(41, 72 + 64 + 1):
        samples = 512 + 160 * (frames - 1) + 159
        expect_the_same([row for row in range(32) if 0 <= frames - (41 + row) <= 64], samples)
    for row, utterance in enumerate(utterances):
        expect_the_same([row], len(utterance) + 500 * 160)


def test_whole_recordings_in_a_padded_batch_are_embedded_as_when_served(recordings, recogniser, embed, rng):
    waveforms = [speech_of(path).waveform for path in recordings]
    samples = [len(waveform) for waveform in waveforms]
    batch = rng.uniform(-1, 1, size=(len(waveforms), max(samples) + 1_234)).astype("float32")
    for values, waveform in zip(batch, waveforms, strict=True):
        values[: len(waveform)] = waveform
    for embedding, waveform in zip(embed(batch, samples), waveforms, strict=True):
        served = recogniser.features.predict_on_batch(inputs_of(waveform, CONFIG))["embedding"][0]
        np.testing.assert_allclose(embedding, served, atol=1e-5)
