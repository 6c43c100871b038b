"""Posteriors, mixtures of posteriors, and their forecasts, checks and files."""

__all__: list[str] = []
