"""The report: reading folders, its text and numbers, and the page in a real browser."""

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
from noise_measurement import SPEAKERS, always, write_measurement

from ser_tf.cli import door
from ser_tf.config import PRESETS, AugmentationConfig, Config
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import CROSS_CORPUS, RANDOM_SPLIT
from ser_tf.corpora.known import ravdess
from ser_tf.errors import UserError
from ser_tf.report import paper
from ser_tf.report.compose import compose
from ser_tf.report.confusions import CLAIMS, FAILS, HOLDS, OPEN, UNANSWERED
from ser_tf.report.document import Bullets, Document, Figure, Notice, Panel, Paragraph, Section, Table
from ser_tf.report.evaluations import scheme_of
from ser_tf.report.figures import curves, looks_of, style
from ser_tf.report.lead import lead
from ser_tf.report.page import write_pages
from ser_tf.report.scored import scored_evaluation
from ser_tf.report.sources import find_sources
from ser_tf.report.spaces import spaces
from ser_tf.report.words import preset_in_words, speakers_in_words
from ser_tf.report.writing import write_report
from ser_tf.runs.files import write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.lock import alone_in
from ser_tf.statistics.noise import summarise_noise
from ser_tf.statistics.noise_folder import Condition
from ser_tf.statistics.scores import PooledScores, points, pooled_scores, value_and_interval

COMPACT = PRESETS["compact"]
MADE_WITH = {"ser_tf": "0.1.0", "commit": "abc", "python": "3.11", "packages": {}, "backend": "tensorflow"}
SKILLS = {"S1": 0.3, "S3": 0.5, "majority": 0.0}
PHONE_WIDTH, DESK_WIDTH = 380, 1200


@pytest.fixture(scope="module")
def scheme():
    return scheme_of("ravdess", "complete")


