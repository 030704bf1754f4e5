import re
from dataclasses import replace

import pytest

from ser_tf.config import PRESETS, Config, NetworkConfig, TrainingConfig
from ser_tf.errors import UserError
from ser_tf.strategies import STRATEGIES, configure, start_in_words


def test_the_table_is_the_papers():
    # design/method.md, section 5: pre-trained, ghosts, loss, and whether an SVM names the emotion.
    assert {
        name: (strategy.pretrained, strategy.ghosts, strategy.loss, strategy.metric)
        for name, strategy in STRATEGIES.items()
    } == {
        "S1": (False, False, "softmax", False),
        "S2": (True, False, "softmax", False),
        "S3": (True, True, "softmax", False),
        "S4": (True, True, "triplet", True),
        "S5": (True, True, "emotion_triplet", True),
    }


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("name", "weights"), [("S1", False), ("S2", True)])
def test_s1_and_s2_have_no_ghosts_and_change_nothing_else(name, weights, preset):
    config = PRESETS[preset]
    strategy, resolved = configure(name, config, weights=weights)
    assert strategy is STRATEGIES[name]
    assert resolved == replace(config, network=replace(config.network, ghost_clusters=0))


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("name", ["S3", "S4", "S5"])
def test_the_others_run_as_configured_with_or_without_weights(name, weights):
    config = Config(network=NetworkConfig(ghost_clusters=5))
    assert configure(name, config, weights=weights) == (STRATEGIES[name], config)


@pytest.mark.parametrize(("name", "weights"), [("S1", False), ("S5", True)])
@pytest.mark.parametrize("ghosts", [0, 4])
def test_every_strategy_has_as_many_ghosts_as_are_being_compared(name, weights, ghosts):
    config = Config(network=NetworkConfig(ghost_clusters=ghosts))
    compared = ["loss.alpha", "network.ghost_clusters"]
    assert configure(name, config, weights=weights, compared=compared) == (STRATEGIES[name], config)


@pytest.mark.parametrize("name", ["S1", "S3"])
def test_softmax_strategies_train_in_plain_batches_too(name):
    config = Config(training=TrainingConfig(batches="plain"))
    assert configure(name, config, weights=False)[1].training == config.training


@pytest.mark.parametrize(
    ("name", "config", "weights", "message"),
    [
        ("S6", Config(), False, "strategy: expected one of S1, S2, S3, S4, S5. Received: S6"),
        ("s5", Config(), False, "strategy: expected one of S1, S2, S3, S4, S5. Received: s5"),
        ("S1", Config(), True, "strategy S1 trains from random weights; leave --weights out, or choose S2"),
        ("S2", Config(), False, "strategy S2 without pre-trained weights is S1; give --weights, or choose S1"),
        *(
            (
                name,
                Config(training=TrainingConfig(batches="plain")),
                False,
                f"strategy {name} mines in balanced batches; expected training.batches balanced. Received: plain",
            )
            for name in ("S4", "S5")
        ),
        *(
            (
                name,
                Config(network=NetworkConfig(ghost_clusters=0)),
                True,
                f"strategy {name} has ghost clusters; expected network.ghost_clusters above 0. Received: 0",
            )
            for name in ("S3", "S4", "S5")
        ),
    ],
)
def test_what_does_not_go_together_is_refused(name, config, weights, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        configure(name, config, weights=weights)


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        (None, "random weights"),
        ({"strategy": "S3"}, "S3 from random weights"),
        ({"strategy": "S5", "started_from": {"strategy": "S3"}}, "S5 from S3 from random weights"),
        ({"speakers": ["voxceleb2"]}, "pre-trained weights"),
        ({"strategy": "S3", "started_from": {"speakers": ["voxceleb2"]}}, "S3 from pre-trained weights"),
    ],
)
def test_a_start_names_all_earlier_starts(provenance, words):
    assert start_in_words(provenance) == words


def test_layers_that_start_afresh_are_named():
    before = {"strategy": "S3", "afresh": ["ghost_vlad"], "started_from": {}}
    assert start_in_words(before) == "S3 from pre-trained weights with ghost_vlad afresh"
