"""Networks for tests."""

import keras
import numpy as np


def randomised(network: keras.Model, rng: np.random.Generator, scale: float = 0.3) -> keras.Model:
    """The network with random biases and batch statistics, so that padding becomes non-zero."""
    for weight in network.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(scale=scale, size=weight.shape))
    return network
