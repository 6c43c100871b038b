"""Evaluation: backtests, scores of forecasts, coverage of intervals, and simulation-based calibration."""

__all__: list[str] = []
