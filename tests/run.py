"""Runs the tests (`make test`): in three parts at once, because many of the slow ones mostly wait.

The first part has the unit tests, the second the slow ones that compute, the third those that mostly wait: for brokers,
kills and timeouts. The third also takes some of the unit tests, so that all parts end at about the same time. Each part
starts its own broker to kill.

With arguments it is pytest with these.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

TESTS = Path(__file__).parent
WAITING = (
    *("slow/test_brokers.py", "slow/test_kill.py", "slow/test_services.py", "slow/test_soak.py"),
    *("slow/test_stream_broken.py", "unit/stream/test_amqp.py"),
)
"""The tests that use little CPU for their time."""

FILLING = ("unit/alarms", "unit/queries")
"""The unit tests that come after these."""


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments])
    third = [str(TESTS / name) for name in (*WAITING, *FILLING)]
    apart = [f"--ignore={path}" for path in third]
    others = [[str(TESTS / "slow"), *apart], third]
    with ExitStack() as files:
        started: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        try:
            for tests in others:
                said = files.enter_context(tempfile.TemporaryFile())
                # Each part has its own cache, because all write what failed.
                command = [*pytest, *tests, "-p", "no:cacheprovider"]
                started.append((subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT), said))
            failed = subprocess.call([*pytest, str(TESTS / "unit"), *apart])
            for process, said in started:
                failed = process.wait() or failed
                said.seek(0)
                sys.stdout.flush()
                sys.stdout.buffer.write(said.read())
        except BaseException:
            for process, _ in started:
                process.terminate()
                process.wait()
            raise
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