@pytest.fixture(scope="module")
def run_of(scheme) -> Callable[..., Path]:
    """Writes a run folder on RAVDESS; every speaker says each emotion twice."""

    def write(
        folder: Path, strategy: str, fold: int, *, config: Config = COMPACT, finished: bool = True, **identity
    ) -> Path:
        generator = np.random.default_rng([fold, *map(ord, strategy)])
        sides = {side: list(getattr(scheme.fold(fold), side)) for side in ("train", "validation", "test")}
        run = RunFolder(folder)
        run.path.mkdir(parents=True)
        shared = {
            "strategy": strategy,
            "fold": fold,
            "corpus": "ravdess",
            "scheme": "complete",
            "scheme_hash": scheme.hash,
            "data_hash": "d" * 16,
            "weights": None,
            **{f"{side}_speakers": speakers for side, speakers in sides.items()},
        }
        write_json(run.identity, {"identity": shared | identity, "made_with": MADE_WITH})
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
    """Two networks and a yardstick; S3 has finished two of ten folds and started a third, the others have three."""
    folder = tmp_path_factory.mktemp("partial")
    for strategy, fold in product(SKILLS, (1, 2, 3)):
        run_of(folder / f"{strategy}-fold{fold}-seed0", strategy, fold, finished=(strategy, fold) != ("S3", 3))
    return folder


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory) -> Path:
    """Three sweeps: over K, with the highest mean at 8; over alpha and beta; over words and numbers."""
    folder = tmp_path_factory.mktemp("sweeps")
    about = {"corpus": "ravdess", "scheme": "complete", "strategy": "S5", "start": "S3", "afresh": [], "epochs": 8}
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
        grid = {
            parameter: sorted(set(values))
            for parameter, values in zip(parameters, zip(*means, strict=True), strict=True)
        }
        fresh = {"afresh": ["ghost_vlad"]} if name == "k" else {}
        (folder / name / "sweep.json").write_text(json.dumps(about | fresh | {"parameters": grid}))
        rows = [
            (fold, 0, *values, mean + above, 3, "")
            for (values, mean), (fold, above) in product(means.items(), ((1, -0.01), (2, 0.01)))
        ]
        columns = ["fold", "seed", *parameters, "best_validation_uar", "best_epoch", "per_epoch"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / name / "sweep.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def noise_test(tmp_path_factory) -> Path:
    """Four speakers; noise over half costs S1 two of their four happy utterances, all other noise costs one."""
    lost = {"S1": always(whole=1, half=2), "S3": always(whole=1, half=1)}
    folder = write_measurement(tmp_path_factory.mktemp("noise") / "noise", lost, speakers=4, descriptors="2")
    folder.write_summary({})
    return folder.path


@pytest.fixture(scope="module")
def written(partial, sweeps, noise_test, tmp_path_factory) -> Path:
    """A report about all three."""
    out = tmp_path_factory.mktemp("report")
    write_report([partial, sweeps, noise_test], out, [], report=print)
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


def panels_of(document: Document) -> dict[str, Panel]:
    return {panel.name: panel for block in blocks(document) if isinstance(block, Figure) for panel in block.panels}


def text_of(document: Document) -> str:
    texts = []
    for block in blocks(document):
        match block:
            case Paragraph(text) | Notice(text):
                texts.append(text)
            case Bullets(items):
                texts += items
    return "\n".join(texts)


# Reading folders


def test_a_line_has_the_folds_that_it_finished(partial):
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


def test_networks_with_and_without_pre_training_are_compared_over_their_common_folds(run_of, scheme, tmp_path):
    pretrained = {"speakers": ["crema_d:1001", "librispeech:19"]}
    after_s3 = {"strategy": "S3", "speakers": ["crema_d:1001", "ravdess:01"]}
    for fold in (1, 2, 3):
        run_of(tmp_path / "random" / f"S1-fold{fold}-seed0", "S1", fold)
        run_of(tmp_path / "random" / f"S3-fold{fold}-seed0", "S3", fold)
        run_of(tmp_path / "random" / f"S5-fold{fold}-seed0", "S5", fold, weights=after_s3)
    for fold in (1, 2):
        run_of(tmp_path / "pretrained" / f"S2-fold{fold}-seed0", "S2", fold, weights=pretrained)
        run_of(
            tmp_path / "pretrained" / f"S3-fold{fold}-seed0",
            "S3",
            fold,
            weights=pretrained | {"afresh": ["ghost_vlad"]},
        )
        start = after_s3 | {"started_from": pretrained}
        run_of(tmp_path / "pretrained" / f"S5-fold{fold + 3}-seed0", "S5", fold + 3, weights=start)
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
    scored = scored_evaluation(without_s5)
    assert scored.compared_folds == (1, 2)
    sentences = {(one.first, one.second): one.sentence for one in scored.comparisons}
    speakers = sum(len(scheme.fold(fold).test) for fold in (1, 2))
    for first, second in (("S1", "S2"), ("S3 from pre-trained weights", "S3 from random weights")):
        assert first in sentences[first, second]
        assert second in sentences[first, second]
        assert f"over {speakers} speakers" in sentences[first, second]
    text = " ".join(str(block) for block in lead(scored))
    assert "The pre-trained weights were trained on crema_d and librispeech." in text
    assert "S3 from pre-trained weights: from pre-trained weights with ghost_vlad afresh; the paper" in text


def test_the_same_fold_twice_makes_two_lines(run_of, tmp_path):
    for name in ("one", "other"):
        run_of(tmp_path / name / "S1-fold1-seed0", "S1", 1)
        run_of(tmp_path / name / "mfcc_svm-fold1", "mfcc_svm", 1)
    lines = find_sources([tmp_path]).evaluations[0].lines
    assert [line.label for line in lines] == ["S1 (one)", "S1 (other)", "MFCC + SVM (one)", "MFCC + SVM (other)"]


def test_no_two_start_hashes_are_of_the_same_run(run_of, tmp_path):
    for folder, config, digit in (("a", COMPACT, "1"), ("b", COMPACT, "2"), ("a", PRESETS["tiny"], "3")):
        start = {"speakers": ["librispeech:19"], "sha256": 16 * digit}
        name = f"S3-{'tiny-' * (digit == '3')}fold1-seed0"
        run_of(tmp_path / folder / name, "S3", 1, config=config, weights=start)
    starts = [line.split(" starts from ") for line in text_of(composed(tmp_path)).splitlines() if "starts from" in line]
    assert dict(starts) == {
        f"S3 (a), fold 1, seed 0 (`{tmp_path}/a/S3-fold1-seed0`)": f"`{16 * '1'}`.",
        f"S3 (b), fold 1, seed 0 (`{tmp_path}/b/S3-fold1-seed0`)": f"`{16 * '2'}`.",
        f"S3 (S3-tiny), fold 1, seed 0 (`{tmp_path}/a/S3-tiny-fold1-seed0`)": f"`{16 * '3'}`.",
    }


def test_a_folder_given_twice_counts_once(partial):
    twice = find_sources([partial, partial / "S1-fold1-seed0"])
    assert len(twice.evaluations[0].runs) == 9


def test_runs_without_a_test_are_named(run_of, tmp_path):
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
def test_a_configuration_is_described_by_its_preset(changes, words):
    assert preset_in_words(replace(COMPACT, training=replace(COMPACT.training, **changes))) == words


def test_the_details_of_an_augmentation_that_is_off_make_no_difference():
    off = AugmentationConfig(noise_snr_db=(15.0, 50.0), time_mask_frames=25)
    assert preset_in_words(replace(PRESETS["tiny"], augmentation=off)) == "tiny"
    assert preset_in_words(replace(COMPACT, augmentation=off)) == "compact; no augmentation"
    on = replace(COMPACT.augmentation, time_masks=1)
    assert preset_in_words(replace(COMPACT, augmentation=on)) == "compact; augmentation.time_masks 1"


def test_speakers_are_written_as_ranges():
    assert speakers_in_words(["ravdess:01", "ravdess:02", "ravdess:03", "ravdess:05"]) == "1-3, 5"
    assert speakers_in_words(["table:anna", "table:ben"]) == "anna, ben"


def damaged_noise(path: Path, file: str, change: Callable[[str], str]) -> Path:
    folder = write_measurement(path / "noise", {"S1": always()}, speakers=2).path
    (folder / file).write_text(change((folder / file).read_text()))
    return folder


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path / "nowhere", "nowhere: expected a folder of runs; there is none"),
        (lambda path: path, "expected runs, a sweep or a noise test. Received: a folder without"),
        (
            lambda path: (path / "noise.csv").write_text("strategy,fold\nS1,1\n") and path,
            "noise.json: expected a readable JSON file; give the folder of a measurement by ser-tf noise",
        ),
        (
            lambda path: damaged_noise(path, "noise.json", lambda text: text.replace('"corpus"', '"body"')),
            "noise.json: expected the settings and runs of a measurement; give the folder of a measurement",
        ),
        (
            lambda path: damaged_noise(path, "noise.csv", lambda text: "strategy,fold\nS1,1\n"),
            "noise.csv: expected the columns strategy, fold, seed,",
        ),
        (
            lambda path: damaged_noise(path, "noise.csv", lambda text: text.replace(",babble,", ",babel,", 1)),
            "noise.csv: expected conditions and numbers. Received: ('babel', 'whole', '20'); restore the file",
        ),
        (
            lambda path: (path / "sweep.json").write_text('{"corpus": "ravdess"}') and path,
            "sweep.json: expected corpus, scheme, strategy, start, afresh, parameters, epochs. Received: no scheme",
        ),
    ],
)
def test_unreadable_folders_are_refused_in_one_line(prepare, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        find_sources([prepare(tmp_path)])
    assert "\n" not in str(caught.value)


# Text and numbers


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


def test_a_partial_evaluation_says_so(document):
    (notice,) = (block for block in document.lead if isinstance(block, Notice))
    assert "evaluation is partial: S1 3 of 10 folds; S3 2 of 10 folds; majority class 3 of 10 folds." in notice.text
    assert [row[5] for row in table_of(document, "All test utterances").rows] == ["3 of 10", "2 of 10", "3 of 10"]
    assert "S3, fold 3, seed 0: not finished, 3 epochs so far" in text_of(document)
    assert "ravdess, complete: S3 lacks folds 3, 4, 5, 6, 7, 8, 9, 10" in text_of(document)


def test_runs_tell_how_many_folds_a_scheme_of_the_users_own_has(run_of, tmp_path):
    for fold in (1, 2):
        run = run_of(tmp_path / f"S1-fold{fold}-seed0", "S1", fold, scheme="mine", scheme_hash="2" * 16)
        metrics = run / "metrics.json"
        metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"folds": 5}))
    document = composed(tmp_path)
    (notice,) = (block for block in document.lead if isinstance(block, Notice))
    assert "This evaluation is partial: S1 2 of 5 folds" in notice.text
    assert "ravdess, mine: S1 lacks folds 3, 4, 5" in text_of(document)


