"""Signal line: file -> waveform -> speech -> spectrogram."""
