"""Numbers from tables of predictions; no TensorFlow."""
