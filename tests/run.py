"""Runs the tests (`make test`): two halves in parallel, because the slow ones mostly wait.

The first half has the unit tests and then some slow ones, the second half the other slow ones, so that both take about
as long. Each half starts its own broker to kill.

With arguments it is pytest with these.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
FIRST = ("test_airflow.py", "test_brokers.py", "test_kill_erasure.py")
"""The slow tests of the first half."""


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments])
    slow = [str(TESTS / "slow" / name) for name in FIRST]
    with tempfile.TemporaryFile() as said:
        # Each half has its own cache, because both write what failed.
        others = subprocess.Popen(
            [*pytest, str(TESTS / "slow"), *(f"--ignore={path}" for path in slow), "-p", "no:cacheprovider"],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            first = subprocess.call([*pytest, str(TESTS / "unit"), *slow])
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
