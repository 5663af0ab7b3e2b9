"""`python -m lib_unetmod.playground`: the page, and the command line. See `cli`."""

import sys

from .cli import main

sys.exit(main())
