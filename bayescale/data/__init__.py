"""Data: from files and tables in users' shapes to checked runs, with a log of everything that was done to them."""

__all__: list[str] = []
