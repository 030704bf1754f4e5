"""The measured networks. Their weights are random, since training changes neither time nor memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ser_tf.classifier import fit_svm
from ser_tf.config import Config
from ser_tf.corpora.corpus import EMOTIONS, Corpus
from ser_tf.corpora.folds import load_scheme
from ser_tf.network.se_resnet import embedding_network
from ser_tf.pipeline import training_dataset
from ser_tf.runs.files import write_json, write_text
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.predictions import FIRST_COLUMNS
from ser_tf.runs.weights import save_weights
from ser_tf.training.fitting import make_deterministic
from ser_tf.training.fold_network import FoldNetwork
from ser_tf.training.fold_task import FoldTask

SVM_UTTERANCES = 1024
"""As many as in the training side of a RAVDESS fold. With random embeddings all are support vectors, the worst case."""


def ready_to_train(
    corpus: Corpus, config: Config, strategy: str = "S5"
) -> tuple[FoldTask, FoldNetwork, tf.data.Dataset]:
    """Fold 1 of a strategy: the task, its compiled network, and its endless training batches of one crop length."""
    config = replace(config, training=replace(config.training, crop_variation=0.0))  # timings of equal batches
    task = FoldTask.make(corpus, load_scheme("complete", corpus), 1, strategy, config, weights=None)
    make_deterministic(task.config.training.seed)
    training = task.side(task.fold.train)
    batches = training_dataset(training.speech, training.labels, task.config)
    network = FoldNetwork(task)
    return task, network, batches.map(lambda inputs, labels: (inputs, dict.fromkeys(network.trained.output, labels)))


def write_run(folder: Path, config: Config, identity: dict[str, Any] | None = None) -> None:
    """Write a run folder like that of `ser-tf finetune`: network, RBF SVM, but no predictions."""
    run = RunFolder(folder)
    run.begin(identity or {}, config)
    network = embedding_network(config.network, config.spectrogram.bins)
    save_weights(network, run.weights, provenance={"speakers": []})
    embeddings = np.random.default_rng(0).standard_normal((SVM_UTTERANCES, network.output["embedding"].shape[-1]))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.arange(SVM_UTTERANCES) % len(EMOTIONS)
    validation = slice(10 * len(EMOTIONS))
    classifier, _ = fit_svm(embeddings, labels, embeddings[validation], labels[validation], EMOTIONS)
    classifier.save(run.path)
    write_text(run.predictions, ",".join([*FIRST_COLUMNS, *EMOTIONS]) + "\n")
    write_json(run.metrics, {})
