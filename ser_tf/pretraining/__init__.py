"""Pre-training: a corpus of any size -> shards of speech -> weights that know speakers or emotions."""
