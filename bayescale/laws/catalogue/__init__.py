"""Catalogue: the laws that come with the package, a file for each kind of question."""

__all__: list[str] = []
