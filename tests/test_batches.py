from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_tf.errors import UserError
from ser_tf.pipeline.batches import epoch_batches


def corpus(emotions: int, speakers: int, takes: int) -> tuple[np.ndarray, np.ndarray]:
    """Every speaker says every emotion that many times."""
    labels, names, _ = np.meshgrid(range(emotions), [f"s{n}" for n in range(speakers)], range(takes), indexing="ij")
    return labels.ravel(), names.ravel()


def dealt(labels, speakers, batch_size=32, batches="balanced", seed=0, epoch=0) -> np.ndarray:
    return epoch_batches(labels, speakers, batch_size=batch_size, batches=batches, seed=seed, epoch=epoch)


@pytest.mark.parametrize("batches", ["plain", "balanced", "corpora"])
@pytest.mark.parametrize(("takes", "steps"), [(10, 15), (11, 17)])  # 6 x 8 x 10 = 480 = 15 x 32; 528 = 16.5 x 32
def test_an_epoch_has_as_many_batches_as_the_utterances_fill(batches, takes, steps):
    rows = dealt(*corpus(6, 8, takes), batches=batches)
    assert rows.shape == (steps, 32)
    assert rows.dtype == np.int32
    assert all(len(set(row)) == 32 for row in rows.tolist())


def test_a_plain_epoch_is_a_permutation_filled_up_from_its_start():
    batches = dealt(*corpus(6, 8, 11), batches="plain").ravel()
    assert sorted(batches[:528].tolist()) == list(range(528))
    np.testing.assert_array_equal(batches[528:], batches[:16])  # 17 x 32 = 544


def test_every_batch_holds_every_emotion_four_times():
    labels, speakers = corpus(8, 18, 7)  # RAVDESS: 32 = 8 x 4
    for row in dealt(labels, speakers):
        assert Counter(labels[row].tolist()) == dict.fromkeys(range(8), 4)


def test_the_remainder_rotates():
    labels, speakers = corpus(6, 10, 9)  # CREMA-D: 32 = 6 x 5 + 2
    counts = np.array([np.bincount(labels[row], minlength=6) for row in dealt(labels, speakers)])
    assert set(counts.ravel().tolist()) == {5, 6}
    # 17 batches x 2 seats = 34 among 6 emotions: each has 5 or 6 of them.
    assert set((counts - 5).sum(axis=0).tolist()) <= {5, 6}
    # Three batches in a row go once around.
    np.testing.assert_array_equal((counts - 5)[:3].sum(axis=0), np.ones(6))


def test_two_speakers_per_emotion_even_when_one_speaks_most():
    labels = np.repeat([0, 1], 40)
    speakers = np.array((["often"] * 38 + ["rare"] * 2) * 2)
    for epoch in range(20):
        for row in dealt(labels, speakers, batch_size=8, epoch=epoch):
            for emotion in (0, 1):
                assert len(set(speakers[row[labels[row] == emotion]])) == 2


def test_utterances_of_an_emotion_take_turns():
    # Class 0 has 20 utterances and 4 of 8 seats in each of 10 batches (80 / 8): 40 seats, so each comes twice.
    labels = np.repeat([0, 1], [20, 60])
    speakers = np.tile(["a", "b"], 40)
    uses = np.bincount(dealt(labels, speakers, batch_size=8).ravel(), minlength=80)
    assert set(uses[:20].tolist()) == {2}
    assert set(uses[20:].tolist()) == {0, 1}  # 60 utterances for 40 seats


@given(
    sizes=st.lists(st.integers(8, 40), min_size=2, max_size=5),
    speakers=st.integers(2, 6),
    batch_size=st.integers(10, 16),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_balanced_batches_keep_every_promise(sizes, speakers, batch_size, seed, epoch):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    who = np.arange(len(labels)) % speakers
    if len(labels) < batch_size:
        return
    batches = dealt(labels, who, batch_size, "balanced", seed, epoch)
    assert len(batches) == -(-len(labels) // batch_size)
    for row in batches:
        assert len(set(row.tolist())) == batch_size
        counts = np.bincount(labels[row], minlength=len(sizes))
        assert counts.max() - counts.min() <= 1
        assert all(len(set(who[row[labels[row] == label]])) >= 2 for label in range(len(sizes)))


@pytest.mark.parametrize("batches", ["plain", "balanced", "corpora"])
def test_seed_and_epoch_alone_decide(batches):
    data = corpus(6, 8, 11)
    first = dealt(*data, batches=batches, seed=3, epoch=5)
    np.testing.assert_array_equal(dealt(*data, batches=batches, seed=3, epoch=5), first)
    assert (dealt(*data, batches=batches, seed=3, epoch=6) != first).any()
    assert (dealt(*data, batches=batches, seed=4, epoch=5) != first).any()


@pytest.mark.parametrize(
    ("labels", "speakers", "batch_size", "batches", "message"),
    [
        (["sad"] * 7, list("abababa"), 8, "plain", "the number of training utterances, 7. Received: batch_size=8"),
        (
            ["sad", "calm", "happy"] * 9,
            ["a"] * 27,
            5,
            "balanced",
            "two seats for each of 3 emotions. Received: batch_size=5",
        ),
        (["sad"] * 9 + ["calm"] * 3, list("ab" * 6), 8, "balanced", "emotion calm: expected at least 4 .*Received: 3"),
        (
            ["sad"] * 9 + ["calm"] * 9,
            list("ab" * 4) + ["c"] * 10,
            8,
            "balanced",
            "emotion calm: .*two speakers.*: c only",
        ),
    ],
)
def test_impossible_batches_are_reported(labels, speakers, batch_size, batches, message):
    with pytest.raises(UserError, match=message):
        dealt(labels, speakers, batch_size, batches)


def test_batches_are_dealt_to_corpora_and_in_each_to_its_emotions():
    # Three corpora of 60, 40 and 12 utterances with 6, 4 and 2 emotions; 16 seats are 5 + 5 + 6 in turn.
    labels = np.concatenate([np.arange(60) % 6, np.arange(40) % 4, np.arange(12) % 2])
    speakers = np.array(["a:1"] * 60 + ["b:1"] * 40 + ["c:1"] * 12)
    rows = dealt(labels, speakers, batch_size=16, batches="corpora")
    assert rows.shape == (7, 16)  # 112 / 16
    corpus_of = np.array([speaker[0] for speaker in speakers])
    shares = np.array([[np.sum(corpus_of[row] == name) for name in "abc"] for row in rows])
    assert set(shares.ravel().tolist()) == {5, 6}
    assert (shares[:3].sum(axis=0) == 16).all()  # three batches in a row go once around
    for name, emotions in (("a", 6), ("b", 4), ("c", 2)):
        seats = labels[rows.ravel()[corpus_of[rows.ravel()] == name]]
        counts = np.bincount(seats, minlength=emotions)
        assert counts.max() - counts.min() <= 1


def test_a_corpus_with_too_few_utterances_is_named():
    labels = np.concatenate([np.zeros(30, int), np.ones(30, int), [0, 1]])
    speakers = np.array(["a:1"] * 60 + ["b:1"] * 2)
    with pytest.raises(UserError, match=r"emotion 0 of b: expected at least 4 training utterances.*Received: 1;"):
        dealt(labels, speakers, batch_size=16, batches="corpora")
