"""Inference: modes, coordinates that suit a posterior, NUTS, importance sampling, and diagnostics."""

__all__: list[str] = []
