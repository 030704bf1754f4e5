import json
import math

import keras
import numpy as np
import pytest

from ser_tf.errors import UserError
from ser_tf.training.progress import Progress


def progress_of(*scores: float) -> Progress:
    return Progress([{"loss": 1.0, "validation_uar": score} for score in scores])


@pytest.fixture
def trained():
    """Build a small network with weights, a seed generator and an optimizer, and train it for one step."""

    def variables(seed: int) -> list[keras.Variable]:
        keras.utils.set_random_seed(seed)
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
        network.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
        network.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
        return [*network.variables, *network.optimizer.variables]

    return variables


def values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([], -1),
        ([0.2], 0),
        ([0.2, 0.5, 0.4], 1),
        ([0.2, 0.5, 0.5], 1),  # the first of equals
        ([0.0, 0.0], 0),
        ([math.nan, 0.3, math.nan, 0.4], 3),  # epochs that were not scored
        ([math.nan, math.nan], -1),
    ],
)
def test_best_epoch(scores, best):
    assert progress_of(*scores).best_epoch == best


def test_epochs_and_variables_come_back_bit_for_bit(trained, tmp_path):
    before, after = trained(seed=0), trained(seed=1)
    assert {variable.name for variable in before} >= {"kernel", "seed_generator_state", "iteration"}
    saved = values(before)
    assert any((a != b).any() for a, b in zip(saved, values(after), strict=True))
    epochs = [{"loss": 0.1, "validation_uar": 1 / 3}, {"loss": float("inf"), "validation_uar": 0.25}]
    Progress(epochs).save(tmp_path / "state.npz", before)

    restored = Progress.restore(tmp_path / "state.npz", after)
    assert restored.epochs == epochs
    for expected, variable in zip(saved, values(after), strict=True):
        np.testing.assert_array_equal(variable, expected)
        assert variable.dtype == expected.dtype
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]


def test_a_kill_while_saving_leaves_the_state_before(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    variable = keras.Variable(np.ones(3, "float32"))
    progress_of(0.3).save(path, [variable])

    def killed(file, **arrays):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        progress_of(0.3, 0.4).save(path, [variable])
    assert len(Progress.restore(path, [variable]).epochs) == 1


@pytest.mark.parametrize("damage", ["truncated", "fewer variables", "another shape", "absent"])
def test_a_state_that_does_not_fit_is_said_in_one_line(damage, tmp_path):
    path = tmp_path / "state.npz"
    variables = [keras.Variable(np.ones(3, "float32")), keras.Variable(np.ones(2, "float32"))]
    saved = {
        "fewer variables": variables[:1],
        "another shape": [variables[0], keras.Variable(np.ones(5, "float32"))],
    }.get(damage, variables)
    if damage != "absent":
        progress_of(0.3).save(path, saved)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"state\.npz: expected the state of this training; .*start again$"):
        Progress.restore(path, variables)


@pytest.mark.parametrize(
    "epochs",
    [
        [{"loss": 1.0}],
        [{"validation_uar": "high"}],
        [{"validation_uar": None}],
        [{"validation_uar": 0.1, "loss": 1.0}, {"validation_uar": 0.1}],
        {"validation_uar": 0.1},
        [[0.1]],
        5,
    ],
)
def test_a_state_without_its_scores_is_refused(epochs, tmp_path):
    path = tmp_path / "state.npz"
    Progress(epochs if isinstance(epochs, list) else [epochs]).save(path, [])
    if not isinstance(epochs, list):
        np.savez(path, epochs=np.array(json.dumps(epochs)))
    with pytest.raises(UserError, match=r"state\.npz: expected the state of this training; .*start again$"):
        Progress.restore(path, [])
