"""Simulated data: calibration where the model is true, ladders along one ray, and planted failures."""
