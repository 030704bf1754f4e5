"""Pack a finished run: an ONNX file that answers without TensorFlow, and a card with the scores of run folders."""

import dataclasses
import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_tf.config import Config, changed
from ser_tf.corpora.facts import facts_of
from ser_tf.documents import misfit, read_json
from ser_tf.errors import UserError
from ser_tf.runs.files import write_bytes, write_json
from ser_tf.runs.folder import WRITTEN, RunFolder
from ser_tf.runs.provenance import environment
from ser_tf.runs.weights import read_provenance
from ser_tf.serving.engines import onnx_of
from ser_tf.serving.export import require_tensorflow
from ser_tf.serving.model_card import INTENDED_USE, NOT_FOR, limits_of, network_in_words
from ser_tf.serving.packaged import SUFFIX, PackedModel
from ser_tf.serving.predict import load_run
from ser_tf.statistics.scores import strategy_scores
from ser_tf.statistics.table import PredictionTable, read_predictions
from ser_tf.strategies import start_in_words

LARGE_WEIGHTS = 2**20
"""Matrices with at least as many numbers are stored in 16 bits: that of the softmax head, or an SVM's support vectors.
They are multiplied by embeddings of unit norm, so that rounding moves no probability by more than about 1e-6."""
INT16_STEPS = 32_767


def pack(run: Path, folds: Sequence[Path], name: str, folder: Path) -> PackedModel:
    """Write NAME.onnx, NAME.json and NAME.csv; files of the same names are replaced.

    Args:
        run: folder of the finished run to pack. If it was trained on one corpus and tested on another
            (`ser-tf cross-corpus`), the card has its scores there.
        folds: finished runs of all folds of the same corpus, trained the same way.
        name: of the model.
        folder: for the files.

    Raises:
        UserError: a run is not finished or damaged; folds are missing, or they differ from the run in training or
            corpus; tf2onnx is missing; or Keras does not run on TensorFlow.
    """
    if not name.isidentifier():
        raise UserError(f"name: expected letters, digits and underscores. Received: {name}")
    packed = PackedModel(folder / f"{name}{SUFFIX}")
    source = RunFolder(run)
    table = read_predictions([run])
    folds_table = read_predictions(folds)
    _require_same_training(source, RunFolder(folds[0]))
    _require_all_folds(folds, folds_table)
    require_tensorflow()
    recogniser = load_run(run, policy="float32")
    model = onnx_of(recogniser)
    store_large_weights_in_16_bits(model)
    content = model.SerializeToString()
    identity = source.read_identity()
    card = {
        "name": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "emotions": list(recogniser.emotions),
        "network": network_in_words(source),
        "strategy": identity["strategy"],
        "data": _data(source, identity),
        "cross_validated": _scores(folds_table, folds_table.corpus, identity["strategy"]),
        "other_corpora": [_scores(table, identity["tested_on"], identity["strategy"])]
        if "tested_on" in identity
        else [],
        "intended_use": [INTENDED_USE, NOT_FOR],
        "limits": limits_of(source, identity, recogniser.emotions),
        "config": recogniser.config.as_mapping(),
        "provenance": {
            "run": identity,
            "made_with": source.read_made_with(),
            "folds": [RunFolder(fold).read_identity() for fold in folds],
            "packed_with": environment(),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(packed.path, content)
    shutil.copyfile(source.predictions, packed.predictions)
    write_json(packed.card_path, card)
    return packed


def store_large_weights_in_16_bits(model: Any) -> None:
    """Replace each large matrix of an `onnx.ModelProto` by int16 [N, M] and a float32 scale per column, in place.

    onnxruntime multiplies them when it loads the model, so that it computes in float32 as before.
    """
    from onnx import TensorProto, helper, numpy_helper

    for weights in list(model.graph.initializer):
        if weights.data_type != TensorProto.FLOAT or len(weights.dims) != 2 or np.prod(weights.dims) < LARGE_WEIGHTS:
            continue
        values = numpy_helper.to_array(weights)
        scale = np.maximum(np.abs(values).max(axis=0, keepdims=True) / INT16_STEPS, np.finfo(np.float32).tiny)
        name = weights.name
        model.graph.initializer.remove(weights)
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.rint(values / scale).astype(np.int16), f"{name}/int16"),
                numpy_helper.from_array(scale.astype(np.float32), f"{name}/scale"),
            ]
        )
        nodes = [
            helper.make_node("Cast", [f"{name}/int16"], [f"{name}/float32"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}/float32", f"{name}/scale"], [name]),
        ]
        for place, node in enumerate(nodes):
            model.graph.node.insert(place, node)


def _data(run: RunFolder, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """The corpora that the network heard, also before this run, and their licences."""
    heard = {*identity["train_speakers"], *identity["validation_speakers"], *read_provenance(run.weights)["speakers"]}
    speakers = Counter(speaker.partition(":")[0] for speaker in heard)
    data = []
    for corpus, count in speakers.items():
        facts = facts_of(corpus)
        about = {"title": facts.title, "licence": facts.licence, "terms": facts.terms}
        data.append({"corpus": corpus, **about, "speakers": count})
    return sorted(data, key=lambda entry: entry["corpus"])


def _scores(table: PredictionTable, corpus: str, strategy: str) -> dict[str, Any]:
    scores = strategy_scores(table, strategy)
    pooled = dataclasses.asdict(scores.pooled)
    kept = ("utterances", "speakers", "uar", "wa", "macro_f1", "recall")
    return {"corpus": corpus, "folds": scores.folds, **{key: pooled[key] for key in kept}}


def _require_same_training(run: RunFolder, fold: RunFolder) -> None:
    """Refuse folds whose scores would say nothing about the run."""
    own, other = run.read_identity(), fold.read_identity()
    wanted = {**dict.fromkeys(("train_speakers", "validation_speakers", "test_speakers"), list), "strategy": str}
    problem = misfit(own, wanted)
    if problem:
        raise UserError(f"{run.identity}: {problem}; train the run again")
    for what, mine, theirs in (
        ("corpus", own.get("trained_on", own["corpus"]), other["corpus"]),
        ("strategy", own["strategy"], other["strategy"]),
        ("start", start_in_words(own["weights"]), start_in_words(other["weights"])),
        ("weights to start from", *((start["weights"] or {}).get("sha256") for start in (own, other))),
        ("configuration", *(changed(Config.load(folder.config), {"training.seed": 0}) for folder in (run, fold))),
        ("emotions", *(_emotions_of(folder) for folder in (run, fold))),
    ):
        if mine != theirs:
            received = "another" if what == "configuration" else str(theirs)
            raise UserError(
                f"{fold.path}: expected a fold that was trained as {run.path}, with the same {what}. "
                f"Received: {received}; give the folds of the same recipe, or pack another run"
            )


def _require_all_folds(folds: Sequence[Path], table: PredictionTable) -> None:
    count = read_json(RunFolder(folds[0]).metrics, "train the run again", WRITTEN).get("folds")
    found = sorted(set(table.rows["fold"]))
    if isinstance(count, int) and len(found) < count:
        raise UserError(
            f"folds: expected the runs of all {count} folds of scheme {table.scheme}. Received: "
            f"{', '.join(map(str, found))}; train the others too: ser-tf evaluate"
        )


def _emotions_of(run: RunFolder) -> str:
    return ", ".join(read_json(run.path / "classifier.json", "train the run again", {"emotions": [str]})["emotions"])