def test_comparisons_are_over_the_folds_that_all_have_finished(partial):
    (evaluation,) = find_sources([partial]).evaluations
    scored = scored_evaluation(evaluation)
    tested = {speaker for fold in (1, 2) for speaker in evaluation.folds.fold(fold).test}
    assert scored.compared_folds == (1, 2)
    assert [(one.first, one.second, one.speakers) for one in scored.comparisons] == [("S1", "S3", len(tested))]
    assert scored.against_yardsticks == ()  # the majority class is not compared


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ({"majority": 1, "mfcc_svm": 1}, "they need a trained network; simple methods are not compared with each"),
        ({"S1": 1, "majority": 1}, "they need a second method; the majority class does not count"),
        ({"S1": 1, "S3": 1, "mfcc_svm": 2}, "No comparisons yet: no fold has been finished by all methods here"),
    ],
)
def test_without_comparisons_the_report_says_why(run_of, tmp_path, runs, reason):
    for strategy, fold in runs.items():
        run_of(tmp_path / strategy, strategy, fold)
    assert reason in text_of(composed(tmp_path))


def test_uar_is_the_first_score_of_every_table(document):
    for start in ("All test utterances", "Table 2", "By group of speakers"):
        columns = table_of(document, start).columns
        before, after = columns[: columns.index("UAR")], columns[columns.index("UAR") :]
        assert set(before) <= {"method", "group"}
        assert "accuracy" in after


def test_table_2_has_the_paper_beside_ours(document):
    table = table_of(document, "Table 2")
    rows = {row[0]: row for row in table.rows}
    assert table.columns == ["method", "UAR", "std", "accuracy", "min", "max", "std", "folds"]
    assert [name for name in rows if "paper" in name] == [f"S{number}, the paper" for number in range(1, 6)]
    assert rows["S3, the paper"][1:] == ["-", "-", "79.78", "76.96", "81.98", "1.68", "10 of 10"]
    # The majority class names one of eight equally frequent emotions.
    assert rows["majority class"][1:] == ["12.5", "0.0", "12.5", "12.5", "12.5", "0.0", "3 of 10"]


def test_the_lead_gives_preset_and_length_of_the_training(document):
    text = text_of(document)
    assert "pilot" not in text
    assert "The networks are smaller than the paper's." in text
    assert f"S1, S3: preset `compact`, {COMPACT.training.steps} steps." in text
    assert "S3: from random weights; the paper pre-trains on VoxCeleb2." in text
    assert "The temperature, and C and gamma of an SVM were chosen on the validation speakers" in text  # no epoch
    assert "a claim about the strategy needs at least 3" in text


@pytest.mark.parametrize("changes", [{"steps": 100}, {"schedule": "step"}])
def test_a_pilot_says_so(run_of, tmp_path, changes):
    run_of(tmp_path / "run", "S1", 1, config=replace(COMPACT, training=replace(COMPACT.training, **changes)))
    assert "These are pilots: their training is shorter than their preset's." in text_of(composed(tmp_path))


def test_the_steps_of_every_network_are_no_pilot_from_weights(run_of, tmp_path):
    # 0 stands for the preset's `steps`, which are more than its `steps_from_weights`.
    assert COMPACT.training.steps > COMPACT.training.steps_from_weights > 0
    config = replace(COMPACT, training=replace(COMPACT.training, steps_from_weights=0))
    run_of(tmp_path / "run", "S3", 1, config=config, weights={"speakers": ["librispeech:19"]})
    text = text_of(composed(tmp_path))
    assert f"{COMPACT.training.steps} steps." in text
    assert "pilot" not in text


