"""The report: what is read, what is said, and the page in a real browser."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser_tf import cli
from ser_tf.config import PRESETS, Config
from ser_tf.corpora import ravdess
from ser_tf.corpora.folds import RANDOM_SPLIT
from ser_tf.errors import UserError
from ser_tf.experiments import report
from ser_tf.experiments.report import paper
from ser_tf.experiments.report.compose import compose
from ser_tf.experiments.report.confusions import CLAIMS
from ser_tf.experiments.report.document import Bullets, Document, Figure, Notice, Panel, Paragraph, Section, Table
from ser_tf.experiments.report.figures import curves, looks_of, style
from ser_tf.experiments.report.page import write_pages
from ser_tf.experiments.report.scores import lead, score, speakers_in_words
from ser_tf.experiments.report.sources import find_sources, preset_in_words, scheme_of
from ser_tf.experiments.statistics import PooledScores, pooled_scores
from ser_tf.training.run_folder import RunFolder, write_json

COMPACT = PRESETS["compact"]
MADE_WITH = {"ser_tf": "0.1.0", "commit": "abc", "python": "3.11", "packages": {}, "backend": "tensorflow"}
SKILLS = {"S1": 0.3, "S3": 0.5, "majority": 0.0}
PHONE_WIDTH, DESK_WIDTH = 380, 1200


@pytest.fixture(scope="module")
def scheme():
    return scheme_of("ravdess", "complete")


@pytest.fixture(scope="module")
def run_of(scheme) -> Callable[..., Path]:
    """Writes what a run on RAVDESS leaves; every speaker says each emotion twice."""

    def write(
        folder: Path, strategy: str, fold: int, *, config: Config = COMPACT, finished: bool = True, **identity
    ) -> Path:
        generator = np.random.default_rng([fold, *map(ord, strategy)])
        sides = {side: list(getattr(scheme.fold(fold), side)) for side in ("train", "validation", "test")}
        run = RunFolder(folder)
        run.path.mkdir(parents=True)
        told = {
            "strategy": strategy,
            "fold": fold,
            "corpus": "ravdess",
            "scheme": "complete",
            "scheme_hash": scheme.hash,
            "data_hash": "d" * 16,
            "weights": None,
            **{f"{side}_speakers": speakers for side, speakers in sides.items()},
        }
        write_json(run.identity, {"identity": told | identity, "made_with": MADE_WITH})
        config.save(run.config)
        run.log.write_text("epoch,validation_uar\n1,0.3\n2,0.5\n3,0.4\n")
        if finished:
            rows = []
            spoken = product(("validation", "test"), ravdess.EMOTIONS, (1, 2))
            for side, emotion, take in spoken:
                for speaker in sides[side]:
                    truth = ravdess.EMOTIONS.index(emotion)
                    shares = generator.dirichlet(np.ones(8)) + SKILLS.get(strategy, 0.4) * np.eye(8)[truth]
                    if strategy == "majority":
                        shares = np.eye(8)[1]
                    shares = np.round(shares / shares.sum(), 6)
                    named = ravdess.EMOTIONS[shares.argmax()]
                    rows.append((side, f"{speaker[-2:]}-{emotion}-{take}.wav", speaker, emotion, named, *shares))
            columns = ["side", "file", "speaker", "truth", "prediction", *ravdess.EMOTIONS]
            pd.DataFrame(rows, columns=columns).to_csv(run.predictions, index=False, float_format="%.6f")
            write_json(run.metrics, {"excluded": {"some-name": "it is silent"}, "unreadable": {}})
        return run.path

    return write


@pytest.fixture(scope="module")
def partial(run_of, tmp_path_factory) -> Path:
    """Two networks and a yardstick; S3 has two of ten folds and is training a third, the others have three."""
    folder = tmp_path_factory.mktemp("partial")
    for strategy, fold in product(SKILLS, (1, 2, 3)):
        run_of(folder / f"{strategy}-fold{fold}-seed0", strategy, fold, finished=(strategy, fold) != ("S3", 3))
    return folder


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory) -> Path:
    """One over K, with the mean highest at 8, one over alpha and beta, and one whose values are words."""
    folder = tmp_path_factory.mktemp("sweeps")
    about = {"corpus": "ravdess", "scheme": "corrected", "strategy": "S5", "start": "S3", "epochs": 8}
    settings = {
        "k": (["network.clusters"], {(2,): 0.4, (8,): 0.5, (16,): 0.45}),
        "margins": (
            ["loss.alpha", "loss.beta"],
            {(0.1, 0.15): 0.5, (0.1, 0.3): 0.4, (0.2, 0.15): 0.3, (0.2, 0.3): 0.2},
        ),
        "mining": (
            ["loss.mining", "loss.softmax_weight"],
            {("all", 0.0): 0.5, ("all", 1.0): 0.4, ("hard", 0.0): 0.3, ("hard", 1.0): 0.6},
        ),
    }
    for name, (parameters, means) in settings.items():
        (folder / name).mkdir()
        (folder / name / "sweep.json").write_text(json.dumps(about | {"parameters": parameters}))
        rows = [
            (fold, 0, *values, mean + 0.01 * fold, 3, "") for (values, mean), fold in product(means.items(), (-1, 1))
        ]
        columns = ["fold", "seed", *parameters, "best_validation_uar", "best_epoch", "per_epoch"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / name / "sweep.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def noise_test(tmp_path_factory) -> Path:
    """S3 names all clean utterances and 8 of 10 noisy ones, S1 all and 5 of 10; every speaker alike."""
    folder = tmp_path_factory.mktemp("noise")
    hits = {("S1", ""): 10, ("S3", ""): 10, ("S1", 0): 5, ("S3", 0): 8}
    rows = [
        (
            *(strategy, 1, 0, f"ravdess:{speaker:02d}", emotion, "white" if noisy else "none", portion, ratio),
            *(descriptors, 10, hit, 0.1 if strategy == "S3" else ""),
        )
        for ((strategy, ratio), hit), speaker, emotion, descriptors in product(
            hits.items(), range(1, 5), ("happy", "sad"), ("1", "3+")
        )
        for noisy in (ratio != "",)
        for portion in (("whole", "half") if noisy else ("none",))
    ]
    columns = ["strategy", "fold", "seed", "speaker", "emotion", "noise", "portion", "snr_db"]
    table = pd.DataFrame(rows, columns=[*columns, "descriptors", "utterances", "correct", "ghost_share"])
    table.to_csv(folder / "noise.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def written(partial, sweeps, noise_test, tmp_path_factory) -> Path:
    """A report of all of it."""
    out = tmp_path_factory.mktemp("report")
    report.write_report([partial, sweeps, noise_test], out, [], report=print)
    return out


def composed(*folders: Path) -> Document:
    with style():
        return compose(find_sources(folders), {}, print)


def blocks(document: Document) -> Iterator[object]:
    def inside(section: Section) -> Iterator[object]:
        yield from section.blocks
        for part in section.sections:
            yield from inside(part)

    yield from document.lead
    for section in document.sections:
        yield from inside(section)


def table_of(document: Document, start: str) -> Table:
    (found,) = (block for block in blocks(document) if isinstance(block, Table) and block.caption.startswith(start))
    return found


def text_of(document: Document) -> str:
    told = []
    for block in blocks(document):
        match block:
            case Paragraph(text) | Notice(text):
                told.append(text)
            case Bullets(items):
                told += items
    return "\n".join(told)


# What is read


def test_a_line_holds_the_folds_that_it_has_finished(partial):
    (evaluation,) = find_sources([partial]).evaluations
    assert [line.label for line in evaluation.lines] == ["S1", "S3", "majority class"]
    assert [line.folds for line in evaluation.lines] == [(1, 2, 3), (1, 2), (1, 2, 3)]
    assert evaluation.common_folds == (1, 2)
    assert len(evaluation.folds.folds) == 10


def test_a_fold_that_one_seed_lacks_is_left_out(run_of, tmp_path):
    again = replace(COMPACT, training=replace(COMPACT.training, seed=1))
    for name, fold, config in (("a", 1, COMPACT), ("b", 2, COMPACT), ("c", 1, again)):
        run_of(tmp_path / name, "S1", fold, config=config)
    (line,) = find_sources([tmp_path]).evaluations[0].lines
    assert (line.folds, line.seeds, len(line.finished)) == ((1,), (0, 1), 2)


def test_variants_of_a_strategy_have_lines_of_their_own(run_of, tmp_path):
    hard = replace(COMPACT, loss=replace(COMPACT.loss, mining="hard"))
    from_s3 = {"strategy": "S3", "speakers": []}
    run_of(tmp_path / "evaluation" / "S5-fold1-seed0", "S5", 1)
    run_of(tmp_path / "evaluation" / "S5-fold2-seed0", "S5", 2)
    run_of(tmp_path / "S5-hard", "S5", 1, config=hard)
    run_of(tmp_path / "S5-from-S3", "S5", 1, weights=from_s3)
    lines = find_sources([tmp_path]).evaluations[0].lines
    assert {line.label: line.folds for line in lines} == {
        "S5 (evaluation)": (1, 2),
        "S5 (S5-hard)": (1,),
        "S5 (S5-from-S3)": (1,),
    }
    assert [line.runs[0].start for line in lines if line.label == "S5 (S5-from-S3)"] == ["S3 from random weights"]
    assert table_of(composed(tmp_path), "All test utterances").rows[0][0] == "S5 (S5-from-S3)"


def test_what_pre_training_gains_is_compared_over_the_folds_of_both(run_of, scheme, tmp_path):
    heard = {"speakers": ["crema_d:1001", "librispeech:19"]}
    after_s3 = {"strategy": "S3", "speakers": ["crema_d:1001", "ravdess:01"]}
    for fold in (1, 2, 3):
        run_of(tmp_path / "random" / f"S1-fold{fold}-seed0", "S1", fold)
        run_of(tmp_path / "random" / f"S3-fold{fold}-seed0", "S3", fold)
        run_of(tmp_path / "random" / f"S5-fold{fold}-seed0", "S5", fold, weights=after_s3)
    for fold in (1, 2):
        run_of(tmp_path / "heard" / f"S2-fold{fold}-seed0", "S2", fold, weights=heard)
        run_of(tmp_path / "heard" / f"S3-fold{fold}-seed0", "S3", fold, weights=heard | {"afresh": ["ghost_vlad"]})
        start = after_s3 | {"started_from": heard}
        run_of(tmp_path / "heard" / f"S5-fold{fold + 3}-seed0", "S5", fold + 3, weights=start)
    (evaluation,) = find_sources([tmp_path]).evaluations
    assert {line.label: line.folds for line in evaluation.lines} == {
        "S1": (1, 2, 3),
        "S2": (1, 2),
        "S3 from pre-trained weights": (1, 2),
        "S3 from random weights": (1, 2, 3),
        "S5 from S3 from pre-trained weights": (4, 5),  # another method than the other folds of S5
        "S5 from S3 from random weights": (1, 2, 3),
    }
    without_s5 = replace(evaluation, lines=evaluation.lines[:4])
    scored = score(without_s5, root=None)
    assert scored.compared_folds == (1, 2)
    sentences = {(one.first, one.second): one.sentence for one in scored.comparisons}
    speakers = sum(len(scheme.fold(fold).test) for fold in (1, 2))
    for first, second in (("S1", "S2"), ("S3 from pre-trained weights", "S3 from random weights")):
        assert first in sentences[first, second]
        assert second in sentences[first, second]
        assert f"over {speakers} speakers" in sentences[first, second]
    told = " ".join(str(block) for block in lead(scored))
    assert "The pre-trained weights have learnt the speakers of crema_d and librispeech." in told
    assert "S3 from pre-trained weights: from pre-trained weights with ghost_vlad afresh; the paper" in told


def test_the_same_fold_twice_makes_two_lines(run_of, tmp_path):
    for name in ("one", "other"):
        run_of(tmp_path / name / "S1-fold1-seed0", "S1", 1)
    lines = find_sources([tmp_path]).evaluations[0].lines
    assert [line.label for line in lines] == ["S1 (one)", "S1 (other)"]


def test_a_folder_given_twice_counts_once(partial):
    twice = find_sources([partial, partial / "S1-fold1-seed0"])
    assert len(twice.evaluations[0].runs) == 9


def test_runs_that_tested_nobody_are_named(run_of, tmp_path):
    run_of(tmp_path / "settings", "S1", 1)
    (tmp_path / "settings" / "validation_uars.json").write_text("[0.5]")
    run_of(tmp_path / "run", "S1", 1)
    assert find_sources([tmp_path]).others == ((tmp_path / "settings").resolve(),)
    assert "settings` belongs to no evaluation" in text_of(composed(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "compact"),
        ({"seed": 7}, "compact"),
        ({"maximum_epochs": 8}, "compact; training.maximum_epochs 8"),
    ],
)
def test_a_configuration_is_told_by_its_preset(changes, words):
    assert preset_in_words(replace(COMPACT, training=replace(COMPACT.training, **changes))) == words


def test_speakers_are_told_in_ranges():
    assert speakers_in_words(["ravdess:01", "ravdess:02", "ravdess:03", "ravdess:05"]) == "1-3, 5"
    assert speakers_in_words(["table:anna", "table:ben"]) == "anna, ben"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path / "nowhere", "nowhere: expected a folder of runs; there is none"),
        (lambda path: path, "expected runs, a sweep or a noise test. Received: a folder without"),
        (
            lambda path: (path / "noise.csv").write_text("strategy,fold\nS1,1\n") and path,
            "noise.csv: expected a table of strategy, fold, seed,",
        ),
        (
            lambda path: (path / "sweep.json").write_text('{"corpus": "ravdess"}') and path,
            "sweep.json: expected corpus, scheme, strategy, start, parameters, epochs; start the same ser-tf sweep",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(prepare, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        find_sources([prepare(tmp_path)])
    assert "\n" not in str(caught.value)


# What is said


@pytest.fixture(scope="module")
def document(partial) -> Document:
    """The report of the partial evaluation, as data."""
    return composed(partial)


def test_the_papers_numbers_are_as_printed(document):
    assert paper.TABLE_2["ravdess"]["S5"] == paper.FoldAccuracy(83.55, 81.22, 85.65, 1.33)
    assert paper.TABLE_3["ravdess"]["the paper's method"] == 83.35
    means = {corpus: [row.mean for row in rows.values()] for corpus, rows in paper.TABLE_2.items()}
    assert means == {"ravdess": [67.94, 74.81, 79.78, 80.93, 83.55], "crema_d": [53.38, 59.47, 61.25, 62.44, 64.92]}
    assert table_of(document, "Table 1").rows[1][3:] == ["3-18", "21-23", "1, 2, 24"]  # fold 2 of the row of 24 actors


def test_a_partial_evaluation_is_never_told_as_the_whole(document):
    (notice,) = (block for block in document.lead if isinstance(block, Notice))
    assert (
        "partial evaluation, not the whole: S1 3 of 10 folds; S3 2 of 10 folds; majority class 3 of 10" in notice.text
    )
    assert [row[1] for row in table_of(document, "All test utterances").rows] == ["3 of 10", "2 of 10", "3 of 10"]
    assert "S3, fold 3, seed 0: not finished, 3 epochs so far" in text_of(document)
    assert "ravdess, complete: S3 lacks folds 3, 4, 5, 6, 7, 8, 9, 10" in text_of(document)


def test_comparisons_are_over_the_folds_that_all_have_finished(partial):
    (evaluation,) = find_sources([partial]).evaluations
    scored = score(evaluation, None)
    tested = {speaker for fold in (1, 2) for speaker in evaluation.folds.fold(fold).test}
    assert scored.compared_folds == (1, 2)
    assert [(one.first, one.second, one.speakers) for one in scored.comparisons] == [("S1", "S3", len(tested))]
    assert scored.against_yardsticks == ()  # nobody is compared with the majority class


def test_table_2_has_the_paper_beside_ours(document):
    rows = {row[0]: row for row in table_of(document, "Table 2").rows}
    assert [name for name in rows if "paper" in name] == [f"S{number}, the paper" for number in range(1, 6)]
    assert rows["S3, the paper"][2:6] == ["79.78", "76.96", "81.98", "1.68"]
    # The majority class names one of eight emotions that all are as frequent.
    assert rows["majority class"][2:7] == ["12.5", "12.5", "12.5", "0.0", "12.5"]


def test_a_pilot_says_so(document):
    told = text_of(document)
    assert "These are pilots, not the paper's network and schedule." in told
    assert "S1, S3: preset `compact`, at most 80 epochs." in told
    assert "S3: from random weights; the paper starts from a pre-training on VoxCeleb2." in told
    assert "a claim about the strategy needs at least 3" in told


def test_the_paper_preset_is_no_pilot(run_of, tmp_path):
    run_of(tmp_path / "run", "S1", 1, config=Config(network=replace(Config().network, ghost_clusters=0)))
    told = text_of(composed(tmp_path))
    assert "S1: preset `paper`, at most 80 epochs." in told
    assert "pilot" not in told


def test_a_random_split_is_marked_and_its_leak_told(run_of, tmp_path):
    marked = {"protocol": RANDOM_SPLIT, "scheme": RANDOM_SPLIT, "scheme_hash": "r" * 16}
    for fold in (1, 2):
        run_of(tmp_path / f"mfcc_svm-fold{fold}", "mfcc_svm", fold)
        run_of(tmp_path / f"leaky-{fold}", f"mfcc_svm, {RANDOM_SPLIT}", fold, **marked)
    document = composed(tmp_path)
    (section,) = (one for one in document.sections if "random split" in one.title)
    assert "not comparable" in section.title
    assert any(isinstance(block, Notice) for block in section.blocks)
    (premium,) = (item for block in section.blocks if isinstance(block, Bullets) for item in block.items)
    assert premium.startswith("MFCC + SVM: leak premium ")
    assert RANDOM_SPLIT in premium
    honest = [one for one in document.sections if one is not section]
    assert [row[0] for row in table_of(replace(document, sections=honest), "Table 2").rows][-1] == "MFCC + SVM"


def recalls(**percent: float) -> PooledScores:
    """Of 100 utterances of each emotion so many are named rightly; all others are taken for the next emotion."""
    emotions = ravdess.EMOTIONS
    counts = np.zeros((1, 2, 8, 8), int)
    for row, emotion in enumerate(emotions):
        counts[0, :, row, row] = percent.get(emotion, 60)
        counts[0, :, row, (row + 1) % 8] = 100 - percent.get(emotion, 60)
    return pooled_scores(counts, emotions)


@pytest.mark.parametrize(
    ("networks", "answers"),
    [
        # calm best, happy worst; S5: happy 72 is about 70, three above 90; fearful goes to disgust, so nothing is
        # confused with surprise: the last two claims fail and tie.
        (
            {
                "S1": {"calm": 90, "happy": 10},
                "S5": {
                    "calm": 99,
                    "angry": 95,
                    "surprised": 95,
                    "happy": 72,
                    "sad": 80,
                    "neutral": 80,
                    "fearful": 80,
                    "disgust": 80,
                },
            },
            [True, True, True, True, False, False],
        ),
        ({"S5": {"calm": 50, "happy": 60, "angry": 95, "surprised": 90}}, [False, False, False, False, None, None]),
        ({"S1": {"calm": 90, "happy": 10}}, [True, True, None, None, False, None]),
    ],
)
def test_the_checklist_of_figure_9_is_answered_from_the_data(networks, answers):
    pooled = {label: recalls(**percent) for label, percent in networks.items()}
    assert [claim.answer(pooled)[0] for claim in CLAIMS["ravdess"]] == answers


def test_fear_and_surprise_are_confused_in_s1_and_eased_in_s5():
    fearful, surprised = (ravdess.EMOTIONS.index(name) for name in ("fearful", "surprised"))
    pooled = {}
    for label, taken in (("S1", 30), ("S5", 10)):
        counts = np.zeros((1, 2, 8, 8), int)
        counts[0] += np.diag(np.full(8, 100 - taken))
        counts[0, :, fearful, surprised] = counts[0, :, surprised, fearful] = taken
        pooled[label] = pooled_scores(counts, ravdess.EMOTIONS)
    confused, eased = (claim.answer(pooled) for claim in CLAIMS["ravdess"][-2:])
    assert confused == (True, "S1: fearful as surprised 30.0, back 30.0")
    assert eased == (True, "mean of both directions: S1 30.0; S5 10.0")


def test_a_sweep_tells_validation_speakers_and_its_best_setting(sweeps):
    document = composed(sweeps)
    captions = [block.caption for block in blocks(document) if isinstance(block, Figure)]
    assert [caption.partition(":")[0] for caption in captions[:2]] == ["Figure 10", "Figure 11"]
    assert captions[2].startswith("Best UAR on the validation speakers")
    assert all("validation speakers of RAVDESS" in caption for caption in captions)
    assert "The highest mean is at K, clusters 8." in captions[0]
    assert "The highest mean is at alpha 0.1, beta 0.15." in captions[1]
    assert "The highest mean is at loss.mining hard, loss.softmax_weight 1." in captions[2]
    assert table_of(composed(sweeps / "k"), "UAR on validation").rows[0] == ["2", "40.0", "39.0", "41.0", "2"]


def test_an_unbalanced_sweep_says_so(sweeps, tmp_path):
    (tmp_path / "sweep.json").write_bytes((sweeps / "k" / "sweep.json").read_bytes())
    lines = (sweeps / "k" / "sweep.csv").read_text().splitlines()
    (tmp_path / "sweep.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "Not every setting has run on every fold and seed yet" in text_of(composed(tmp_path))


def test_noise_is_told_as_uar_and_as_what_ghosts_are_worth(noise_test):
    document = composed(noise_test)
    by_ratio = [block for block in blocks(document) if isinstance(block, Table) and block.caption.startswith("UAR in")]
    # 5 and 8 of 10 named rightly by every speaker: no spread, whoever is drawn.
    assert by_ratio[0].rows == [
        ["white", "S1", "50.0 [50.0, 50.0]", "100.0 [100.0, 100.0]"],
        ["white", "S3", "80.0 [80.0, 80.0]", "100.0 [100.0, 100.0]"],
    ]
    worth = table_of(document, "What ghosts are worth")  # (80 - 100) - (50 - 100)
    assert worth.rows == [[portion, "white", "0 dB", "30.0 [30.0, 30.0]"] for portion in ("half", "whole")]
    names = [panel.name for block in blocks(document) if isinstance(block, Figure) for panel in block.panels]
    assert {"noise-1-whole-descriptors-1", "noise-1-whole-descriptors-3"} <= set(names)


def test_what_is_missing_comes_with_its_command(document, sweeps, noise_test, partial):
    told = text_of(document)
    assert "ravdess, complete: S2, S4, S5; `ser-tf evaluate --strategies S2 S4 S5`" in told
    assert "figures 6 and 7, and ghost share over time: need the recordings; add `--corpus`" in told
    assert "Figure 11, alpha and beta: `ser-tf sweep`" in told
    assert "Robustness to noise: `ser-tf noise`" in told
    everything = text_of(composed(partial, sweeps, noise_test))
    assert "Figure 11, alpha and beta: `ser-tf sweep`" not in everything
    assert "Robustness to noise: `ser-tf noise`" not in everything


def test_weights_that_are_gone_are_told(partial, tmp_path):
    from ser_tf.corpora import Corpus

    missing: list[str] = []
    (evaluation,) = find_sources([partial]).evaluations
    from ser_tf.experiments.report.spaces import spaces

    assert spaces(score(evaluation, None), Corpus("ravdess", tmp_path, (), (), (), ()), missing) is None
    assert "need the weights (`embedding.weights.h5`)" in missing[0]


def test_lines_are_told_apart_by_more_than_colour():
    labels = ["S3", "S4 (one)", "S4 (other)", *(f"S5 ({number})" for number in range(9)), "MFCC + SVM"]
    looks = looks_of(labels)
    assert len(set(looks.values())) == len(labels)
    assert looks["S3"] == looks_of(["S1", "S3"])["S3"]


# The page


def test_every_drawing_is_there_as_png_and_svg_and_is_told_in_words(written):
    html, markdown = ((written / name).read_text() for name in ("report.html", "report.md"))
    pngs, svgs = ({path.stem for path in (written / "figures").glob(f"*.{kind}")} for kind in ("png", "svg"))
    assert pngs == svgs
    assert html.count('<svg role="img" aria-label="') == len(pngs)
    assert set(re.findall(r"!\[[^\]]+\]\(figures/([^)]+)\.png\)", markdown)) == pngs
    assert len(set(re.findall(r' id="([^"]+)"', html))) == len(re.findall(r' id="([^"]+)"', html))


def test_text_is_escaped_and_marked(tmp_path):
    with style():
        drawing = curves({"S1 <b>": ([0, 1], [1, 2])}, looks_of(["S1 <b>"]), "x", "y")
        body = [
            Paragraph("1 < 2 & `--option` at -3 % of 1-5"),
            Table("A | caption", ["a|b"], [["x|y"]]),
            Figure("Seen", [Panel("one", 'say "no" [to] <b>', drawing)]),
        ]
        write_pages(Document("A <title>", [], [Section("One", body)]), tmp_path, "the end")
    html, markdown = ((tmp_path / name).read_text() for name in ("report.html", "report.md"))
    assert "<title>A &lt;title&gt;</title>" in html
    assert "1 &lt; 2 &amp; <code>--option</code> at \N{MINUS SIGN}3\N{NO-BREAK SPACE}% of 1-5" in html
    assert 'aria-label="say &quot;no&quot; [to] &lt;b&gt;"' in html
    assert "| x\\|y |" in markdown
    assert '![say "no" (to) <b>](figures/one.png)' in markdown


@pytest.mark.parametrize(("width", "dark"), [(PHONE_WIDTH, False), (PHONE_WIDTH, True), (DESK_WIDTH, False)])
def test_a_browser_shows_the_page_without_complaint(browser, written, width, dark):
    browser.open(written / "report.html", width=width, dark=dark)
    assert browser.console == []
    assert set(browser.requests) == {(written / "report.html").resolve().as_uri()}
    wide, visible = browser.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= visible
    assert browser.evaluate("document.images.length + document.scripts.length") == 0
    ink, ground = browser.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    darker = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, ground)]
    assert (darker[0] > darker[1]) is dark


def test_a_browser_would_complain(browser, tmp_path):
    """What the test above looks at is really seen."""
    page = tmp_path / "bad.html"
    page.write_text("<body style='width: 900px'><img src='gone.png'><script>console.error('oh')</script>")
    browser.open(page, width=PHONE_WIDTH)
    assert any("oh" in line for line in browser.console)
    assert any(url.endswith("gone.png") for url in browser.requests)
    assert browser.evaluate("document.documentElement.scrollWidth") > PHONE_WIDTH


def test_letters_on_a_phone_can_be_read(browser, written):
    browser.open(written / "report.html", width=PHONE_WIDTH)
    heights = browser.evaluate("[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
    assert np.median(heights) > 8


def test_the_page_prints(browser, written, tmp_path):
    browser.open(written / "report.html", width=DESK_WIDTH, dark=True)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


# The command


@pytest.fixture
def ser_tf(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs the command; gives its status and what it wrote to stderr."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ser-tf", "report", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as end:
            return 1, str(end.code)
        return 0, capsys.readouterr().err

    return run


def test_the_command_writes_the_report(ser_tf, sweeps, tmp_path):
    assert ser_tf(sweeps / "k", "--out", tmp_path / "out") == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report.md", "figures"}


def test_the_command_without_runs_is_refused(ser_tf, tmp_path):
    status, message = ser_tf("--out", tmp_path / "out")
    assert (status, message) == (1, "ser-tf: runs: expected at least one folder; give those that ser-tf evaluate wrote")
    assert not (tmp_path / "out").exists()


def test_a_missing_matplotlib_is_told_in_one_line(ser_tf, sweeps, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, message = ser_tf(sweeps, "--out", tmp_path / "out")
    assert (status, message) == (
        1,
        "ser-tf: report: expected matplotlib, which draws its figures; install the extra: pip install -e '.[report]'",
    )


def test_a_report_without_recordings_needs_no_tensorflow():
    code = "import sys, ser_tf.experiments.report.compose; print(*{'tensorflow', 'keras'} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == []
