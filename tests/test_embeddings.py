import numpy as np
import pytest

from ser_tf.serving.embeddings import Space, embed


def space(degrees: list[float], emotions: str, speakers: str) -> Space:
    """Utterances on the unit circle, one letter per emotion and speaker."""
    radians = np.radians(degrees)
    points = np.stack([np.cos(radians), np.sin(radians)], axis=1)
    return Space(points, [], np.array(list(emotions)), np.array(list(speakers)))


def test_neighbours_are_utterances_of_other_speakers():
    # Every utterance has 2 of the other speaker: one of its own emotion, one of the other. Its own speaker's, which lie
    # nearer, do not count.
    mixed = space([0, 1, 90, 91], "hshs", "1122")
    assert mixed.neighbour_purity == mixed.chance_purity == 0.5


def test_pure_neighbourhoods_are_above_chance():
    # Six happy utterances about 0 degrees and six sad ones about 180, two of each emotion by each of three speakers. An
    # utterance has 8 of the two other speakers, 4 of its emotion; these are among its five nearest, with one other.
    degrees = [0.0, 1, 2, 3, 4, 5, 180, 181, 182, 183, 184, 185]
    two = space(degrees, "h" * 6 + "s" * 6, "112233" * 2)
    assert two.neighbour_purity == pytest.approx(4 / 5)
    assert two.chance_purity == pytest.approx(1 / 2)
    assert two.silhouette > 0.9


def test_a_single_speaker_or_emotion_gives_no_number():
    assert np.isnan(space([0, 1], "hs", "11").neighbour_purity)
    assert np.isnan(space([0, 1], "hs", "11").chance_purity)
    assert np.isnan(space([0, 1, 2], "hhh", "123").silhouette)


def test_a_part_of_a_space_keeps_what_belongs_together():
    part = Space(
        np.eye(3), [np.array([0.1]), np.array([0.2]), np.array([0.3])], np.array(list("hsh")), np.array(list("123"))
    )
    chosen = part.select(np.array([True, False, True]))
    assert (chosen.emotions.tolist(), chosen.speakers.tolist()) == (["h", "h"], ["1", "3"])
    assert [float(share[0]) for share in chosen.ghost_shares] == [0.1, 0.3]
    np.testing.assert_array_equal(chosen.embeddings, np.eye(3)[[0, 2]])


def test_the_picture_is_the_same_each_time():
    circle = space(list(np.linspace(0, 350, 20)), "hs" * 10, "1234" * 5)
    assert circle.placed().shape == (20, 2)
    np.testing.assert_array_equal(circle.placed(), circle.placed())


def test_a_run_puts_utterances_where_it_predicts_from(shallow, finetuned, task_of):
    run = finetuned("S3")
    utterances = [item.utterance for item in task_of("S3").prepared.items][:3]
    found = embed(run.path, utterances)
    assert found.embeddings.shape[0] == len(found.ghost_shares) == 3
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
    assert found.emotions.tolist() == [utterance.emotion for utterance in utterances]
    assert found.speakers.tolist() == [utterance.speaker for utterance in utterances]
