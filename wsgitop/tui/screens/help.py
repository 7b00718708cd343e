"""The help, made from the bindings themselves: what is written here is what the keys do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from wsgitop.tui.screens.dialogs import Dialog
from wsgitop.tui.theme import Look, look_of

Section = tuple[str, tuple[Binding, ...]]

DISPLAY = {"ctrl+p": "^p", "ctrl+z": "^z", "ctrl+c": "^c", "escape": "Esc", "colon": ":", "slash": "/"}


EVERYWHERE = "Server and interface"
MOVING = "Moving"


def bindings_of(screen: type[Screen[Any]]) -> list[BindingType]:
    """The bindings of one of our screens and of its bases, its own first; those that it gives anew are left
    out of its bases'."""
    found: dict[str, BindingType] = {}
    for kind in screen.__mro__:
        if kind.__module__.startswith("wsgitop."):
            for binding in vars(kind).get("BINDINGS", ()):
                found.setdefault(binding.key if isinstance(binding, Binding) else binding[0], binding)
    return list(found.values())


def sections(groups: Iterable[tuple[str, Iterable[BindingType]]]) -> tuple[Section, ...]:
    """The bindings that describe themselves, under their headings. Bindings without a description are not
    for people."""
    found = []
    for title, bindings in groups:
        own = tuple(binding for binding in bindings if isinstance(binding, Binding) and binding.description)
        if own:
            found.append((title, own))
    return tuple(found)


def key_text(binding: Binding) -> str:
    """How the keys of a binding are written."""
    if binding.key_display:
        return binding.key_display
    return " ".join(DISPLAY.get(key.strip(), key.strip()) for key in binding.key.split(","))


class Help(Dialog[None]):
    """All keys. Any of the keys that open or close things closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,q,enter", "give_up", show=False)]
    DEFAULT_CSS = """
    Help > .box { width: 72; }
    Help VerticalScroll { height: auto; scrollbar-size-vertical: 1; }
    """

    def __init__(self, found: tuple[Section, ...], *, viewer: bool) -> None:
        super().__init__("wsgitop keys")
        self._sections, self._viewer = found, viewer

    def compose(self) -> ComposeResult:
        with self.box() as box:
            box.border_subtitle = Text("Esc back")
            with VerticalScroll():
                yield Static(help_text(self._sections, look_of(self), viewer=self._viewer), markup=False)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(VerticalScroll).focus()


def help_text(found: tuple[Section, ...], look: Look, *, viewer: bool) -> Text:
    """Keys and what they do, a heading above each group."""
    palette = look.palette
    text = Text()
    for index, (title, bindings) in enumerate(found):
        text.append(("\n" if index else "") + f"{title}\n", palette.style("accent", bold=True))
        for binding in bindings:
            text.append(f"  {look.plain(key_text(binding)):<12}", palette.style("text", bold=True))
            text.append(f"{look.plain(binding.tooltip or binding.description)}\n", palette.style("muted"))
    if viewer:
        text.append(
            "\nYou are a viewer here: reload, scale and signals are for operators.\n",
            palette.style("warning"),
        )
    text.rstrip()
    return text