def test_the_paper_preset_is_no_pilot(run_of, tmp_path):
    run_of(tmp_path / "run", "S1", 1, config=Config(network=replace(Config().network, ghost_clusters=0)))
    text = text_of(composed(tmp_path))
    assert "S1: preset `paper`, at most 80 epochs." in text
    assert "The epoch, the temperature, and C and gamma of an SVM were chosen on the validation speakers" in text
    assert "pilot" not in text


def test_a_random_split_is_marked_with_its_leak_premium(run_of, tmp_path):
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
    """Percent of correct answers of 100 utterances of each emotion; all others are named as the next emotion."""
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
            [HOLDS, HOLDS, HOLDS, HOLDS, FAILS, FAILS],
        ),
        (
            {"S5": {"calm": 50, "happy": 60, "angry": 95, "surprised": 90}},
            [FAILS, FAILS, FAILS, FAILS, UNANSWERED, UNANSWERED],
        ),
        ({"S1": {"calm": 90, "happy": 10}}, [HOLDS, HOLDS, UNANSWERED, UNANSWERED, FAILS, UNANSWERED]),
        # Without intervals equal recalls meet: as many are calm as angry, and all others are named as rarely as happy.
        ({"S1": {"calm": 90, "angry": 90}}, [OPEN, OPEN, UNANSWERED, UNANSWERED, FAILS, UNANSWERED]),
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
    absent = "without S2, S3, S4"
    assert confused == (HOLDS, f"S1: fearful as surprised 30.0, back 30.0; {absent}")
    assert eased == (HOLDS, f"mean of both directions: S1 30.0; S5 10.0; {absent}")


def test_overlapping_intervals_decide_no_order_of_emotions():
    # Of two speakers 90 and 50 of 100 are named calm, 60 and 70 angry: 70 % in [50, 90] against 65 in [60, 70].
    counts = np.stack([np.diag(np.full(8, 20))] * 2)[None]
    for speaker, (calm, angry) in enumerate(((90, 60), (50, 70))):
        for emotion, hits in (("calm", calm), ("angry", angry)):
            row = ravdess.EMOTIONS.index(emotion)
            counts[0, speaker, row, row], counts[0, speaker, row, (row + 1) % 8] = hits, 100 - hits
        for row in set(range(8)) - {ravdess.EMOTIONS.index(name) for name in ("calm", "angry")}:
            counts[0, speaker, row, (row + 1) % 8] = 80
    verdict, numbers = CLAIMS["ravdess"][0].answer({"S1": pooled_scores(counts, ravdess.EMOTIONS)})
    assert (verdict, numbers) == (OPEN, "S1: calm 70.0, angry 65.0")


def test_a_sweep_names_validation_speakers_and_its_best_setting(sweeps):
    document = composed(sweeps)
    captions = [block.caption for block in blocks(document) if isinstance(block, Figure)]
    assert [caption.partition(":")[0] for caption in captions[:2]] == ["Figure 10", "Figure 11"]
    assert captions[2].startswith("Best UAR on the validation speakers")
    assert all("validation speakers of RAVDESS" in caption for caption in captions)
    assert "The highest mean is at K, clusters 8." in captions[0]
    assert "The highest mean is at alpha 0.1, beta 0.15." in captions[1]
    assert "The highest mean is at loss.mining hard, loss.softmax_weight 1." in captions[2]
    assert table_of(composed(sweeps / "k"), "UAR on validation").rows[0] == ["2", "40.0", "39.0", "41.0", "2"]


def test_a_sweep_names_layers_that_start_afresh_and_folds_that_test_its_validation_speakers(sweeps, scheme):
    document = composed(sweeps / "k")
    (caption,) = (block.caption for block in blocks(document) if isinstance(block, Figure))
    assert "S5 from S3, ghost_vlad afresh, 8 epochs" in caption
    # Each `complete` fold validates on the test speakers of the next one.
    assert set(scheme.fold(1).validation) == set(scheme.fold(2).test)
    assert set(scheme.fold(2).validation) == set(scheme.fold(3).test)
    table = table_of(document, "UAR on validation")
    assert table.caption.endswith("the validation speakers are tested in folds 2, 3.")


def ablation_in(folder: Path, *changes: tuple[float, str, int, float]) -> Document:
    """The report of an ablation: label smoothing, schedule, fold and UAR of each training."""
    about = {"corpus": "ravdess", "scheme": "complete", "strategy": "S1", "start": "random weights", "afresh": []}
    names = ["training.label_smoothing", "training.schedule"]
    parameters = dict(zip(names, ([0.1, 0], ["cosine", "step"]), strict=True))
    about |= {"epochs": 8, "parameters": parameters, "one_at_a_time": True}
    (folder / "sweep.json").write_text(json.dumps(about))
    columns = [*names, "fold", "best_validation_uar"]
    pd.DataFrame(changes, columns=columns).assign(seed=0).to_csv(folder / "sweep.csv", index=False)
    return composed(folder)


def test_an_ablation_names_each_change_and_its_difference(tmp_path):
    means = {(0.1, "cosine"): 0.6, (0, "cosine"): 0.55, (0.1, "step"): 0.4}
    document = ablation_in(
        tmp_path,
        *((*point, fold, mean + above) for fold, above in ((1, -0.01), (5, 0.01)) for point, mean in means.items()),
    )
    table = table_of(document, "S1 from random weights, 8 epochs, complete folds: UAR on validation speakers")
    assert table.columns == ["change", "mean", "difference", "fold 1", "fold 5"]
    assert table.rows == [
        ["none", "60.0", "+0.0", "59.0", "61.0"],
        ["training.label_smoothing 0", "55.0", "-5.0", "54.0", "56.0"],
        ["training.schedule step", "40.0", "-20.0", "39.0", "41.0"],
    ]
    assert "Ablation, RAVDESS" in [section.title for section in document.sections]
    assert "Some changes lack" not in text_of(document)


