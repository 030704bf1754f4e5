"""Fine-tuning: train one fold, resume it, test it."""
