"""`python -m autoprune_runtime run|bench|verify|extract`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from . import __version__
from .commands import COMMANDS, add_commands
from .errors import AutopruneRuntimeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if it succeeded, 1 for an error, 130 if interrupted.

    Raises:
        SystemExit: with 2 for a wrong command line.
    """
    parser = argparse.ArgumentParser(
        prog="autoprune_runtime", description="Run models compiled by autoprune."
    )
    parser.add_argument("--version", action="version", version=__version__)
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (AutopruneRuntimeError, OSError) as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