def test_an_unfinished_ablation_shows_folds_that_every_change_has_finished(tmp_path):
    finished = [(0.1, "cosine", 1, 0.6), (0, "cosine", 1, 0.5), (0.1, "step", 1, 0.4), (0.1, "cosine", 5, 0.7)]
    document = ablation_in(tmp_path, *finished)
    assert table_of(document, "S1 from random").columns == ["change", "mean", "difference", "fold 1"]
    assert "Some changes lack folds or seeds" in text_of(document)


@pytest.mark.parametrize("rows", [slice(-1), slice(-2)])
def test_an_unfinished_sweep_says_so(sweeps, tmp_path, rows):
    (tmp_path / "sweep.json").write_bytes((sweeps / "k" / "sweep.json").read_bytes())
    lines = (sweeps / "k" / "sweep.csv").read_text().splitlines()
    (tmp_path / "sweep.csv").write_text("\n".join(lines[rows]) + "\n")  # without a run, or a whole setting
    assert "Some settings lack folds or seeds, so the means are not comparable." in text_of(composed(tmp_path))


@pytest.fixture(scope="module")
def noise_document(noise_test) -> Document:
    """The report of the noise test, as data."""
    return composed(noise_test)


def noise_section(document: Document) -> Section:
    (section,) = (one for one in document.sections if one.title.startswith("Robustness to noise"))
    return section


def test_noise_opens_with_the_verdict_and_its_limits(noise_document):
    section = noise_section(noise_document)
    assert section.title == "Robustness to noise, RAVDESS"
    verdict, caution, *others = section.blocks
    # UAR of two emotions: one of four happy utterances is an eighth.
    assert verdict == Paragraph(
        "Noise over half of the utterance costs S3 (G = 2) 12.5 points of UAR less than S1 (G = 0), mean over noises "
        "and ratios (95 % interval -12.5 to -12.5 over 4 speakers, too few to trust it), and over the whole 0.0 points "
        "of UAR more (95 % interval 0.0 to 0.0 over 4 speakers, too few to trust it): these trained models do not show "
        "that ghosts absorb noise; 1 seed, and a claim about strategies needs 3."
    )
    assert isinstance(caution, Notice)
    # With noise over half, S1 names two of four happy and two of four sad utterances.
    assert caution.text.startswith("In 12 of 24 conditions a UAR is less than 5.0 points above chance (50.0)")
    assert "S1 (G = 0) with seed 0, S3 (G = 2) with seed 0; 32 utterances of 4 speakers" in str(others[0])


def test_losses_by_descriptors_are_of_the_same_utterances(noise_document):
    of_uar, of_accuracy = (table_of(noise_document, f"Loss of {score}") for score in ("UAR", "accuracy"))
    zero, eighth, quarter, less = (f"{value} [{value}, {value}]" for value in ("0.0", "12.5", "25.0", "-12.5"))
    # UAR: one or two of four happy utterances, mean of two emotions.
    assert of_uar.columns == ["noise over", "S1 (G = 0)", "S3 (G = 2)", "S3 - S1"]
    assert of_uar.rows == [["whole", eighth, eighth, zero], ["half", quarter, eighth, less]]
    # Accuracy: one or two of eight. All noisy utterances have M = 2, no clean one has. Three noises at four ratios make
    # 12 mixtures of each of 32 utterances.
    assert of_accuracy.rows == [
        ["whole", "1", "0", "-", "-", "-"],
        ["whole", "2", "384", eighth, eighth, zero],
        ["whole", "3 and more", "0", "-", "-", "-"],
        ["half", "1", "0", "-", "-", "-"],
        ["half", "2", "384", quarter, eighth, less],
        ["half", "3 and more", "0", "-", "-", "-"],
    ]


def test_the_noise_section_has_the_numbers_of_its_summary(tmp_path):
    lost = {
        "S1": lambda speaker: {"half": SPEAKERS.index(speaker) % 4, "whole": 2},
        "S3": lambda speaker: {"half": SPEAKERS.index(speaker) % 3, "whole": 3},
    }
    folder = write_measurement(tmp_path / "noise", lost)
    # Only pink noise over half at 5 dB also makes S3 fail on sad utterances.
    text = folder.table.read_text()
    folder.table.write_text(re.sub(r"(S3,.*,sad,pink,half,5,3\+),4,2,", r"\1,4,0,", text))
    document, summary = composed(folder.path), summarise_noise(folder)
    (comparison,) = summary.comparisons
    strategies = summary.strategies.values()
    by_descriptors = [one.descriptor_loss["half"]["3+"] for one in strategies]
    by_descriptors.append(comparison.descriptor_loss_difference["half"]["3+"])
    assert table_of(document, "Loss of accuracy").rows[-1][3:] == [*map(value_and_interval, by_descriptors)]
    by_portion = [one.portion_loss["half"] for one in strategies] + [comparison.portion_loss_difference["half"]]
    assert table_of(document, "Loss of UAR").rows[-1][1:] == [*map(value_and_interval, by_portion)]
    places = [summary.conditions.index(Condition("pink", "half", ratio)) for ratio in (0, 5, 10, 20)]
    table = table_of(document, "UAR in percent with noise over half")
    assert table.columns == ["noise", "network", "0 dB", "5 dB", "10 dB", "20 dB", "clean"]
    (row,) = (row for row in table.rows if row[:2] == ["pink", "S3 (G = 2)"])
    assert row[2:] == [value_and_interval(summary.strategies["S3"].uar[place]) for place in (*places, 0)]
    assert row[3] != row[2] == row[4]
    panels = panels_of(document)
    assert {f"noise-1-half-{kind}-pink" for kind in ("uar", "ghosts")} <= panels.keys()
    first, third = (points(one.uar[places[1]].value) for one in strategies)
    alt = panels["noise-1-half-uar-pink"].alt
    assert re.search(rf"S1 .* 5 dB {first}, .*S3 .* 5 dB {third}, ", alt)
    assert list(panels["noise-1-half-uar-pink"].drawing.axes[0].lines[0].get_ydata()) == [50, 50]  # two emotions
    assert panels["noise-1-half-ghosts-pink"].alt.endswith(": S3 0 dB 20.0, 5 dB 20.0, 10 dB 20.0, 20 dB 20.0.")


