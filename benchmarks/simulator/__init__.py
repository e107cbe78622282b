"""Training runs as numbers, so that whole studies of hundreds of runs play in seconds: see families.py and play.py."""
