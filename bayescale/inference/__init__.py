"""Inference: modes, coordinates that suit a posterior, NUTS, importance sampling, and diagnostics."""
