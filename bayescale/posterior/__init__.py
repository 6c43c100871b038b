"""Posteriors, mixtures of them, their forecasts, checks and files."""
