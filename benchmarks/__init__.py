"""Measurements, as ratios of runs taken in turn in one process; see README.md."""
