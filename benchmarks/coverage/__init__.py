"""Forecasts of pass@k at thousands of samples from a hundred a problem, on published counts."""
