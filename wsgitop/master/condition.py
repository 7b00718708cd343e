"""The state of the server in one word, and why if that needs saying: a pure function of roster and clock."""

from __future__ import annotations

from wsgitop.master.roster import Roster
from wsgitop.snapshot import MasterState


def condition(roster: Roster, now: float) -> tuple[MasterState, str]:
    """State and reason. ``degraded``: fewer workers serve than are wanted, and no change explains it."""
    if roster.stopping:
        return "stopping", "waiting for requests in flight"
    if roster.boot_failures:
        wait_s = max(0.0, roster.next_try_at(now) - now)
        return "degraded", f"{roster.boot_failures} failed boots in a row, next try in {wait_s:.0f} s"
    target = roster.target_generation()
    if roster.zygote_failures and not (target is not None and target.forks):
        return "degraded", "no new workers can be started: the application does not load"
    if reloading_to(roster) is not None:
        return "reloading", ""
    if not roster.ever_ready:
        return "booting", ""
    return _strength(roster)


def reloading_to(roster: Roster) -> int | None:
    """The generation that a reload under way leads to; None: there is none."""
    loading = roster.loading()
    if loading is not None and loading.roll and roster.ever_ready:
        return loading.number
    return roster.target if roster.rolling else None


def failed_reload(roster: Roster) -> int:
    """The generation of the last reload that was asked for, if it failed: what is on disk is not what serves.
    0: it did not.
    """
    newest = max((g.number for g in roster.generations.values() if g.commanded), default=0)
    return newest if newest > roster.target and roster.generations[newest].error else 0


def _strength(roster: Roster) -> tuple[MasterState, str]:
    if not roster.wanted:
        return "degraded", "no workers are wanted since WINCH; HUP or TTIN brings them back"
    serving = len(roster.ready())
    if serving >= roster.wanted:
        held = len(roster.quarantined())
        remarks = ["generations are mixed"] if roster.mixed() else []
        remarks += [f"{held} in quarantine"] if held else []
        failed = failed_reload(roster)
        remarks += [f"the reload to generation {failed} failed"] if failed else []
        return "serving", ", ".join(remarks)
    coming = sum(1 for worker in roster.live() if worker.coming)
    expected = serving > 0 and serving + coming >= roster.wanted
    return "serving" if expected else "degraded", f"{serving} of {roster.wanted} workers serve, {coming} boot"
