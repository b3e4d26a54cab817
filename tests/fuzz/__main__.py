"""python -m fuzz 5000 [FIRST]: try so many mutants, from number FIRST on, and print those that are treated badly."""

import sys
import warnings

from fuzz.outcomes import main

warnings.simplefilter("ignore")
raise SystemExit(bool(main(*map(int, sys.argv[1:]))))
