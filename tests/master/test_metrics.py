"""The metrics: what their text says to Prometheus's own parsers, and what a real server counts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import wsgitop
from tests.conftest import StartServer
from tests.support.server import free_port
from tests.support.waiting import eventually
from wsgitop.control.messages import RESULT_LIMIT_BYTES, MetricsResult
from wsgitop.errors import BindError, ConfigError
from wsgitop.master.accounts import BOUNDS_S, KEPT, OTHER, SLOTS, Counters, Place
from wsgitop.master.ledger import Ledger
from wsgitop.master.metrics import VALUE_LIMIT, Figures, Format, render
from wsgitop.master.monitoring import KEPT_S, Metrics, wanted_format
from wsgitop.master.responder import Asked
from wsgitop.master.surroundings import Surroundings, monitor_addresses
from wsgitop.settings.load import Layer, resolve
from wsgitop.settings.table import Settings
from wsgitop.snapshot import (
    GenerationSnapshot,
    ListenerSnapshot,
    MasterSnapshot,
    Snapshot,
    Totals,
    WorkerSnapshot,
    printable,
)

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counters(scale: int = 1) -> Counters:
    latencies = tuple(scale * number for number in range(len(BOUNDS_S) + 1))
    return Counters(
        requests=latencies[-1],
        errors=scale,
        responses=(0, scale, 0, scale, scale),
        received_bytes=200 * scale,
        sent_bytes=3000 * scale,
        latency_sum_ns=1_500_000_000 * scale,
        accepted=4 * scale,
        rejected=5 * scale,
        handovers=6 * scale,
        migrated_out=7 * scale,
        migrated_in=8 * scale,
        cpu_us=2_500_000 * scale,
        latencies=latencies,
    )


def worker(slot: int, generation: int = 2, **more: object) -> WorkerSnapshot:
    values = {"state": "idle", "pid": 100 + slot, "rss_bytes": 1000, "threads": 4} | more
    return WorkerSnapshot(slot=slot, generation=generation, started_at=1.0, age_s=1.0, **values)  # type: ignore[arg-type]


def figures(
    *,
    app: str = "shop:application",
    name: str = "shop",
    listener: str = "127.0.0.1:8000",
    workers: Iterable[WorkerSnapshot] = (),
    accounts: dict[Place, Counters] | None = None,
) -> Figures:
    return Figures(
        snapshot=Snapshot(
            sequence=1,
            at=1.0,
            master=MasterSnapshot(
                pid=1, generation=2, state="serving", started_at=1_700_000_000.125, uptime_s=9.5, bind=(),
                control="", app=app, name=name, version="1.2", python="3.13.0", workers_wanted=3,
                rss_bytes=5000,
            ),
            totals=Totals(pss_bytes=7000),
            workers=tuple(workers),
            generations=(GenerationSnapshot(number=2, state="ready", zygote_rss_bytes=600),),
            listeners=(ListenerSnapshot(listener, 2048, 3), ListenerSnapshot(listener, 2048, 3)),
        ),
        accounts={Place(2, 1): counters()} if accounts is None else accounts,
        place=lambda generation, slot: Place(generation, slot if slot <= SLOTS else OTHER),
        reloads={"done": 2, "failed": 1},
        deaths={("worker", "killed"): 3},
        master_cpu_s=1.25,
        zygotes_cpu_s=0.5,
        clients=2,
    )  # fmt: skip


def families(text: str, form: Format) -> list[Metric]:
    parse = openmetrics.text_string_to_metric_families if form == "openmetrics" else parse_text
    return list(parse(text))


def series(text: str, form: Format = "openmetrics") -> Series:
    """The value of each series; fails if one is there twice."""
    found: Series = {}
    for family in families(text, form):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def total(found: Series, sample: str, /, **labels: str) -> float:
    """The sum over the series of this name that have these labels."""
    return sum(
        value
        for (each, given), value in found.items()
        if each == sample and labels.items() <= dict(given).items()
    )


# -- the text ------------------------------------------------


@pytest.mark.parametrize("form", ["openmetrics", "text"])
def test_what_the_text_says(form: Format) -> None:
    workers = [
        worker(1, threads_busy=2, connections=5),
        worker(1, state="retiring"),
        worker(2, rss_bytes=None),
    ]
    found = series(render(figures(workers=workers), form), form)
    assert total(found, "wsgitop_build_info", version="1.2", python="3.13.0") == 1
    assert total(found, "wsgitop_server_info", app="shop:application", name="shop") == 1
    assert found["wsgitop_start_time_seconds", ()] == 1_700_000_000.125
    assert {dict(key[1])["state"] for key, value in found.items() if key[0] == "wsgitop_state" and value} == {
        "serving"
    }
    assert total(found, "wsgitop_reloads_total", outcome="done") == 2
    assert total(found, "wsgitop_deaths_total") == total(found, "wsgitop_deaths_total", cause="killed") == 3
    assert total(found, "wsgitop_workers") == 3 == found["wsgitop_workers_wanted", ()]
    assert total(found, "wsgitop_workers", state="idle") == 2
    assert total(found, "wsgitop_threads", slot="1", generation="2") == 8, "two processes in one slot"
    assert total(found, "wsgitop_threads_busy") == 2
    assert total(found, "wsgitop_worker_resident_memory_bytes", slot="1") == 2000
    assert not [
        key for key in found if key[0] == "wsgitop_worker_resident_memory_bytes" and ("slot", "2") in key[1]
    ]
    assert total(found, "wsgitop_listener_queue", listener="127.0.0.1:8000") == 3
    assert found["wsgitop_master_cpu_seconds_total", ()] == 1.25
    assert found["wsgitop_zygote_resident_memory_bytes", ()] == 600
    assert found["wsgitop_control_clients", ()] == 2
    assert total(found, "wsgitop_responses_total", status="4xx") == 1
    assert total(found, "wsgitop_connections_migrated_total", direction="in") == 8
    assert total(found, "wsgitop_worker_cpu_seconds_total") == 2.5
    latency = "wsgitop_request_latency_seconds"
    assert total(found, f"{latency}_sum") == 1.5
    assert total(found, f"{latency}_count") == total(found, f"{latency}_bucket", le="+Inf") == len(BOUNDS_S)
    assert total(found, f"{latency}_bucket", le="0.001") == 0


@pytest.mark.parametrize("form", ["openmetrics", "text"])
def test_each_family_has_a_type_a_meaning_and_its_unit(form: Format) -> None:
    found = families(render(figures(workers=[worker(1, pss_bytes=9)]), form), form)
    assert len(found) == 36
    for family in found:
        assert family.type in ("counter", "gauge", "histogram", "info"), family.name
        assert family.documentation.endswith("."), family.name
        unit = next((unit for unit in ("seconds", "bytes") if family.name.endswith(unit)), "")
        assert form == "text" or family.unit == unit, family.name


def test_the_page_names_each_family() -> None:
    page = (Path(wsgitop.__file__).parent / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"\bwsgitop_[a-z_]+", page))
    real = set()
    for family in families(render(figures(workers=[worker(1, pss_bytes=9)]), "openmetrics"), "openmetrics"):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        real.add(f"{family.name}{suffix}")
    assert real <= named
    assert {name.removesuffix("_bucket") for name in named} <= real, "a name on the page that is none"


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300), st.text(min_size=1, max_size=300))
def test_hostile_names_stay_within_their_quotes(app: str, name: str, listener: str) -> None:
    forms: tuple[Format, ...] = ("openmetrics", "text")
    for form in forms:
        found = series(render(figures(app=app, name=name, listener=listener, accounts={}), form), form)
        assert total(
            found, "wsgitop_server_info", app=printable(app, VALUE_LIMIT), name=printable(name, VALUE_LIMIT)
        )
        assert total(found, "wsgitop_listener_queue", listener=printable(listener, VALUE_LIMIT)) == 3


@pytest.mark.parametrize(
    "name", ['a"} 1\nx{y="', "\\", '\\"', "\ud800", "\r", "\x85\u2028", "a\\nb", "é \u202e"]
)
def test_hostile_names_by_hand(name: str) -> None:
    text = render(figures(name=name, listener=f"unix:/{name}"), "openmetrics")
    text.encode()
    assert total(series(text), "wsgitop_server_info", name=printable(name)) == 1
    assert text.isprintable() or set("".join(text.split("\n"))) <= set(filter(str.isprintable, text))


def test_the_largest_text_goes_through_the_control_socket() -> None:
    places = [Place(10**6 + g, s) for g in range(KEPT) for s in (*range(1, SLOTS + 1), OTHER)]
    accounts = dict.fromkeys([*places, Place(-(10**6), OTHER)], counters(1 << 40))
    workers = [worker(slot, 10**6, pss_bytes=1 << 40, rss_bytes=1 << 40) for slot in range(1, 1000)]
    text = render(figures(workers=workers, accounts=accounts), "openmetrics")
    series(text)
    assert len(json.dumps({"id": 1, "result": {"text": text}})) < RESULT_LIMIT_BYTES
    assert MetricsResult(text).text.endswith("\n# EOF\n")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/plain", "text"),
        ("application/openmetrics-text", "openmetrics"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            "openmetrics",
        ),
        ("text/plain;version=0.0.4;q=0.6, application/openmetrics-text;q=0.5", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text; q=x", "text"),
        (";,;q=;=,q", "text"),
    ],
)
def test_formats(accept: str, form: Format) -> None:
    assert wanted_format(accept) == form


class FakeSampler:
    """Makes a new picture each time."""

    def __init__(self) -> None:
        self.on_removed: list[object] = []
        self.gauges: dict[int, object] = {}
        self.looks = 0

    def cpu_s(self, _worker: int) -> float:
        return 0.0

    def zygotes_cpu_s(self) -> float:
        return 0.0

    def look(self) -> Snapshot:
        self.looks += 1
        return figures().snapshot


def test_a_crowd_that_asks_is_given_one_text() -> None:
    sampler, now = FakeSampler(), [5.0]
    metrics = Metrics(
        None, sampler, ledger=Ledger(), reloads=Counter(), clients=lambda: None, clock=lambda: now[0],  # type: ignore[arg-type]
    )  # fmt: skip
    assert [metrics.watched] == [False]
    for accept in ("", "application/openmetrics-text", ""):
        reply = metrics.answer(Asked("GET", "/metrics", accept))
        assert reply.status == 200 and b"wsgitop_state" in reply.body
        assert ("openmetrics" in reply.content_type) == reply.body.endswith(b"# EOF\n") == bool(accept)
    assert sampler.looks == 1 and [metrics.watched] == [True]
    now[0] += KEPT_S
    metrics.text()
    assert sampler.looks == 2
    assert metrics.answer(Asked("GET", "/", "")).status == 404
    now[0] += 1000
    assert [metrics.watched] == [False], "who has not asked for long does not come again"


@pytest.mark.parametrize("address", ["127.0.0.1:http", "unix:", "fd://x"])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^metrics: .* \(from --metrics\)"):
        resolve([Layer("--metrics", {"metrics": address})])


@pytest.mark.parametrize(
    ("health", "metrics", "expected"),
    [
        ("", "", {}),
        ("0:8001", "", {"health": "0.0.0.0:8001"}),
        ("", "9100", {"metrics": "127.0.0.1:9100"}),
        ("0:8001", "unix:m", {"health": "0.0.0.0:8001", "metrics": "unix:m"}),
        ("127.0.0.1:9100", "9100", {"health": "127.0.0.1:9100"}),
    ],
)
def test_one_address_has_one_listener(health: str, metrics: str, expected: dict[str, str]) -> None:
    assert monitor_addresses(Settings(health_bind=health, metrics=metrics)) == expected


def test_an_address_that_is_taken_is_named_with_its_own_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    health = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = Settings(health_bind=health, metrics=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(BindError, match=r"in use by(.|\n)*--metrics HOST:PORT"):
            Surroundings(settings, guest=False)
    host, _, port = health.partition(":")
    socket.create_server(
        (host, int(port)), reuse_port=False
    ).close()  # what was opened before is closed again


# -- a real server ------------------------------------------------


def curl(*args: str) -> str:
    """What curl reads. Fails if the answer is not 200."""
    words = ["curl", "-sSf", "-m", "10", "-H", "Accept: application/openmetrics-text;version=1.0.0", *args]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def assert_no_counter_went_back(before: Series, after: Series) -> None:
    names = set()
    for key, value in before.items():
        name = key[0]
        if name.endswith(("_total", "_bucket", "_count", "_sum")) and key in after:
            assert after[key] >= value, key
        if name.endswith("_total"):
            names.add(name)
    for name in names:
        assert total(after, name) >= total(before, name), name


@pytest.mark.process
@pytest.mark.foreign
@needs_curl
def test_no_counter_of_a_server_goes_back_over_a_killed_worker_and_a_reload(
    start_server: StartServer,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    # One listener for both.
    server = start_server("lab:application", "--workers", "2", "--metrics", address, "--health-bind", address)
    sent = 1  # of wait_until_serving

    def scrape() -> Series:
        return series(curl(f"http://{address}/metrics"))

    def serve(count: int, path: str = "/") -> None:
        nonlocal sent
        for _ in range(count):
            server.get(path)
        sent += count

    def complete() -> Series:
        found = scrape()  # a client has its answer before it is counted
        return found if total(found, "wsgitop_requests_total") == sent else {}

    serve(20)
    serve(3, "/fail")
    first = eventually(complete, what=f"{sent} requests")
    assert (
        total(first, "wsgitop_responses_total", status="5xx")
        == total(first, "wsgitop_request_errors_total")
        == 3
    )
    assert total(first, "wsgitop_request_latency_seconds_count") == sent
    assert total(first, "wsgitop_deaths_total") == 0

    victim = server.workers()[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in {w["pid"] for w in server.workers()} and len(server.workers()) == 2)
    second = eventually(complete, what=f"{sent} requests, with those of the dead")
    assert_no_counter_went_back(first, second)
    assert total(second, "wsgitop_deaths_total", process="worker", cause="killed") == 1

    serve(10)
    for number in range(1, KEPT + 2):
        with server.client() as client:
            client.reload()
        serve(number)
        found = eventually(complete, what=f"{sent} requests after reload {number}")
        assert_no_counter_went_back(second, found)
        second = found
        assert total(found, "wsgitop_reloads_total", outcome="done") == number
    assert found["wsgitop_generation", ()] == KEPT + 2
    generations = {dict(labels)["generation"] for name, labels in found if name == "wsgitop_requests_total"}
    assert generations == {"older-2", *map(str, range(3, KEPT + 3))}
    assert total(found, "wsgitop_requests_total", generation="older-2") >= 24
    assert "ready" in curl(f"http://{address}/ready")
    assert series(server.ctl("metrics").stdout).keys() >= found.keys()
    text = subprocess.run(
        ["curl", "-s", f"http://{address}/metrics"], check=True, capture_output=True, text=True
    )
    assert total(series(text.stdout, "text"), "wsgitop_requests_total") == sent

    for process in server.processes():
        ports = {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert (int(address.rpartition(":")[2]) in ports) == (process.pid == server.pid), process.cmdline()


@pytest.mark.process
@pytest.mark.foreign
@needs_curl
def test_a_new_master_answers_at_the_same_unix_socket(start_server: StartServer, runtime_dir: Path) -> None:
    path = runtime_dir / "metrics"
    server = start_server("hello:application", "--metrics", f"unix:{path}")

    def started_at() -> float:
        found = series(curl("--unix-socket", str(path), "http://localhost/metrics"))
        return found["wsgitop_start_time_seconds", ()]

    started, inode = started_at(), path.stat().st_ino
    with server.client() as client:
        client.upgrade()
    eventually(lambda: started_at() > started, what="an answer of the new master")
    assert path.stat().st_ino == inode
    server.process.wait(10)
    assert started_at() > started
    assert server.ctl("stop").returncode == 0
    server.wait_for_end()
    assert not path.exists()
