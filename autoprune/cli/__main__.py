"""`python -m autoprune.cli`."""

from autoprune.cli.main import main

raise SystemExit(main())
