"""Corpora: which utterance, speaker and emotion a file is; what is wrong with it; speaker-disjoint folds."""
