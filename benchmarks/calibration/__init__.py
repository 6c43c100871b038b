"""Calibration: how often intervals hold on published families, and the page about it."""
