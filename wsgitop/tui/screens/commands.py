"""The palette (``:``): every action by name, from the same tables as help and menu."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

from wsgitop.tui.actions import ACTIONS
from wsgitop.tui.screens.asking import who_of
from wsgitop.tui.screens.help import key_text, sections
from wsgitop.tui.themes import names

if TYPE_CHECKING:
    from wsgitop.tui.app import WsgitopApp


LEFT_OUT = frozenset({"command_palette", "interrupt"})
"""The palette itself, and what another action does as well."""

BY_TEXT = 0.1
"""The score of a command whose help has the words that were typed."""


class Command(NamedTuple):
    """``action`` as :meth:`App.run_action` takes it."""

    name: str
    text: str
    action: str


class Commands(Provider):
    """All bindings that describe themselves, the orders of the menu, and the themes. What cannot be done here
    is left out; the menu says why."""

    def _commands(self) -> list[Command]:
        app = cast("WsgitopApp", self.app)
        found = []
        for _, bindings, namespace in sections(app):
            # Moving about by name would be a joke.
            if not namespace:
                continue
            for binding in bindings:
                if binding.action in LEFT_OUT or app.is_greyed(binding.action.partition("(")[0]):
                    continue
                text = f"{key_text(binding)}  {binding.tooltip or binding.description}"
                found.append(Command(binding.description, text, f"{namespace}.{binding.action}"))
        workers = app.targets
        asking = app.asking
        for action in ACTIONS.values():
            if action.keys or asking.hindrance(action, workers):
                continue
            of = f"{who_of(workers)}: " if action.scope == "worker" else ""
            found.append(
                Command(action.name, f"m {action.key}  {of}{action.help}", f"app.act({action.name!r})")
            )
        found += [Command(f"theme: {name}", "colours", f"app.theme({name!r})") for name in self._themes()]
        return found

    def _themes(self) -> tuple[str, ...]:
        app = cast("WsgitopApp", self.app)
        return () if app.fixed_colors else tuple(name for name in names() if name != "ansi")

    async def discover(self) -> Hits:
        for name, text, action in self._commands():
            yield DiscoveryHit(Text(name), partial(self.app.run_action, action), text=name, help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, text, action in self._commands():
            score = matcher.match(name)
            # Letters strewn over a long text would find anything.
            if not score and query.strip().casefold() in text.casefold():
                score = BY_TEXT
            if score > 0:
                yield Hit(
                    score, matcher.highlight(name), partial(self.app.run_action, action), text=name, help=text
                )
