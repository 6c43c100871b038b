"""Fitting: from runs to posteriors, one family or hundreds, here or on any executor."""

__all__: list[str] = []
