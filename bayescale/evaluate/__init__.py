"""Evaluation: backtests, scores, simulation-based calibration, and how often intervals held."""

__all__: list[str] = []
