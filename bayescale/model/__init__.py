"""Model: law, discrepancy and noise on the rows of one family, and how their density is evaluated."""

__all__: list[str] = []
