"""Checks threads, memory, disk and data."""

import os
import shutil
from pathlib import Path
from typing import Any

from fmnist import system
from fmnist.doctor.findings import Finding
from fmnist.errors import DataError

LITTLE_DISK = 2 * 10**9  # bytes; the data, a few runs and their checkpoints


def as_size(count: int | None) -> str:
    """A number of bytes in gigabytes; empty for none."""
    return f"{count / 1e9:.1f} GB" if count else ""


def check_threads() -> Finding:
    """The machine's processors, and how much of them this process may use."""
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    share = _cpu_share()
    values: dict[str, Any] = {"processors": there, "usable": usable, "share": share}
    text = f"{usable} of {there} processors"
    if hasattr(os, "getloadavg"):
        values["load"] = round(os.getloadavg()[0], 1)
        text += f", load {values['load']}"
        if values["load"] > usable:
            text += ", which slows training down"
    if share is not None and share < usable:
        text += f"; the container may use {share:g} of them, and more threads than that would wait"
        mend = f"taskset --cpu-list 0-{max(int(share), 1) - 1} fmnist …"
        return Finding("threads", "note", text, mend, values)
    return Finding("threads", "ok", text, "", values)


def _cpu_share() -> float | None:
    """Processors' worth of time that the control groups permit; None for no limit."""
    shares = []
    for text in system.group_settings("cpu.max", "", ""):
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal():
            shares.append(int(quota) / int(period))
    quotas = system.group_settings("", "cpu", "cpu.cfs_quota_us")
    periods = system.group_settings("", "cpu", "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        if quota.isdecimal() and period.isdecimal():
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def check_memory() -> Finding:
    """How much memory this process can have."""
    free, limit = system.available(), system.container_limit()
    text = f"{as_size(free)} available" if free else "unknown"
    text += f", the container's limit is {as_size(limit)}" if limit else ""
    return Finding("memory", "ok", text, "", {"available": free, "limit": limit})


def check_disk() -> Finding:
    """How much disk is free here."""
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{as_size(free)} free in {Path.cwd()}"
    if free < LITTLE_DISK:
        text += ", which a few runs may use up"
        return Finding("disk", "note", text, "fmnist runs delete RUN", {"free": free})
    return Finding("disk", "ok", text, "", {"free": free})


def check_data() -> Finding:
    """Whether the data is here and verified; nothing is downloaded."""
    named = os.environ.get("FMNIST_DATA")
    looked: list[str] = []
    try:
        from fmnist.data import sources
        from fmnist.data.load import load_data

        if named:
            loaded = load_data(named)
            return Finding("data", "ok", f"{loaded.name} in {named} (FMNIST_DATA)")
        place = sources.obtain_set(None, looked.append, mirrors=(), apt=False)[0]
        return Finding("data", "ok", f"Fashion-MNIST in {place}, verified")
    except DataError as error:
        if named:
            return Finding("data", "wrong", str(error), "unset FMNIST_DATA")
        return Finding("data", "note", f"not downloaded yet ({'; '.join(looked)})", "fmnist data")
    except ImportError as error:
        return Finding("data", "note", f"not checked: {error.name} is missing, see packages")
