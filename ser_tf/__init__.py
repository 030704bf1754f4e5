"""ser_tf: speech emotion recognition with SE-ResNet-34, GhostVLAD and deep metric learning.

Example:
    >>> import ser_tf
    >>> recogniser = ser_tf.load()  # doctest: +SKIP
    >>> recogniser("clip.wav").emotion  # doctest: +SKIP
    'happy'
"""

from typing import TYPE_CHECKING, Any

from ser_tf.errors import UserError, require_backend

if TYPE_CHECKING:
    from ser_tf.serving.loading import load
    from ser_tf.serving.predict import Recogniser
    from ser_tf.serving.recognition import Prediction

__all__ = ["Prediction", "Recogniser", "UserError", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Prediction", "load"):
        from ser_tf.serving import loading, recognition

        return {"Prediction": recognition.Prediction, "load": loading.load}[name]
    if name == "Recogniser":
        require_backend()
        from ser_tf.serving.predict import Recogniser

        return Recogniser
    raise AttributeError(f"module 'ser_tf' has no attribute {name!r}")
