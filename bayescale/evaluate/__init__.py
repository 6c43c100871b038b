"""Evaluation: backtests, scores, simulation-based calibration, and how often intervals held."""
