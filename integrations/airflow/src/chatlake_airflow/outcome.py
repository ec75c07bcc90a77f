"""What an exit code of chatlake means to Airflow. The codes are those of docs/operations.md."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from chatlake_airflow.exceptions import AirflowException, AirflowFailException

# What chatlake is told to end with when there were no messages; Airflow's BashOperator skips on the same.
EMPTY = 99

# A later run, unchanged, goes on where this one stopped.
RETRIED = {
    75: "temporary trouble: network, rate limit, storage or clock",
    130: "interrupted",
    137: "killed, for want of memory perhaps",
    143: "terminated",
}

# The same command would end in the same way.
FAILED = {
    1: "a fault in chatlake: report it",
    2: "wrong command or configuration, or another lake",
    65: "the data is not as expected",
    69: "Stream failed some exports for good; the rest is committed, and later runs ask for them again",
    73: "the store ignores conditional writes",
    77: "credentials or permissions",
}

# Without an error of chatlake's own, as many lines say what there was.
LINES_WITHOUT_ERROR = 5


def error_of(returncode: int, last_lines: Sequence[str]) -> AirflowException:
    """What to raise for an exit code other than success: retried or not, with chatlake's own words on what to do."""
    said = "\n".join(_error(last_lines)) or "it said nothing on stderr"
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return AirflowException(f"chatlake was ended by {name}; the next attempt goes on where it was\n{said}")
    if returncode in RETRIED:
        return AirflowException(f"chatlake ended with {returncode} ({RETRIED[returncode]})\n{said}")
    meaning = FAILED.get(returncode, "no code of chatlake's")
    return AirflowFailException(f"chatlake ended with {returncode} ({meaning})\n{said}")


def _error(lines: Sequence[str]) -> Sequence[str]:
    """From the last `error:` on, which the hint ends."""
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("error: "):
            return lines[at:]
    return lines[-LINES_WITHOUT_ERROR:]
