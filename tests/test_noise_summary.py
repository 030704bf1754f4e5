"""Statistics of noise measurements, with numbers worked out by hand."""

from collections.abc import Callable
from functools import partial

import pytest
from noise_measurement import SPEAKERS, Lost, always, write_measurement

from ser_tf.errors import UserError
from ser_tf.runs.files import write_json
from ser_tf.statistics.noise import noise_text, summarise_noise
from ser_tf.statistics.noise_folder import CONDITIONS, NoiseFolder


@pytest.fixture
def measurement(tmp_path) -> Callable[..., NoiseFolder]:
    """Makes the folder of a measurement."""
    return partial(write_measurement, tmp_path / "noise")


def test_losses_and_their_difference(measurement):
    summary = summarise_noise(measurement({"S1": always(whole=4, half=1), "S3": always(whole=2, half=3)}))
    assert (summary.speakers, summary.utterances, summary.folds, summary.chance) == (10, 80, [1], 0.5)
    first, third = summary.strategies["S1"], summary.strategies["S3"]
    # Without noise, recall is 1 and 1/2. Noise over the whole costs S1 all of happy, so half of the UAR; noise over
    # half costs a quarter of that. S3 loses two and three of four.
    expected = {"none": (0.75, 0.75), "whole": (0.25, 0.5), "half": (0.625, 0.375)}
    for place, condition in enumerate(summary.conditions):
        for strategy, uar in zip((first, third), expected[condition.portion], strict=True):
            estimate = strategy.uar[place]
            assert (estimate.value, estimate.low, estimate.high) == pytest.approx((uar, uar, uar))  # equal speakers
            if place:
                assert strategy.loss[place - 1].value == pytest.approx(0.75 - uar)
    assert {portion: loss.value for portion, loss in first.portion_loss.items()} == pytest.approx(
        {"whole": 0.5, "half": 0.125}
    )
    (comparison,) = summary.comparisons
    assert (comparison.with_ghosts, comparison.without_ghosts) == ("S3", "S1")
    differences = {portion: loss.value for portion, loss in comparison.portion_loss_difference.items()}
    assert differences == pytest.approx({"whole": -0.25, "half": 0.25})
    by_condition = [loss.value for loss in comparison.loss_difference]
    assert by_condition == pytest.approx([{"whole": -0.25, "half": 0.25}[one.portion] for one in CONDITIONS[1:]])


def test_losses_are_split_by_descriptors(measurement):
    summary = summarise_noise(measurement({"S1": always(whole=4), "S3": always(whole=2)}, descriptors="2"))
    # Three noises at four ratios, of ten speakers with eight utterances each.
    assert summary.mixtures["whole"] == {"1": 0, "2": 960, "3+": 0}
    # Of accuracy: 4 of 8 utterances of each speaker, and 2 of 8.
    assert summary.strategies["S1"].descriptor_loss["whole"]["2"].value == pytest.approx(0.5)
    (comparison,) = summary.comparisons
    assert comparison.descriptor_loss_difference["whole"]["2"].value == pytest.approx(-0.25)
    assert comparison.descriptor_loss_difference["whole"]["3+"].value is None
    text = noise_text(summary)
    assert "whole  M = 2      960 utterances  S1 50.0 [50.0, 50.0]  S3 25.0 [25.0, 25.0]  S3 - S1 -25.0 " in text
    assert "whole  M = 1        0 utterances\n" in text


def test_ghost_shares_are_means_over_utterances(measurement):
    summary = summarise_noise(measurement({"S1": always(), "S3": always()}))
    without, with_ghosts = summary.strategies["S1"], summary.strategies["S3"]
    assert with_ghosts.ghost_share == pytest.approx([0.2] * len(CONDITIONS))
    halves = (with_ghosts.ghost_share_noisy_half, with_ghosts.ghost_share_clean_half)
    assert halves == pytest.approx((0.1, 0.3))
    assert without.ghost_share is without.ghost_share_noisy_half is without.ghost_share_clean_half is None
    assert "Ghost share of S3 with noise over half: 0.100 of the descriptors in the noisy half, 0.300" in noise_text(
        summary
    )


def one_way_or_the_other(speaker: str) -> Lost:
    return {"half": 4 if speaker in SPEAKERS[::2] else 0}


