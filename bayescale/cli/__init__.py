"""The command line: every verb calls one public function."""

__all__: list[str] = []
