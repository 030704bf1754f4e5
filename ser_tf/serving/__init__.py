"""From a trained run to the emotion of a recording."""
