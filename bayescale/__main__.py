"""Run the command as `python -m bayescale`."""

from bayescale.cli.main import main

if __name__ == "__main__":
    main()
