"""Pooling: one hierarchical posterior over similar families."""

__all__: list[str] = []
