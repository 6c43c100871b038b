"""Inference: modes, coordinates adapted to the posterior, NUTS, importance sampling, and diagnostics."""

__all__: list[str] = []
