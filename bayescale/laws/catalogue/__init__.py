"""Catalogue: the built-in laws, one module for each kind of question."""

__all__: list[str] = []
