"""Questions and texts that lie over the screen. In every question the focus is on Cancel: a stray Enter
does nothing."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from wsgitop.snapshot import printable
from wsgitop.tui.theme import look_of

Answer = TypeVar("Answer")

DIALOG_CSS = """
Dialog { align: center middle; background: $background 60%; }
Dialog:ansi { background: ansi_default; }
Dialog > .box {
    width: 64; max-width: 96%; height: auto; max-height: 92%;
    padding: 1 2; border: round $accent; background: $background;
    border-title-color: $accent; border-title-style: bold; border-subtitle-color: $foreground-muted;
}
Dialog.-danger > .box { border: round $error; border-title-color: $error; }
Dialog.-ascii > .box { border: ascii $accent; }
Dialog .buttons { height: auto; width: 100%; align-horizontal: right; margin-top: 1; }
Dialog Button {
    min-width: 10; width: auto; margin-left: 2; padding: 0 2;
    background: $raised; color: $foreground; text-style: none;
}
Dialog Button:hover { background: $rule; }
Dialog Button:focus {
    background: $accent; color: $background; text-style: bold; background-tint: transparent;
}
Dialog Button:focus:nocolor { text-style: bold reverse; }
Dialog Button:ansi:focus { text-style: bold reverse; }
Dialog OptionList, Dialog OptionList:focus {
    height: auto; border: none !important; padding: 0; background: $background;
    background-tint: transparent; scrollbar-size-vertical: 1; overflow-x: hidden;
}
Dialog.-menu > .box { width: 78; }
Dialog.-menu OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
Dialog.-menu .note { height: auto; margin-top: 1; color: $foreground-muted; }
Dialog.-menu .note.-refused { color: $warning; }
Dialog .number { height: 1; margin-top: 1; }
Dialog .number > Static { width: auto; color: $foreground-muted; }
Dialog .number Input, Dialog .number Input:focus {
    width: 8; height: 1; border: none; padding: 0 1; background: $raised; background-tint: transparent;
}
Dialog .trouble { height: auto; color: $warning; }
Dialog.-text > .box { width: 110; height: auto; }
Dialog.-text VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
"""


class Dialog(ModalScreen[Answer]):
    """A framed box in the middle. Escape gives None."""

    DEFAULT_CSS = DIALOG_CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "back", show=False),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
        Binding("ctrl+z", "app.suspend_process", show=False, priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(self, title: str, *, danger: bool = False) -> None:
        super().__init__(classes="-danger" if danger else "")
        self._title = title

    def box(self) -> Vertical:
        box = Vertical(classes="box")
        box.border_title = Text(look_of(self).plain(printable(self._title)))
        return box

    def on_mount(self) -> None:
        self.set_class(look_of(self).is_ascii, "-ascii")

    def action_give_up(self) -> None:
        self.dismiss(None)

    def action_interrupt(self) -> None:
        self.action_give_up()

    def paragraph(self, text: str, *, muted: bool = False) -> Static:
        """Text as it stands: never markup, no control characters, lines kept."""
        plain = "\n".join(printable(line.expandtabs(4)) for line in text.split("\n"))
        look = look_of(self)
        return Static(
            Text(look.plain(plain), style="dim" if muted and look.palette.sixteen else ""), markup=False
        )


class Confirm(Dialog[bool]):
    """Yes or no. ``yes`` is the word on the button that does it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        Binding("n", "answer(False)", show=False),
    ]

    def __init__(self, title: str, question: str, *, yes: str, danger: bool = False) -> None:
        super().__init__(title, danger=danger)
        self._question, self._yes = question, yes

    def compose(self) -> ComposeResult:
        with self.box():
            yield self.paragraph(self._question)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="no", compact=True)
                yield Button(Text(self._yes), id="yes", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Leave(Dialog[str | None]):
    """For the owner of a server: stop it, leave it running, or stay. Gives "stop", "leave" or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "answer('stop')", show=False),
        Binding("l", "answer('leave')", show=False),
    ]

    def __init__(self, question: str) -> None:
        super().__init__("Quit")
        self._question = question

    def compose(self) -> ComposeResult:
        with self.box():
            yield self.paragraph(self._question)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="no", compact=True)
                yield Button(Text("Leave it running"), id="leave", compact=True)
                yield Button(Text("Stop the server"), id="stop", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(None if event.button.id == "no" else event.button.id)

    def action_answer(self, answer: str) -> None:
        self.dismiss(answer)

    def action_interrupt(self) -> None:
        # Whoever presses ctrl+c twice means what it means for any server in the foreground.
        self.dismiss("stop")


class QuitConfirm(Confirm):
    """ctrl+c while attached: asks, because the key is hit out of habit; pressed again, it means it."""

    def action_interrupt(self) -> None:
        self.dismiss(True)


class TextDialog(Dialog[None]):
    """A text to read, such as the traceback of a failed reload: scrollable, and taken as it stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter,v", "give_up", "back", show=False),
        Binding("y", "copy", "copy the text", show=False),
    ]

    def __init__(self, title: str, heading: str, text: str) -> None:
        super().__init__(title, danger=True)
        self.add_class("-text")
        self._heading, self._text = heading, text

    def compose(self) -> ComposeResult:
        with self.box() as box:
            box.border_subtitle = Text("y copy  Esc back")
            if self._heading:
                yield self.paragraph(self._heading + "\n")
            with VerticalScroll():
                yield self.paragraph(self._text.rstrip("\n"))

    def on_mount(self) -> None:
        super().on_mount()
        scroll = self.query_one(VerticalScroll)
        scroll.focus()
        # The last line of a traceback is the one that names the fault.
        self.call_after_refresh(scroll.scroll_end, animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._text)
