"""Floor 0: what every other package stands on; it imports nothing of ours."""
