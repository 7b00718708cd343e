"""The palette (``:``): every action by name, from the same bindings as the help."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

from wsgitop.tui.screens.help import EVERYWHERE, MOVING, key_text

if TYPE_CHECKING:
    from wsgitop.tui.app import WsgitopApp


LEFT_OUT = frozenset({"command_palette", "interrupt"})
"""The palette itself, and what another action does as well."""


class Commands(Provider):
    """All bindings that describe themselves, and the theme, which has no key."""

    def _commands(self) -> list[tuple[str, str, str]]:
        app = cast("WsgitopApp", self.app)
        found = []
        for title, bindings in app.help_sections():
            # Moving about by name would be a joke.
            if title == MOVING:
                continue
            namespace = "app" if title == EVERYWHERE else "screen"
            for binding in bindings:
                if binding.action in LEFT_OUT or app.is_greyed(binding.action.partition("(")[0]):
                    continue
                text = binding.tooltip or binding.description
                found.append(
                    (
                        f"{binding.description}",
                        f"{key_text(binding)}  {text}",
                        f"{namespace}.{binding.action}",
                    )
                )
        found.append(("theme", "swap the dark and the light theme", "app.swap_theme"))
        return found

    async def discover(self) -> Hits:
        for name, text, action in self._commands():
            yield DiscoveryHit(Text(name), partial(self.app.run_action, action), text=name, help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, text, action in self._commands():
            score = max(matcher.match(name), 0.8 * matcher.match(text))
            if score > 0:
                yield Hit(
                    score, matcher.highlight(name), partial(self.app.run_action, action), text=name, help=text
                )
