"""Fitting: posteriors of one family or of hundreds, in this process or on any executor."""

__all__: list[str] = []
