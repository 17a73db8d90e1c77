"""Runs the tests (`make test`): two halves in parallel, because the slow ones mostly wait.

The first half has the unit tests of what comes before the lake, and then those slow ones that share a broker to kill.
The second half has the other slow ones, and the unit tests of what works on the lake: these need no broker.

With arguments it is pytest with these.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
STREAM = ("test_brokers.py", "test_stream_broken.py", "test_examples.py", "test_soak.py")
LAKE = ("archive", "queries", "rollups", "sample_quality", "stores", "test_history.py", "test_mending.py")


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments])
    of_stream = [str(TESTS / "slow" / name) for name in STREAM]
    of_lake = [str(TESTS / "unit" / name) for name in LAKE]
    with tempfile.TemporaryFile() as said:
        # Each half has its own cache, because both write what failed.
        others = subprocess.Popen(
            [*pytest, str(TESTS / "slow"), *_without(of_stream), *of_lake, "-p", "no:cacheprovider"],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            first = subprocess.call([*pytest, str(TESTS / "unit"), *_without(of_lake), *of_stream])
            status = others.wait()
        except BaseException:
            others.terminate()
            others.wait()
            raise
        said.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(said.read())
    return first or status


def _without(paths: list[str]) -> list[str]:
    return [f"--ignore={path}" for path in paths]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
