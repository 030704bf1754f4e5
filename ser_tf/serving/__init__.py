"""A finished run names the emotion of recordings: live, exported, over time."""
