"""What chatlake logs, a JSON object on each line of stderr, as people read it."""

from __future__ import annotations

import json
import logging
from typing import Any

LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO, "DEBUG": logging.DEBUG, "TRACE": logging.DEBUG}

# What is told otherwise: by Airflow, which has a time and a level of its own, or in another place of the text.
NOT_FIELDS = ("level", "timestamp", "name", "message")


def read(line: str) -> tuple[int, str]:
    """The level of a line for Python's logging, and its text."""
    event = _event(line)
    if event is None:
        # What could not be parsed as a command, and what is no line of chatlake's log.
        return logging.ERROR if line.startswith("error: ") else logging.INFO, line
    level = LEVELS.get(event["level"], logging.INFO)
    if "exit_code" in event:
        shown = "".join(f"\n  {line}" for line in event.get("shown", "").splitlines())
        hint = f"\nhint: {event['hint']}" if "hint" in event else ""
        return level, f"error: {event['message']}{shown}{hint}"
    fields = (f"{name}={value}" for name, value in event.items() if name not in NOT_FIELDS)
    return level, " ".join((event["message"], *fields))


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"level", "message"} <= event.keys() else None