def test_only_the_verdict_of_the_summary_mentions_the_claim(noise_document):
    section = noise_section(noise_document)
    inside = [*section.blocks[1:], *(block for part in section.sections for block in part.blocks)]
    texts = [block.caption if isinstance(block, Table | Figure) else block.text for block in inside]
    words = r"\b(claims?|speaks?|worth|proves?|shows?|confirms?|agrees?|supports?|contradicts?|significant\w*|better)\b"
    assert [text for text in texts if re.search(words, text)] == []
    with_intervals = [text for text in texts if "95 %" in text]
    assert len(with_intervals) == 6  # two tables of losses; a figure and a table of UAR for each portion
    assert all("95 % intervals from resampling 4 speakers, too few to trust them" in text for text in with_intervals)
    (half,) = (part for part in section.sections if "half" in part.title)
    assert half.blocks[-1] == Paragraph(
        "Ghost share of S3 with noise over half: 0.100 of the descriptors in the noisy half, 0.300 in the clean "
        "half; a descriptor covers about 2 s, which blurs the difference."
    )


def test_every_pair_with_and_without_ghosts_has_its_verdict(tmp_path):
    lost = {"S1": always(half=2), "S3": always(half=1), "S5": always(half=3)}
    document = composed(write_measurement(tmp_path / "noise", lost).path)
    section = noise_section(document)
    first, second = (block.text for block in section.blocks[1:3])  # below the notice that it is not finished
    assert first.startswith("Noise over half of the utterance costs S3 (G = 2) 12.5 points of UAR less than S1 (G = 0)")
    assert second.startswith("Noise over half of the utterance costs S5 (G = 2) 12.5 points of UAR more than S1")
    assert table_of(document, "Loss of UAR").columns[-2:] == ["S3 - S1", "S5 - S1"]
    assert "too few" not in str(section)  # ten speakers


def test_one_kind_of_network_allows_no_verdict(tmp_path):
    folder = write_measurement(tmp_path / "noise", {"S1": always(half=1)})
    folder.write_summary({})
    document = composed(folder.path)
    assert noise_section(document).blocks[0] == Paragraph(
        "To measure the effect of ghosts, give runs with and without them, such as S3 and S1."
    )
    assert not any("ghosts" in name for name in panels_of(document))


def test_an_unfinished_noise_test_says_so(tmp_path, noise_document):
    folder = write_measurement(tmp_path / "noise", {"S1": always()})
    first = noise_section(composed(folder.path)).blocks[0]
    assert first == Notice(
        f"`{folder.path}` is not finished, so these results are incomplete. Run the same `ser-tf noise` command again."
    )
    assert "not finished" not in str(noise_section(noise_document))


def test_a_cross_corpus_run_has_its_own_section(run_of, partial, tmp_path):
    scheme_name = f"{CROSS_CORPUS}, validation of complete"
    run_of(
        tmp_path / "S3",
        "S3",
        1,
        corpus="ravdess-to-crema_d",
        scheme=scheme_name,
        scheme_hash="e" * 16,
        protocol=CROSS_CORPUS,
        trained_on="ravdess",
        tested_on="crema_d",
        left_out={"trained_on": {"calm": 192}, "tested_on": {}},
    )
    document = composed(partial, tmp_path)
    (section,) = (one for one in document.sections if one.title == "From RAVDESS to CREMA-D")
    text = section.blocks[0].text
    assert f"training speakers of RAVDESS ({scheme_name}; S3 of fold 1), tested on every recording of CREMA-D" in text
    assert "Left out, because the other corpus lacks the emotion: 192 calm of RAVDESS. Not comparable" in text
    (scores,) = (block for block in section.blocks if isinstance(block, Table))
    assert [(row[0], row[5]) for row in scores.rows] == [("S3", "1")]
    assert document.title == "Speech emotion recognition on RAVDESS"
    text = text_of(document)
    assert CROSS_CORPUS not in text.partition("What is missing")[2]
    assert "CREMA-D: `ser-tf evaluate --corpus CREMA-D" in text
    assert text_of(composed(tmp_path)).startswith("No evaluation within a corpus was given.")


