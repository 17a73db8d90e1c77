"""Runs the tests (`make test`): three files at a time, because the slow ones mostly wait.

Quick files come first, and the tests of one file stay together. With arguments it is pytest with these.
"""

import subprocess
import sys

AT_ONCE = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")

if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", *(sys.argv[1:] or AT_ONCE)]))
