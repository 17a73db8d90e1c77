"""Runs the tests (`make test`): two halves in parallel, because the slow ones mostly wait.

The first half has the unit tests, and then those slow ones that share a broker to kill. The second half has the other
slow ones, which need no broker.

With arguments it is pytest with these.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
STREAM = ("test_brokers.py", "test_stream_broken.py", "test_examples.py", "test_soak.py")


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments])
    of_stream = [str(TESTS / "slow" / name) for name in STREAM]
    with tempfile.TemporaryFile() as said:
        # Each half has its own cache, because both write what failed.
        others = subprocess.Popen(
            [*pytest, str(TESTS / "slow"), *(f"--ignore={path}" for path in of_stream), "-p", "no:cacheprovider"],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            first = subprocess.call([*pytest, str(TESTS / "unit"), *of_stream])
            status = others.wait()
        except BaseException:
            others.terminate()
            others.wait()
            raise
        said.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(said.read())
    return first or status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
