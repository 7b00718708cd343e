"""What supervisor, zygotes and workers share: the roster, the settings in force, the scoreboards, the log.

Who runs this: the loop of the master. It has no behaviour of its own beyond keeping generations' belongings.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wsgitop.channel import messages as m
from wsgitop.channel.channel import pair
from wsgitop.logs.sink import Sink
from wsgitop.master.bindings import Bindings
from wsgitop.master.code_on_disk import CodeOnDisk
from wsgitop.master.configuration import Configuration
from wsgitop.master.deaths import Deaths
from wsgitop.master.events import EventLog
from wsgitop.master.inquiries import Inquiries
from wsgitop.master.listeners import Listener
from wsgitop.master.reload_logs import ReloadLogs
from wsgitop.master.roster import GenerationRecord, Roster
from wsgitop.master.sampler import Sampler
from wsgitop.master.slowest import Slowest
from wsgitop.master.watching import FileWatch
from wsgitop.scoreboard.board import Board
from wsgitop.settings.table import Settings

if TYPE_CHECKING:
    from wsgitop.master.hooks import ServerHooks


@dataclass(slots=True)
class Generation:
    """What belongs to a generation besides its record: settings, scoreboard, free rows."""

    settings: Settings
    board: Board
    free_rows: list[int]


@dataclass(slots=True)
class Context:
    """Shared by the parts of the master that act. ``settings`` are those of the newest generation that
    loaded.

    ``reconcile`` asks the plan again; ``give_up`` abandons a generation for a reason and goes back to the
    last good one. ``hooks`` comes with the zygotes that run them.
    """

    loop: asyncio.AbstractEventLoop
    configuration: Configuration
    settings: Settings
    listeners: list[Listener]
    bindings: Bindings
    logs: ReloadLogs
    watch: FileWatch
    roster: Roster
    sampler: Sampler
    events: EventLog
    deaths: Deaths
    sink: Sink
    reconcile: Callable[[], None]
    give_up: Callable[[GenerationRecord, str], None]
    generations: dict[int, Generation] = field(default_factory=dict)
    exchange: tuple[socket.socket, socket.socket] = field(default_factory=pair)
    """Over this workers pass connections to each other; it outlives them, and so does what is under way."""
    taken_over: bool = False
    """A new master serves at the same addresses, while this one stops."""
    hands_on: bool = False
    """And its workers take over the connections of those here."""
    hooks: ServerHooks = field(init=False)
    inquiries: Inquiries = field(default_factory=Inquiries)
    slowest: Slowest = field(default_factory=Slowest)
    code: CodeOnDisk = field(default_factory=CodeOnDisk)

    def follow(self, number: int) -> None:
        """From now on the settings of this generation are in force."""
        if number in self.generations:
            self.settings = self.generations[number].settings
            self.configuration.accept(self.settings)

    def add_files(self, number: int, message: m.ModuleFiles | m.SourceFiles) -> None:
        """Code of this generation comes from these files."""
        if isinstance(message, m.ModuleFiles):
            self.watch.add(number, message.files)
        else:
            self.code.add(number, message.files)

    def forget_generations(self, zygotes: set[int]) -> None:
        """Let go of generations that have neither zygote nor workers; the newest eight records are kept."""
        used = {w.generation for w in self.roster.live()} | zygotes | {self.roster.target}
        for number in [n for n in self.generations if n not in used]:
            self.generations.pop(number).board.close()
        keep = used | {self.roster.good} | set(sorted(self.roster.generations)[-8:])
        for number in [n for n in self.roster.generations if n not in keep]:
            del self.roster.generations[number]
        self.code.keep(self.roster.generations)
