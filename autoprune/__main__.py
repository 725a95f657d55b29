"""`python -m autoprune`: the command line."""

import sys

from autoprune.cli import main

sys.exit(main())
