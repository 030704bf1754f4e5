"""Networks, layers and losses, written with `keras.ops`."""
