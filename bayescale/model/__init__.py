"""Model: law, discrepancy and noise for the rows of one family, and evaluations of their density."""

__all__: list[str] = []
