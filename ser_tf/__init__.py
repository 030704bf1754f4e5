"""ser_tf: speech emotion recognition with SE-ResNet-34, GhostVLAD and deep metric learning."""
