"""Networks, layers and losses, written with `keras.ops`.

Importing this package registers its layers and losses, so that `keras.models.load_model` finds them.
"""

from ser_tf.network import batch_normalisation, layers, losses

__all__ = ["batch_normalisation", "layers", "losses"]
