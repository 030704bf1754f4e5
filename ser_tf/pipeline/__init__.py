"""Utterances -> cached speech -> batches."""

from ser_tf.pipeline.batches import epoch_batches
from ser_tf.pipeline.datasets import deal, evaluation_batches, inputs_of, inputs_of_each, training_dataset
from ser_tf.pipeline.speech_cache import PreparedSpeech, SpeechFile, prepare_speech

__all__ = [
    "PreparedSpeech",
    "SpeechFile",
    "deal",
    "epoch_batches",
    "evaluation_batches",
    "inputs_of",
    "inputs_of_each",
    "prepare_speech",
    "training_dataset",
]
