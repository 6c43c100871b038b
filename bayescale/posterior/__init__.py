"""Posteriors, mixtures of them, their forecasts, checks and files."""

__all__: list[str] = []
