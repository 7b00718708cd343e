"""``wsgitop ctl`` for scripts and plain terminals: wait until the server is as wanted, follow its logs, a
live view without a screen, its settings and its past.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import click

from wsgitop.cli import tables
from wsgitop.client import AsyncClient, Client
from wsgitop.control.messages import LogLine, SettingShown, SubscribeArguments
from wsgitop.errors import ActionFailed, CannotConnect, UsageError
from wsgitop.logs.lines import LevelReader, is_at_least
from wsgitop.snapshot import Event, Second, Snapshot, printable
from wsgitop.tui import figures

POLL_S = 0.25
"""Between looks while something is waited for, and between tries to connect."""
REMOTE_POLL_S = 5.0
"""Between tries to connect to another machine: each is a login there."""
CLEAR = "\x1b[H\x1b[J"


# -- wait ----------------------------------------------------------------------------------------------------


def unmet(snapshot: Snapshot, *, ready: bool, generation: int | None, workers: int | None) -> str:
    """What of the conditions does not hold yet, in words; '' if all hold.

    ``ready``: as many workers as wanted serve, all of one generation, and no reload is under way.
    ``generation``: this one or a newer one serves, alone. ``workers``: so many serve.
    """
    master = snapshot.master
    count = sum(worker.state in ("idle", "busy") for worker in snapshot.workers)
    missing = ""
    if workers is not None and count != workers:
        missing = f"{count} workers serve"
    if generation is not None and not count:
        missing = "no worker serves"
    if ready and (master.state != "serving" or count < master.workers_wanted):
        missing = f"{master.state}, {count} of {master.workers_wanted} workers serve"
    if generation is not None and master.generation < generation:
        missing = f"generation {master.generation} serves"
    others = sum(w.generation != master.generation and w.state != "quarantined" for w in snapshot.workers)
    if others and (ready or generation is not None):
        missing = f"{others} workers of another generation than {master.generation} are left"
    if master.reload is not None and (ready or generation is not None):
        missing = f"a reload is under way: {tables.reload_text(master.reload)}"
    return missing + _because(snapshot) if missing else ""


def _because(snapshot: Snapshot) -> str:
    reason = snapshot.master.state_reason
    return f" ({printable(reason, 200)})" if reason else ""


def wait_for(
    make: Callable[[], AsyncClient], condition: Callable[[Snapshot], str], timeout_s: float
) -> Snapshot:
    """Wait until ``condition`` says ''. ``make`` gives a client that is not connected yet; while there is no
    server, and when the connection is lost, it is tried again. Raises ActionFailed when the time is over.
    """
    missing = "no answer yet"

    async def look() -> Snapshot:
        nonlocal missing
        while True:
            client: AsyncClient | None = None
            try:
                client = make()
                await client.connect()
                async for news in client.subscribe(POLL_S):
                    if isinstance(news, Snapshot):
                        missing = condition(news)
                        if not missing:
                            return news
            except CannotConnect as fault:
                missing = fault.cause
            finally:
                if client is not None:
                    await client.close()
            remote = client is not None and client.is_remote
            await asyncio.sleep(REMOTE_POLL_S if remote else POLL_S)

    async def within() -> Snapshot:
        async with asyncio.timeout(timeout_s or None):
            return await look()

    try:
        return asyncio.run(within())
    except TimeoutError:
        raise ActionFailed(
            f"not as wanted after {timeout_s:g} s: {missing}", "See `wsgitop ctl status` and the error log."
        ) from None


# -- logs and settings ---------------------------------------------------------------------------------------


def follow_log(client: Client, *, access: bool, past_lines: int, level: str) -> None:
    """Print the last lines of a log, and those that come, from a severity on."""
    arguments = SubscribeArguments(
        snapshots=False, events=False, error_log=not access, access_log=access, past_lines=past_lines
    )
    levels = LevelReader()
    for news in client.news(arguments):
        if not isinstance(news, LogLine):
            continue
        if news.dropped:
            click.echo(f"… {news.dropped} lines were missed …", err=True)
        if access or is_at_least(levels.level_of(news.text), level.upper()):
            click.echo(printable(news.text))


def print_log(client: Client, *, access: bool, past_lines: int, level: str) -> None:
    """Print the last lines of a log, from a severity on."""
    levels = LevelReader()
    for line in client.log(past_lines, access=access):
        if access or is_at_least(levels.level_of(line), level.upper()):
            click.echo(printable(line))


def settings_text(settings: tuple[SettingShown, ...]) -> str:
    """A line for each setting."""
    rows = [
        (one.name, printable(one.value, 60) or "–", printable(one.source, 40) or "default")
        for one in settings
    ]
    return tables.table(("SETTING", "VALUE", "SOURCE"), rows, left=frozenset({"SETTING", "VALUE", "SOURCE"}))


def setting_text(one: SettingShown) -> str:
    """All about one setting."""
    rows = [
        ("name", one.name), ("value", one.value or "–"), ("default", one.default or "–"),
        ("from", one.source or "default"), ("flags", ", ".join(one.flags) or "config file only"),
        ("section", one.section), ("help", one.help),
    ]  # fmt: skip
    return "\n".join(f"{name:<9}{printable(value)}" for name, value in rows)


def history_text(seconds: tuple[Second, ...]) -> str:
    """A line for each second of the past."""
    heads = ("TIME", "RPS", "ERR/S", "P50", "P95", "P99", "BUSY", "QUEUE", "CPU%", "RSS")
    rows = [
        (
            figures.moment(second.at, "%H:%M:%S"), figures.rate(second.rps),
            figures.rate(second.errors_per_s),
            *(figures.milliseconds(value) for value in (second.p50_ms, second.p95_ms, second.p99_ms)),
            f"{second.threads_busy}/{second.threads}", "–" if second.queue is None else str(second.queue),
            figures.percent(second.cpu_percent), figures.size(second.rss_bytes),
        )
        for second in seconds
    ]  # fmt: skip
    return tables.table(heads, rows, left=frozenset({"TIME"}))


# -- a live view without a screen ----------------------------------------------------------------------------


def show_top(client: Client, interval_s: float, count: int | None) -> None:
    """Print the picture and the newest events again and again; on a terminal in the same place."""
    clears = sys.stdout.isatty()
    latest: list[Event] = []
    shown = 0
    began = time.monotonic()
    for news in client.subscribe(interval_s):
        if isinstance(news, Event):
            latest = [*latest[-4:], news]
            continue
        text = tables.status_text(news)
        if latest:
            text += "\n" + tables.events_text(latest)
        head = (
            f"wsgitop top, every {interval_s:g} s, for {time.monotonic() - began:.0f} s; Ctrl-C ends it\n\n"
        )
        click.echo((CLEAR + head if clears else "") + text + ("" if clears else "\n"), nl=False)
        sys.stdout.flush()
        shown += 1
        if count and shown >= count:
            return


def find_setting(settings: tuple[SettingShown, ...], name: str) -> SettingShown:
    """The setting of this name, or that has this flag. Raises UsageError."""
    wanted = name.replace("-", "_") if not name.startswith("-") else name
    for one in settings:
        if wanted == one.name or wanted in one.flags:
            return one
    raise UsageError(f"no setting is called {name!r}", "See `wsgitop ctl settings`.")