@pytest.mark.parametrize(
    ("lost", "seeds", "verdict"),
    [
        (always(half=1), 1, "these trained models agree with the claim that ghosts absorb noise; 1 seed, and a claim"),
        (always(half=1), 2, "these trained models agree with the claim that ghosts absorb noise; 2 seeds, and a claim"),
        (always(half=1), 3, "the strategies agree with the claim that ghosts absorb noise."),
        (always(half=3), 3, "the strategies contradict the claim that ghosts absorb noise."),
        (one_way_or_the_other, 3, "the strategies do not show that ghosts absorb noise."),
    ],
    ids=["agree", "two seeds", "three seeds", "contradict", "not shown"],
)
def test_the_verdict_is_one_sentence_and_its_interval_decides(measurement, lost, seeds, verdict):
    summary = summarise_noise(measurement({"S1": always(half=2), "S3": lost}, seeds=seeds))
    (comparison,) = summary.comparisons
    assert verdict in comparison.sentence
    assert noise_text(summary).splitlines()[-1] == comparison.sentence


def test_few_speakers_allow_no_verdict(measurement):
    summary = summarise_noise(measurement({"S1": always(half=2), "S3": always(half=1)}, speakers=9, seeds=3))
    (comparison,) = summary.comparisons
    assert "over 9 speakers, too few to trust it" in comparison.sentence
    assert "the strategies do not show that ghosts absorb noise." in comparison.sentence


def test_the_sentence_has_the_difference_and_its_interval(measurement):
    summary = summarise_noise(measurement({"S1": always(half=2), "S3": always(half=1, whole=4)}))
    assert summary.comparisons[0].sentence.startswith(
        "Noise over half of the utterance costs S3 (G = 2) 12.5 points of UAR less than S1 (G = 0), mean over noises "
        "and ratios (95 % interval -12.5 to -12.5 over 10 speakers), and over the whole "
        "50.0 points of UAR more (95 % interval 50.0 to 50.0 over 10 speakers): "
        "these trained models agree"
    )


def test_the_text_counts_conditions_near_chance(measurement):
    text = noise_text(summarise_noise(measurement({"S1": always(whole=2), "S3": always(half=1)})))
    # Two of four happy and two of four sad utterances are chance.
    assert "In 12 of 24 conditions a UAR is less than 5.0 points above chance (50.0)" in text
    heading, clean, *rows = text.splitlines()[1:27]
    assert heading.split()[:3] == ["noise", "over", "SNR"]
    assert clean.split() == ["none", "none", "75.0", "[75.0,", "75.0]", "75.0", "[75.0,", "75.0]", "0.200"]
    first = " ".join(rows[0].split())
    assert first == "white whole 20 dB 50.0 [50.0, 50.0] 25.0 75.0 [75.0, 75.0] 0.0 -25.0 [-25.0, -25.0] 0.200"


def test_one_kind_of_network_allows_no_verdict(measurement):
    summary = summarise_noise(measurement({"S3": always(half=1)}))
    assert summary.comparisons == []
    assert noise_text(summary).endswith("give runs with and without them, such as S3 and S1.")


@pytest.mark.parametrize(("number", "received"), [("many", "many"), ("7.5", "")])
def test_a_damaged_table_is_refused_by_name(measurement, number, received):
    folder = measurement({"S1": always()})
    folder.table.write_text(folder.table.read_text().replace("S1,1,0,", f"S1,1,{number},", 1))
    about = folder.read_about()
    about["runs"][f"S1-fold1-seed{number}"] = about["runs"]["S1-fold1-seed0"]
    write_json(folder.about, about)
    with pytest.raises(UserError, match=rf"^{folder.table}: expected conditions and numbers\. Received: .*{received}"):
        summarise_noise(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda about: about["settings"].pop("emotions"),
            "noise.json: expected the settings and runs of a measurement;",
        ),
        (lambda about: about["runs"].clear(), "noise.json: expected the settings and runs of a measurement;"),
        (
            lambda about: about["runs"]["S1-fold1-seed0"].pop("ghost_clusters"),
            "noise.json: expected the settings and runs of a measurement;",
        ),
        (
            lambda about: about["runs"].update({"S3-fold1-seed0": about["runs"]["S1-fold1-seed0"]}),
            "noise.csv: expected rows of S3-fold1-seed0; restore the file,",
        ),
    ],
    ids=["no emotions", "no runs", "half a run", "no rows"],
)
def test_incomplete_files_are_refused_by_name(measurement, change, message):
    folder = measurement({"S1": always()})
    about = folder.read_about()
    change(about)
    write_json(folder.about, about)
    with pytest.raises(UserError, match=f"^{folder.path}/{message}"):
        summarise_noise(folder)
