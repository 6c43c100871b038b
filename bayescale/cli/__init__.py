"""The command line: every subcommand calls one public function."""

__all__: list[str] = []
