"""The model card of a finished run: training data, quality, intended use, limits."""

from collections.abc import Collection
from typing import Any

from ser_tf.classifier import COUPLING
from ser_tf.config import Config
from ser_tf.corpora.facts import facts_of
from ser_tf.documents import misfit, read_json
from ser_tf.errors import UserError
from ser_tf.runs.folder import WRITTEN, RunFolder
from ser_tf.runs.weights import read_provenance
from ser_tf.statistics.scores import (
    CONFIDENCE_LEVEL,
    FEW_SPEAKERS,
    Estimate,
    PooledScores,
    points,
    strategy_scores,
)
from ser_tf.statistics.table import read_predictions

_NAMED_BY = {"softmax": "the softmax of the network", "svm": "an RBF SVM on the embedding"}

INTENDED_USE = (
    "Research on speech emotion recognition, and a component of systems in which a person reviews its answers. One "
    "utterance of one speaker at a time, up to 60 s of speech."
)
NOT_FOR = (
    "Not for decisions about people, as in hiring, policing, schooling, health or credit: how a voice sounds is not "
    "what a person feels."
)


def model_card(run: RunFolder) -> str:
    """The card in Markdown.

    Raises:
        UserError: the folder holds no finished run, or a file is damaged.
    """
    table = read_predictions([run.path])
    identity = run.read_identity()
    wanted = dict.fromkeys(("train_speakers", "validation_speakers", "test_speakers"), list)
    problem = misfit(identity, wanted)
    if problem:
        raise UserError(f"{run.identity}: {problem}; train the run again")
    metrics = read_json(run.metrics, "train the run again", WRITTEN)
    pooled = strategy_scores(table, identity["strategy"]).pooled
    title = f"{identity['strategy']} on {identity['corpus']}, {identity['scheme']} fold {identity['fold']}"
    sections = (
        f"# Model card: {title}",
        "Names the acted emotion of an utterance: "
        f"{', '.join(table.emotions)}. Mono speech at 16 kHz in, a calibrated distribution out.",
        _origin(run, identity),
        _training_data(run, identity, metrics),
        _quality(pooled, metrics),
        _section("Intended use", INTENDED_USE, "", NOT_FOR),
        _section("Limits", *(f"- {limit}" for limit in limits_of(run, identity, table.emotions))),
    )
    return "\n\n".join(sections).replace("<", "&lt;") + "\n"  # names are text, not HTML


def network_in_words(run: RunFolder) -> str:
    """Network and classifier of a run, as in "SE-ResNet-34 at width 0.25, ..."."""
    network = Config.load(run.config).network
    about = read_json(run.path / "classifier.json", "train the run again", {"kind": str})
    named_by = _NAMED_BY.get(about["kind"], about["kind"])
    if about["kind"] == "svm" and about.get("confidence") != COUPLING:
        named_by += ", whose probabilities come from votes and hardly separate right from wrong"
    return (
        f"SE-ResNet-34 at width {network.width:g}, GhostVLAD with {network.clusters} clusters and "
        f"{network.ghost_clusters} ghosts; the emotion is named by {named_by}."
    )


def _origin(run: RunFolder, identity: dict[str, Any]) -> str:
    made_with = run.read_made_with()
    packages = ", ".join(f"{name} {version}" for name, version in made_with.get("packages", {}).items())
    return _section(
        "Origin",
        f"- Run: `{run.path.resolve().name}`, strategy {identity['strategy']} of Mocanu et al., Sensors 2021.",
        f"- Network: {network_in_words(run)}",
        f"- Code: ser_tf {made_with.get('ser_tf', 'of unknown version')}, commit "
        f"{made_with.get('commit') or 'unknown'}; {packages}.",
        "- Configuration and everything else that determines the result: `config.yaml` and `provenance.json` "
        "(`run.json` in a run).",
    )


