"""Recordings: file -> waveform -> speech -> spectrogram."""
