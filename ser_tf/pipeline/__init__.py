"""Pipeline: utterances -> cached speech -> tf.data batches."""

from ser_tf.pipeline.batches import epoch_batches
from ser_tf.pipeline.datasets import evaluation_dataset, inputs_of, training_dataset
from ser_tf.pipeline.speech_cache import PreparedSpeech, SpeechFile, prepare_speech

__all__ = [
    "PreparedSpeech",
    "SpeechFile",
    "epoch_batches",
    "evaluation_dataset",
    "inputs_of",
    "prepare_speech",
    "training_dataset",
]
