"""Dialogs to choose from: menus whose rows have a key each, and a number to type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from wsgitop.tui.screens.dialogs import Dialog
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.canvas import clip

ROW_LIMIT = 120
NOTE_WIDTH = 100
"""Below this, what stands under a menu may take a line more."""


class Row(NamedTuple):
    """One line of a menu. ``refused`` is why it cannot be chosen, '' if it can; ``keys`` are those that do
    the same without the menu; ``group`` is the heading that it stands under, '' for none; ``detail`` stands
    below while the row is highlighted.
    """

    name: str
    key: str
    text: str
    refused: str = ""
    keys: str = ""
    group: str = ""
    danger: bool = False
    detail: str = ""


class Menu(Dialog[str | None]):
    """Gives the name of the row that is chosen, by its key or by Enter; one that cannot be chosen says why
    and leaves the menu open. ``note`` stands below.
    """

    def __init__(self, title: str, rows: Sequence[Row], *, note: str = "", chosen: str = "") -> None:
        super().__init__(title)
        self.add_class("-menu")
        self._rows = tuple(rows)
        self._note = note or "Enter or its key chooses."
        self._chosen = chosen
        self._names = max((len(row.name) for row in rows), default=0)
        self._marked: Row | None = None
        self._keys = max((len(row.keys) for row in rows), default=0)

    def compose(self) -> ComposeResult:
        options: list[Option | None] = []
        group = ""
        for row in self._rows:
            if row.group != group:
                group = row.group
                if options:
                    options.append(None)
                options.append(Option(self._heading(group), disabled=True))
            options.append(Option(self._line(row), id=row.name))
        with self.box() as box:
            box.border_subtitle = Text("Esc back")
            yield OptionList(*options, markup=False)
            yield self.paragraph(self._note).add_class("note")

    def on_mount(self) -> None:
        super().on_mount()
        names = [row.name for row in self._rows]
        options = self.query_one(OptionList)
        options.focus()
        if names:
            wanted = self._chosen if self._chosen in names else names[0]
            options.highlighted = options.get_option_index(wanted)

    def on_resize(self) -> None:
        # The note below must stay on a low screen, and the box must not jump when the note grows.
        details = any(row.detail or row.refused for row in self._rows)
        lines = (3 if self.size.width < NOTE_WIDTH else 2) if details else 1
        self.query_one(".note").styles.height = lines
        self.query_one(OptionList).styles.max_height = max(3, int(self.size.height * 0.92) - 5 - lines)

    def _heading(self, group: str) -> Text:
        look = look_of(self)
        return Text(clip(look.plain(group), ROW_LIMIT), f"bold {look.palette.accent}")

    def _line(self, row: Row) -> Text:
        """Without a ground of their own, so that the highlight of the list shows. The sign says the same
        without colours.
        """
        look = look_of(self)
        palette = look.palette
        text = f"({row.refused})" if row.refused else row.text
        if palette.sixteen:  # the marked row has a strong ground: other colours would be lost on it
            key = name = "dim" if row.refused else "bold"
            keys, own = "dim", "dim" if row.refused else ""
        elif row.refused:
            key = name = keys = own = palette.faint
        else:
            key, keys, own = f"bold {palette.accent}", palette.faint, palette.muted
            name = f"bold {palette.error if row.danger else palette.text}"
        words = (
            (look.signs.cursor if row is self._marked else " ", key),
            (f"{row.key}  ", key),
            (f"{row.name:<{self._names}}  ", name),
            (f"{row.keys:<{self._keys}}  " if self._keys else "", keys),
            (clip(text, ROW_LIMIT), own),
        )
        return Text.assemble(*((look.plain(word), style) for word, style in words), no_wrap=True)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._choose(next(row for row in self._rows if row.name == event.option_id))

    def on_key(self, event: events.Key) -> None:
        row = next((row for row in self._rows if row.key == event.character), None)
        if row is not None:
            event.stop()
            event.prevent_default()
            self._choose(row)

    def _choose(self, row: Row) -> None:
        if not row.refused:
            self.dismiss(row.name)
        else:
            self._tell(f"{row.name}: {row.refused}", refused=True)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        row = next(row for row in self._rows if row.name == event.option_id)
        before, self._marked = self._marked, row
        for one in (before, row):
            if one is not None:
                event.option_list.replace_option_prompt(one.name, self._line(one))
        if row.detail or row.refused:
            self._tell(row.refused or row.detail, refused=bool(row.refused))
        else:
            self._tell(self._note)

    def _tell(self, text: str, *, refused: bool = False) -> None:
        note = self.query_one(".note", Static)
        note.update(Text(look_of(self).plain(text)))
        note.set_class(refused, "-refused")


class SignalMenu(Menu):
    """Which signal, or order, for who is named in the title."""


class ActionMenu(Menu):
    """What can be done to the server and the selected worker."""

    DEFAULT_CSS = "ActionMenu.-menu > .box { width: 110; }"


class ExportMenu(Menu):
    """What to write to a file."""


class NumberDialog(Dialog[int | None]):
    """A whole number from ``least`` to ``most``, typed. Enter gives it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(1)", show=False, priority=True),
        Binding("down", "step(-1)", show=False, priority=True),
    ]

    def __init__(
        self, title: str, text: str, *, label: str, value: int, least: int, most: int, yes: str
    ) -> None:
        super().__init__(title)
        self._text, self._label, self._value, self._yes = text, label, value, yes
        self._least, self._most = least, most

    def compose(self) -> ComposeResult:
        with self.box() as box:
            box.border_subtitle = Text("Enter takes it  Esc back")
            yield self.paragraph(self._text)
            with Horizontal(classes="number"):
                yield Static(f"{self._label} ", markup=False)
                yield Input(str(self._value), restrict=r"\d{0,5}", select_on_focus=True, compact=True)
            yield self.paragraph("").add_class("trouble")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="no", compact=True)
                yield Button(Text(self._yes), id="yes", compact=True)

    def on_mount(self) -> None:
        super().on_mount()
        field = self.query_one(Input)
        field.cursor_blink = False
        field.focus()

    def action_step(self, step: int) -> None:
        """The arrows count, within the bounds."""
        field = self.query_one(Input)
        number = int(field.value or self._value) + step
        field.value = str(max(self._least, min(number, self._most)))
        field.cursor_position = len(field.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._take()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "no":
            self.dismiss(None)
        else:
            self._take()

    def _take(self) -> None:
        text = self.query_one(Input).value
        if text and self._least <= int(text) <= self._most:
            self.dismiss(int(text))
            return
        self.query_one(".trouble", Static).update(
            Text(look_of(self).plain(f"It has to be a number from {self._least} to {self._most}."))
        )
