"""Reports: one self-contained page about a fit and a decision."""

__all__: list[str] = []
