"""Embeddings as a step of scikit-learn, with a run that learnt the tones."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils import estimator_checks

import ser_tf
from ser_tf.errors import UserError
from ser_tf.serving import transformer

pytestmark = pytest.mark.usefixtures("shallow")
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_get_params_invariance",
    "check_set_params",
]
"""Those that need no data. All others fit on tables of numbers, where this estimator takes paths of recordings:
scikit-learn itself skips them for an estimator whose tags say so. Their questions are asked below, about recordings."""


@pytest.fixture
def paths(tones) -> list[str]:
    return [str(path) for path in sorted(tones.parent.glob("[1-6]-*.wav"))]


@pytest.fixture
def run(finetuned) -> Path:
    return finetuned("S3").path


@pytest.mark.parametrize("check", CHECKS)
def test_the_checks_of_scikit_learn_that_need_no_data_pass(check):
    getattr(estimator_checks, check)("EmotionEmbedding", ser_tf.EmotionEmbedding())


def test_the_tags_say_that_it_takes_no_table_of_numbers():
    with pytest.warns(estimator_checks.SkipTestWarning, match="input  of type"):
        results = estimator_checks.check_estimator(ser_tf.EmotionEmbedding())
    assert [(result["check_name"], result["status"]) for result in results] == [("check_estimator_cloneable", "passed")]


def test_a_row_is_the_embedding_of_its_recording_whatever_is_beside_it(run, paths):
    embedding = ser_tf.EmotionEmbedding(run)
    few = paths[:4]
    embeddings = embedding.transform(few)  # without fit: nothing is learnt
    assert embeddings.dtype == np.float32
    recogniser = ser_tf.load(run)
    np.testing.assert_array_equal(embeddings, [recogniser(path).embedding for path in few])
    np.testing.assert_array_equal(embedding.fit(few).transform(few[::-1]), embeddings[::-1])
    np.testing.assert_array_equal(embedding.transform(np.array(few)[:, None]), embeddings)
    np.testing.assert_array_equal(clone(embedding).fit_transform([Path(few[2])]), embeddings[2:3])
    copied = pickle.dumps(embedding)
    assert len(copied) < 1000  # the path, not the network
    np.testing.assert_array_equal(pickle.loads(copied).transform(few[:1]), embeddings[:1])


def test_a_pipeline_learns_labels_of_its_own(run, paths):
    pitches = [Path(path).name.split("-")[1] == "happy" for path in paths]
    speakers = [Path(path).name[0] for path in paths]
    pipeline = make_pipeline(ser_tf.EmotionEmbedding(run), SVC(C=10))
    scores = cross_val_score(pipeline, paths, pitches, groups=speakers, cv=GroupKFold(2), error_score="raise")
    assert scores.min() > 0.9


@pytest.mark.parametrize(
    ("recordings", "received"),
    [
        ("clip.wav", r"shape \[\]"),
        ([], r"shape \[0\]"),
        ([["a.wav", "b.wav"]], r"shape \[1, 2\]"),
        (["a.wav", 1.0], r"X\[1\]=1.0"),
    ],
)
def test_what_is_no_list_of_paths_is_refused(run, recordings, received):
    with pytest.raises(UserError, match=rf"^X: expected paths of recordings.*Received: {received}$"):
        ser_tf.EmotionEmbedding(run).fit(recordings)


def test_the_model_is_a_name_or_a_path_and_by_default_the_packaged_one(monkeypatch):
    with pytest.raises(UserError, match=r"^model: expected a name or a path. Received: model=3$"):
        ser_tf.EmotionEmbedding(3).fit(["clip.wav"])
    asked = []
    monkeypatch.setattr(transformer, "load", asked.append)
    ser_tf.EmotionEmbedding().fit(["clip.wav"])
    assert asked == [None]
