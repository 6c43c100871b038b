"""Pooling: one hierarchical posterior over families that belong together."""

__all__: list[str] = []
