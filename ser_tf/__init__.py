"""ser_tf: speech emotion recognition with SE-ResNet-34, GhostVLAD and deep metric learning.

Example:
    >>> import ser_tf
    >>> recogniser = ser_tf.load()  # doctest: +SKIP
    >>> recogniser("clip.wav").emotion  # doctest: +SKIP
    'happy'
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from ser_tf.errors import UserError, require_backend

if TYPE_CHECKING:
    from ser_tf.network.layers import GhostVLAD, SqueezeExcitation
    from ser_tf.network.losses import EmotionTripletLoss, TripletLoss
    from ser_tf.serving.loading import load
    from ser_tf.serving.predict import Recogniser
    from ser_tf.serving.recognition import Prediction
    from ser_tf.serving.transformer import EmotionEmbedding

__all__ = [
    "EmotionEmbedding",
    "EmotionTripletLoss",
    "GhostVLAD",
    "Prediction",
    "Recogniser",
    "SqueezeExcitation",
    "TripletLoss",
    "UserError",
    "load",
]
_HOMES = {
    **dict.fromkeys(("GhostVLAD", "SqueezeExcitation"), "ser_tf.network.layers"),
    **dict.fromkeys(("EmotionTripletLoss", "TripletLoss"), "ser_tf.network.losses"),
    "Recogniser": "ser_tf.serving.predict",
    "Prediction": "ser_tf.serving.recognition",
    "load": "ser_tf.serving.loading",
    "EmotionEmbedding": "ser_tf.serving.transformer",
}
"""Modules that are imported when a name of theirs is first used."""
_WITHOUT_KERAS = ("Prediction", "load")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("ser_tf")
    if name in _HOMES:
        if name not in _WITHOUT_KERAS:
            require_backend()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ser_tf' has no attribute {name!r}")
