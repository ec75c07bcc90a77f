"""What a summary says has changed: folders of a lake, by dataset and by day."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from typing import Any

DAY = "event_date="


def days_changed(summary: Mapping[str, Any]) -> list[str]:
    """The days, such as `2026-01-31`, of which messages or reactions have changed: what to refresh downstream."""
    folders = (folder for name in summary["partitions_changed"] for folder in name.split("/"))
    return sorted({folder.removeprefix(DAY) for folder in folders if folder.startswith(DAY)})


def by_dataset(partitions: Iterable[str]) -> dict[str, list[str]]:
    """`messages/event_date=2026-01-31` under `messages`: a dataset is what stands before the first `key=value`."""
    datasets: dict[str, list[str]] = {}
    for partition in sorted(partitions):
        folders = partition.split("/")
        depth = next((at for at, folder in enumerate(folders) if "=" in folder), len(folders) - 1)
        datasets.setdefault("/".join(folders[:depth]), []).append(partition)
    return datasets


def uri_of(lake: str, dataset: str) -> str:
    """Where the dataset is, in the form in which other DAGs name it in their schedules."""
    base = lake if "://" in lake else "file://" + os.path.abspath(lake)
    return f"{base.rstrip('/')}/{dataset}"