def _training_data(run: RunFolder, identity: dict[str, Any], metrics: dict[str, Any]) -> str:
    trained_on = read_provenance(run.weights)["speakers"]
    corpora = list(dict.fromkeys(speaker.partition(":")[0] for speaker in (*identity["train_speakers"], *trained_on)))
    chose = metrics.get("validation_served_for", "epoch, temperature and an SVM's parameters")
    lines = [
        f"- Folds: scheme `{identity['scheme']}` (hash {identity['scheme_hash']}), fold {identity['fold']}; data hash "
        f"{identity['data_hash']}.",
        f"- Trained on {_speakers(identity['train_speakers'])}.",
        f"- Chosen on {_speakers(identity['validation_speakers'])}: {chose}.",
        f"- Tested on {_speakers(identity['test_speakers'])}, none of whom it was trained on.",
        f"- Started from {'given weights' if identity['weights'] else 'random weights'}; in all, the network was "
        f"trained on {len(trained_on)} speakers.",
        "",
        "| corpus | licence | conditions for passing the weights on |",
        "|---|---|---|",
    ]
    for corpus in corpora:
        facts = facts_of(corpus)
        lines.append(f"| {facts.title} | {facts.licence} | {facts.terms} |")
    return _section("Data", *lines)


def _quality(pooled: PooledScores, metrics: dict[str, Any]) -> str:
    scores = {"WA": pooled.wa, "UAR": pooled.uar, "macro-F1": pooled.macro_f1}
    recalls = {f"recall of {emotion}": recall for emotion, recall in pooled.recall.items()}
    warning = ": too few to trust them" if pooled.speakers < FEW_SPEAKERS else ""
    confusion = zip(pooled.recall, pooled.confusion, strict=True)
    return _section(
        "Quality",
        f"On {pooled.utterances} test utterances, in percent; intervals resample {pooled.speakers} speakers{warning}.",
        "",
        f"| score | value | {100 * CONFIDENCE_LEVEL:.0f} % interval |",
        "|---|---|---|",
        *(f"| {name} | {_cells(estimate)} |" for name, estimate in (scores | recalls).items()),
        "",
        f"Expected calibration error: {points(metrics['test']['ece'])} points. UAR on the validation speakers: "
        f"{points(metrics['validation']['uar'])} %. Left out of the corpus by default: "
        f"{len(metrics['excluded'])}; unreadable: {len(metrics['unreadable'])}.",
        "",
        "Confusion matrix (a row per true emotion, a column per predicted one):",
        "",
        f"| | {' | '.join(pooled.recall)} |",
        f"|---|{'---|' * len(pooled.recall)}",
        *(f"| {emotion} | {' | '.join(map(str, row))} |" for emotion, row in confusion),
    )


def limits_of(run: RunFolder, identity: dict[str, Any], emotions: Collection[str]) -> list[str]:
    """What to expect less of, a sentence each."""
    trained_on = read_provenance(run.weights)["speakers"]
    corpora = dict.fromkeys(speaker.partition(":")[0] for speaker in (*identity["train_speakers"], *trained_on))
    return [
        *(f"Learned from {corpus}: {facts_of(corpus).speech}." for corpus in corpora),
        "Other languages, ages, rooms, microphones, noise, telephone lines and spontaneous speech were not tested; "
        "expect less than the scores above.",
        f"It always answers with one of its {len(emotions)} emotions, also for music and noise.",
        "The probabilities were calibrated on the validation speakers; on other data they may be wrong.",
    ]


def _section(title: str, *lines: str) -> str:
    return "\n".join((f"## {title}", "", *lines))


def _speakers(names: list[str]) -> str:
    return f"{len(names)} speaker{'s' * (len(names) != 1)} ({', '.join(names)})"


def _cells(estimate: Estimate) -> str:
    if estimate.value is None:
        return "no such utterance | "
    if estimate.low is None or estimate.high is None:
        return f"{points(estimate.value)} | none"
    return f"{points(estimate.value)} | {points(estimate.low)} to {points(estimate.high)}"
