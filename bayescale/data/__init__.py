"""Data: reading files and tables of any layout into checked runs, with a log of every change made to them."""

__all__: list[str] = []
