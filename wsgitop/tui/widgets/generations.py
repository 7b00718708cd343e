"""Generations of the code side by side, and how far the reload between two of them is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from textual.strip import Strip

from wsgitop.snapshot import GenerationSnapshot, GenerationState, ReloadSnapshot, Snapshot
from wsgitop.tui import figures
from wsgitop.tui.model import View
from wsgitop.tui.reloads import Reload, chosen_generations, severity_of
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets.canvas import Drawn, Line, frame_bottom, frame_top, framed

LEAST_CARD, MOST_CARD = 27, 46


class _Look(NamedTuple):
    """How a state reads: a word, a sign (its name), a colour."""

    word: str
    sign: str
    color: str


STATES: dict[GenerationState, _Look] = {
    "loading": _Look("loading", "running", "accent"),
    "ready": _Look("ready", "good", "good"),
    "failed": _Look("failed", "bad", "error"),
    "retiring": _Look("retiring", "warning", "warning"),
    "ended": _Look("ended", "info", "faint"),
}


def reading(generation: GenerationSnapshot, snapshot: Snapshot) -> _Look:
    """The state, or what it means where the word alone does not tell."""
    steps = snapshot.master.reload
    if generation.state != "ready":
        return STATES[generation.state]
    if steps is None or steps.stage == "loading":
        return STATES["ready"]._replace(word="serves" if generation.workers else "ready")
    if generation.number == steps.to_generation:
        return _Look("takes over", "running", "accent")
    return _Look("is replaced", "arrow", "warning")


class Generations(Drawn):
    """A card each, the newest at the right; where there are only few lines, a line each."""

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view.snapshot,)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        snapshot = view.snapshot
        if snapshot is None:
            return []
        serving = snapshot.master.generation
        if height < 6:
            chosen = chosen_generations(snapshot.generations, serving, height)
            return [_line(one, snapshot, look, width) for one in chosen]
        chosen = chosen_generations(snapshot.generations, serving, width // LEAST_CARD)
        cells = min(MOST_CARD, width // max(1, len(chosen)))
        cards = [_card(one, snapshot, look, cells, height) for one in chosen]
        blank = Strip.blank(width - cells * len(cards), look.palette.style("text"))
        return [Strip.join([*(card[row] for card in cards), blank]) for row in range(height)]


def _states(generation: GenerationSnapshot, snapshot: Snapshot) -> str:
    counted = Counter(w.state for w in snapshot.workers if w.generation == generation.number)
    return ", ".join(f"{number} {state}" for state, number in counted.most_common())


def _zygote(generation: GenerationSnapshot) -> str:
    if generation.zygote_pid is None:
        return "gone" if generation.state in ("ended", "failed") else figures.UNKNOWN
    return f"{generation.zygote_pid}, {figures.size(generation.zygote_rss_bytes)}"


def _line(generation: GenerationSnapshot, snapshot: Snapshot, look: Look, width: int) -> Strip:
    word, sign, color = reading(generation, snapshot)
    line = Line(look, width).gap(1).put(getattr(look.signs, sign), color, bold=True)
    line.put(f" gen {generation.number:<4}", "text", bold=True).put(word, color)
    line.put(" ").to(24).put(figures.plural(generation.workers, "worker"), "text")
    if generation.error:
        line.put(f"  {generation.error}", "error")
    else:
        line.put(f"  zygote {_zygote(generation)}", "muted")
    return line.strip()


def _card(
    generation: GenerationSnapshot, snapshot: Snapshot, look: Look, width: int, height: int
) -> list[Strip]:
    inner = width - 2
    word, sign, color = reading(generation, snapshot)

    def row(label: str, text: str, color: str = "text") -> Strip:
        return Line(look, inner).gap(1).put(label, "faint").to(9).put(text, color).strip()

    state = Line(look, inner).gap(1).put(getattr(look.signs, sign), color, bold=True).gap(1)
    lines = [state.put(word, color, bold=True).strip()]
    if generation.error:
        rest = generation.error
        for _ in range(height - 3):
            cut = rest if len(rest) <= inner - 2 else rest[: rest.rfind(" ", 1, inner - 1)]
            lines.append(Line(look, inner).gap(1).put(cut or rest, "error").strip())
            rest = rest[len(cut or rest) :].lstrip()
    else:
        lines.append(row("zygote", _zygote(generation), "muted" if generation.zygote_pid is None else "text"))
        lines.append(row("workers", str(generation.workers)))
        lines.append(row("", _states(generation, snapshot), "muted"))
    lines = lines[: height - 2]
    lines += [Line(look, inner).strip() for _ in range(height - 2 - len(lines))]
    title = f"generation {generation.number}"
    body = [framed(look, width, line) for line in lines]
    return [frame_top(look, width, title), *body, frame_bottom(look, width)]


@dataclass(frozen=True)
class Progress:
    """What the bar shows. ``running`` is the reload under way; ``done`` and ``begun`` are shares of its whole
    way; ``load_s`` is how long loading took the last time; ``last`` is the newest that is known of.
    """

    running: ReloadSnapshot | None = None
    elapsed_s: float = 0.0
    done: float = 0.0
    begun: float = 0.0
    load_s: float | None = None
    last: Reload | None = None
    mixed: bool = False


class ProgressBar(Drawn):
    """The reload under way with a bar as wide as the screen; without one, how the last one ended."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress()

    def show(self, view: View, progress: Progress) -> None:
        """Draw this."""
        self._progress = progress
        if self.view is view:
            self.redraw()
        self.view = view

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view, self._progress)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        progress = self._progress
        if progress.running is None:
            now = view.snapshot.at if view.snapshot is not None else None
            return [_last(progress, now, look, width)]
        return [
            _under_way(progress, progress.running, look, width),
            _bar(progress.done, progress.begun, look, width),
        ]


