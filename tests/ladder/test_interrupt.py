import os
import signal
import subprocess
import sys

import pytest

from savile.errors import InterruptedRun
from savile.ladder.interrupt import interruptible


def test_the_first_signal_is_remembered_until_it_is_safe() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(InterruptedRun, match=r"SIGTERM.*The same command goes on"):
            interrupt.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from savile.ladder.interrupt import interruptible\n"
        "with interruptible():\n"
        "    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 75
    first, second = done.stderr.split("\n\n")
    assert first.strip() == "stopping after this step; press again to stop at once"
    assert second.startswith("stopped at once")