def test_listeners_have_votes_and_no_confidence(run_of, tmp_path):
    for strategy in ("S1", "human"):
        folder = run_of(tmp_path / strategy, strategy, 1)
    metrics = RunFolder(folder).metrics
    write_json(metrics, json.loads(metrics.read_text()) | {"ties_shared": {"wa": 0.446, "uar": 0.459}})
    document = composed(tmp_path)
    assert table_of(document, "All test").rows[1][4] == "-"  # no ECE
    assert [row[0] for row in table_of(document, "Percent wrong").rows] == ["S1"]
    (shared,) = (row for row in table_of(document, "Table 2").rows if row[0] == "listeners, ties shared")
    assert shared == ["listeners, ties shared", "45.9", "-", "44.6", "44.6", "44.6", "-", "1 of 10"]


def test_missing_parts_come_with_their_command(document, sweeps, noise_test, partial):
    text = text_of(document)
    assert "ravdess, complete: S2, S4, S5; `ser-tf evaluate --strategies S2 S4 S5`" in text
    assert "figures 6 and 7, and ghost share over time: need the recordings; add `--corpus`" in text
    assert "Figure 11, alpha and beta: `ser-tf sweep`" in text
    assert "Robustness to noise: `ser-tf noise`" in text
    everything = text_of(composed(partial, sweeps, noise_test))
    assert "Figure 11, alpha and beta: `ser-tf sweep`" not in everything
    assert "Robustness to noise: `ser-tf noise`" not in everything


def test_missing_weights_are_reported(partial, tmp_path):
    missing: list[str] = []
    (evaluation,) = find_sources([partial]).evaluations

    assert spaces(scored_evaluation(evaluation), Corpus("ravdess", tmp_path, (), (), (), ()), missing) is None
    assert "need the weights (`embedding.weights.h5`)" in missing[0]


def test_lines_differ_in_more_than_colour():
    labels = ["S3", "S4 (one)", "S4 (other)", *(f"S5 ({number})" for number in range(9)), "MFCC + SVM"]
    looks = looks_of(labels)
    assert len(set(looks.values())) == len(labels)
    assert looks["S3"] == looks_of(["S1", "S3"])["S3"]


# The page


def test_every_drawing_is_written_as_png_and_svg_with_a_text_alternative(written):
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
    assert '![say "no" (to) &lt;b>](figures/one.png)' in markdown


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
    """The checks of the test above can fail."""
    page = tmp_path / "bad.html"
    page.write_text("<body style='width: 900px'><img src='gone.png'><script>console.error('oh')</script>")
    browser.open(page, width=PHONE_WIDTH)
    assert any("oh" in line for line in browser.console)
    assert any(url.endswith("gone.png") for url in browser.requests)
    assert browser.evaluate("document.documentElement.scrollWidth") > PHONE_WIDTH


OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
SMALLEST_LETTER = """Math.min(
    ...[...document.querySelectorAll('svg text')].map(text => {
        const shape = text.getScreenCTM();
        return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(shape.a, shape.b);
    }),
    ...[...document.querySelectorAll('body *:not(svg *)')].map(one => parseFloat(getComputedStyle(one).fontSize)),
)"""


@pytest.mark.parametrize("width", [PHONE_WIDTH, DESK_WIDTH])
def test_no_letter_is_below_11_pixels(browser, written, width):
    browser.open(written / "report.html", width=width)
    browser.evaluate(OPEN_ALL)
    assert browser.evaluate(SMALLEST_LETTER) >= 11


def test_details_are_folded_and_can_be_opened(browser, written):
    browser.open(written / "report.html", width=1280)
    height = "document.documentElement.scrollHeight"
    folded = browser.evaluate(height)
    assert folded < 8000
    browser.evaluate(OPEN_ALL)
    assert browser.evaluate(height) > folded + 2000


def test_a_table_that_goes_on_beyond_the_edge_shows_it(browser, written):
    browser.open(written / "report.html", width=PHONE_WIDTH)
    browser.evaluate(OPEN_ALL)
    images = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
        ".map(one => getComputedStyle(one).backgroundImage)"
    )
    assert images
    assert all(image.count("linear-gradient") == 4 for image in images)


@pytest.mark.parametrize(
    ("skills", "folds", "sentence"),
    [
        ({"S1": 0.3, "S3": 0.6, "mfcc_svm": 0.1}, {}, r"Best: S3, [\d.]+ % UAR, [\d.]+ points .*above MFCC \+ SVM"),
        (
            {"S1": 0.0, "mfcc_svm": 0.9},
            {},
            r"No network beats .*: S1, .* is [\d.]+ points .*below MFCC \+ SVM",
        ),
        ({"S1": 0.3}, {}, r"Best: S1, [\d.]+ % UAR; no simple method was tested on these folds\."),
        ({"mfcc_svm": 0.3}, {}, r"Best: MFCC \+ SVM, [\d.]+ % UAR; no network was trained on these folds\."),
        ({"S1": 0.3, "mfcc_svm": 0.3}, {"mfcc_svm": 2}, r"Best network: S1, .* They have not finished the same folds"),
    ],
)
def test_the_verdict_comes_first(run_of, tmp_path, monkeypatch, skills, folds, sentence):
    for strategy, skill in skills.items():
        monkeypatch.setitem(SKILLS, strategy, skill)
        run_of(tmp_path / strategy, strategy, folds.get(strategy, 1))
    first = composed(tmp_path).lead[0]
    assert isinstance(first, Paragraph)
    assert re.match(sentence, first.text), first.text


def test_the_page_prints(browser, written, tmp_path):
    browser.open(written / "report.html", width=DESK_WIDTH, dark=True)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


