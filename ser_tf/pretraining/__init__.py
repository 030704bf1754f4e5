"""Preparation: a folder of speakers of any size -> sharded speech, on one machine or on a cluster."""
