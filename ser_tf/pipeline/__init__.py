"""Pipeline: utterances -> cached speech -> batches."""

from ser_tf.pipeline.batches import epoch_batches
from ser_tf.pipeline.datasets import deal, evaluation_batches, inputs_of, inputs_of_each, training_dataset
from ser_tf.pipeline.shards import (
    WHOLE,
    Share,
    SpeakerCrops,
    damage_explained,
    gather,
    training_crops,
    whole_utterances,
)
from ser_tf.pipeline.speech_cache import PreparedSpeech, SpeechFile, prepare_speech

__all__ = [
    "WHOLE",
    "PreparedSpeech",
    "Share",
    "SpeakerCrops",
    "SpeechFile",
    "damage_explained",
    "deal",
    "epoch_batches",
    "evaluation_batches",
    "gather",
    "inputs_of",
    "inputs_of_each",
    "prepare_speech",
    "training_crops",
    "training_dataset",
    "whole_utterances",
]