# The command


@pytest.fixture
def ser_tf(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs the command; returns its status and stderr."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ser-tf", "report", *map(str, arguments)])
        capsys.readouterr()
        try:
            door.main()
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


def test_a_missing_matplotlib_is_reported_in_one_line(ser_tf, sweeps, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, message = ser_tf(sweeps, "--out", tmp_path / "out")
    assert (status, message) == (
        1,
        "ser-tf: report: expected matplotlib, which draws its figures; install the extra: pip install -e '.[report]'",
    )


def test_a_report_without_recordings_needs_no_tensorflow():
    code = "import sys, ser_tf.report.compose; print(*{'tensorflow', 'keras'} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == []


# Folders from strangers


@pytest.mark.parametrize("corpus", ["../../../x", "/tmp/x", "..", "a/../../b", "a\nb", "C:\\x", "\ud800", "x" * 1000])
def test_a_corpus_of_any_name_writes_only_into_the_reports_folder(run_of, tmp_path, corpus):
    for strategy, fold in product(("S1", "S3"), (1, 2)):
        run_of(tmp_path / "given" / f"{strategy}-fold{fold}", strategy, fold, corpus=corpus, scheme=corpus)
    out = tmp_path / "a" / "b" / "c" / "d" / "out"
    before = {path for path in tmp_path.parent.rglob("*") if out not in path.parents}
    write_report([tmp_path / "given"], out, [], report=lambda line: None)
    after = {path for path in tmp_path.parent.rglob("*") if out not in path.parents}
    assert after - before == {out, *out.parents} - before - {*tmp_path.parents}
    drawings = sorted((out / "figures").iterdir())
    assert drawings
    assert all(re.fullmatch(r"[A-Za-z0-9_=-][A-Za-z0-9_.=-]*", path.name) for path in drawings)


def test_safe_names_stay_distinct():
    names = {Panel(name, "", None).name for name in ("a/b", "a-b", "a?b", "..", ".")}
    assert len(names) == 5
    assert Panel("ravdess-complete-dddd-a1b2-uar", "", None).name == "ravdess-complete-dddd-a1b2-uar"


def test_a_script_in_a_name_is_text(run_of, tmp_path):
    script = "<script>alert(1)</script>"
    for fold in (1, 2):
        run_of(tmp_path / "given" / f"S1-fold{fold}", "S1", fold, corpus=f"`{script}``", data_hash=script)
    write_report([tmp_path / "given"], tmp_path / "out", [], report=lambda line: None)
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "<script" not in text
        assert "&lt;script" in text


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    name = r"$\x{$"
    with style():
        drawing = curves({name: ([0, 1], [1, 2]), "S1": ([0, 1], [2, 1])}, looks_of([name, "S1"]), "x", name)
        body = [Figure("Seen", [Panel("one", "one", drawing)])]
        write_pages(Document("A", [], [Section("One", body)]), tmp_path, "the end")
    assert name in (tmp_path / "figures" / "one.svg").read_text()


def test_a_second_report_into_the_same_folder_is_refused(partial, tmp_path):
    with alone_in(tmp_path), pytest.raises(UserError, match="another ser-tf command is at work in it"):
        write_report([partial], tmp_path, [], report=print)
    assert not list(tmp_path.iterdir())


def test_links_to_a_parent_folder_do_not_loop(run_of, tmp_path):
    run_of(tmp_path / "deep" / "run", "S1", 1)
    for name in ("one", "two"):
        (tmp_path / "deep" / name).symlink_to(tmp_path)
    assert len(find_sources([tmp_path]).evaluations[0].runs) == 1


@pytest.mark.parametrize("text", ["", "epoch,validation_uar\n1,high\n", 'epoch,validation_uar\n1,"\n', "a,b\n1,2\n"])
def test_a_damaged_log_is_refused_in_one_line(run_of, tmp_path, text):
    folder = run_of(tmp_path / "run", "S1", 1)
    (folder / "log.csv").write_text(text)
    with pytest.raises(UserError, match=rf"{folder}/log.csv: expected .*train this run again$"):
        composed(tmp_path)


@pytest.mark.parametrize(
    "metrics", [[], {}, {"excluded": [], "unreadable": {}}, {"excluded": {"a": 1}, "unreadable": {}}]
)
def test_metrics_of_another_shape_are_refused_in_one_line(run_of, tmp_path, metrics):
    folder = run_of(tmp_path / "run", "S1", 1)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=rf"^{folder.resolve()}/metrics.json: .*expected .*train this run again$"):
        composed(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("best_validation_uar", "high"), ("best_validation_uar", "2"), ("fold", "one"), ("seed", "0.5")],
)
def test_a_sweep_of_other_numbers_is_refused_in_one_line(sweeps, tmp_path, column, value):
    for name in ("sweep.json", "sweep.csv"):
        (tmp_path / name).write_text((sweeps / "k" / name).read_text())
    rows = pd.read_csv(tmp_path / "sweep.csv", dtype=str)
    rows.loc[1, column] = value
    rows.to_csv(tmp_path / "sweep.csv", index=False)
    with pytest.raises(UserError, match=r"sweep.csv: expected folds and seeds in whole numbers, and UARs from 0 to 1;"):
        find_sources([tmp_path])


def test_speakers_of_any_name_are_written():
    assert speakers_in_words(["ravdess:", "ravdess:x"]) == "ravdess:, x"
    assert speakers_in_words(["ravdess:" + "9" * 5000]) == "9" * 5000