def _under_way(progress: Progress, running: ReloadSnapshot, look: Look, width: int) -> Strip:
    line = Line(look, width).gap(1).put(look.signs.running, "accent", bold=True).gap(1)
    if running.stage == "going back":
        line.put(f"going back to {running.to_generation} ", "error", bold=True)
    else:
        line.put(
            f"reload {running.from_generation}{look.signs.arrow}{running.to_generation} ", "accent", bold=True
        )
    line.put(f" {figures.elapsed(progress.elapsed_s):>5}", "text", bold=True)
    if running.stage == "loading":
        line.put("  loading the code", "text")
        if progress.load_s is not None:
            line.put(f" (last time {figures.elapsed(progress.load_s)})", "muted")
    line.put(f"  {running.ready}/{running.workers} ready", "good")
    line.put(f"  {running.old} old left", "warning" if running.old else "muted")
    return line.strip()


def _bar(done: float, begun: float, look: Look, width: int) -> Strip:
    """Full blocks for what is done, shaded ones for what has begun, dots for the rest."""
    cells = max(0, width - 8)
    filled = int(done * cells)
    shaded = max(0, min(cells, round((done + begun) * cells)) - filled)
    line = Line(look, width).gap(1)
    line.put(look.signs.shades[0] * filled, "good").put(look.signs.shades[1] * shaded, "accent")
    line.put(look.signs.shades[2] * (cells - filled - shaded), "rule")
    return line.put(f" {min(100, int((done + begun) * 100)):>3}%", "text", bold=True).strip()


def _last(progress: Progress, now: float | None, look: Look, width: int) -> Strip:
    line, last = Line(look, width).gap(1), progress.last
    if progress.mixed:
        line.put(look.signs.warning, "warning", bold=True)
        return line.put(" workers of several generations serve; H loads the code again", "warning").strip()
    if last is None:
        return line.put("no reload is known of; H loads the code again, workers one by one", "muted").strip()
    severity = severity_of(last)
    color = look.palette.severity(severity)
    line.put(look.signs.severity(severity), color, bold=True)
    line.put(f" the last, to generation {last.number}, ", "muted").put(last.ending, color, bold=True)
    if last.took_s is not None:
        line.put(f" after {figures.elapsed(last.took_s)}", "text")
    if now is not None:
        line.put(f"  {figures.age(now - last.at - (last.took_s or 0.0))} ago", "muted")
    if last.actor:
        line.put(f"  by {last.actor}", "muted")
    return line.strip()
