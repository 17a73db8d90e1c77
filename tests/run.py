"""Runs the tests: the two halves, unit and slow, beside each other, since the slow ones mostly wait; `make test`.

With arguments it is pytest with these.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments])
    with tempfile.TemporaryFile() as said:
        # Each half has a cache of its own, for both write what failed.
        slow = subprocess.Popen(
            [*pytest, str(TESTS / "slow"), "-p", "no:cacheprovider"], stdout=said, stderr=subprocess.STDOUT
        )
        try:
            unit = subprocess.call([*pytest, str(TESTS / "unit")])
            status = slow.wait()
        except BaseException:
            slow.terminate()
            slow.wait()
            raise
        said.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(said.read())
    return unit or status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
