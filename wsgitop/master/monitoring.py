"""Who asks for the metrics, and what is answered: ``GET /metrics`` at --metrics, and ``wsgitop ctl metrics``.

Who runs this: the master's loop. To put the text together costs milliseconds where there are many workers, so
it is kept for a moment, whoever asks and how often.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from wsgitop.master.accounts import Accounts
from wsgitop.master.ledger import Ledger
from wsgitop.master.metrics import CONTENT_TYPES, Figures, Format, render
from wsgitop.master.responder import Asked, Reply, refusal
from wsgitop.master.roster import Roster
from wsgitop.master.sampler import Sampler

PATH: Final = "/metrics"
KEPT_S: Final = 0.25
WATCHED_S: Final = 90.0
"""Somebody who has asked within this time is expected to ask again: Prometheus asks once a minute or more
often.
"""


class Metrics:
    """The metrics of a server. ``reloads`` counts them by outcome; ``clients`` tells how many the control
    socket has, None if there is none. ``clock`` is monotonic.
    """

    def __init__(
        self,
        roster: Roster,
        sampler: Sampler,
        *,
        ledger: Ledger,
        reloads: Counter[str],
        clients: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sampler = sampler
        self._ledger = ledger
        self._reloads = reloads
        self._clients = clients
        self._clock = clock
        self._accounts = Accounts(roster, sampler.cpu_s)
        self._figures: Figures | None = None
        self._texts: dict[Format, str] = {}
        self._taken_s = self._asked_s = 0.0
        sampler.on_removed.append(self._accounts.forget)

    @property
    def watched(self) -> bool:
        """Whether somebody collects them."""
        return bool(self._asked_s) and self._clock() - self._asked_s < WATCHED_S

    def text(self, form: Format = "openmetrics") -> str:
        """The metrics as they are now, or were KEPT_S ago."""
        now = self._asked_s = self._clock()
        if self._figures is None or now - self._taken_s >= KEPT_S:
            self._taken_s = now
            self._figures = self._take()
            self._texts.clear()
        text = self._texts.get(form)
        if text is None:
            text = self._texts[form] = render(self._figures, form)
        return text

    def answer(self, asked: Asked) -> Reply:
        """For the responder. The format is OpenMetrics for who accepts it, and else the older one."""
        if asked.path != PATH:
            return refusal(404, f"the metrics are at {PATH}")
        form = wanted_format(asked.accept)
        return Reply(200, self.text(form).encode(errors="backslashreplace"), CONTENT_TYPES[form])

    def _take(self) -> Figures:
        self._accounts.read(self._sampler.gauges)
        times = os.times()
        return Figures(
            snapshot=self._sampler.look(),
            accounts=self._accounts.counters(),
            place=self._accounts.place,
            reloads=dict(self._reloads),
            deaths=dict(self._ledger.ends),
            master_cpu_s=times.user + times.system,
            zygotes_cpu_s=self._sampler.zygotes_cpu_s(),
            clients=self._clients(),
        )


def wanted_format(accept: str) -> Format:
    """What a field Accept, in lower case, asks for (RFC 9110, 12.5.1): the heavier of the two, the older
    format if it does not say.
    """
    weights: dict[str, float] = {}
    for entry in accept.split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        weights[kind] = max(weight, weights.get(kind, 0.0))
    openmetrics = weights.get("application/openmetrics-text", 0.0)
    return "openmetrics" if openmetrics > 0 and openmetrics >= weights.get("text/plain", 0.0) else "text"
