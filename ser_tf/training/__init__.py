"""Fine-tuning of one fold, and what it is resumed from."""
