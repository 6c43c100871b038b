"""Core: problems, the methods that forecast them, a run that can be interrupted, and the store of its rows."""
