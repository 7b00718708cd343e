"""What the header fields of a request may do beyond becoming ``HTTP_…``, which depends on who sends them.

A proxy that is trusted says whether its client used https (``secure_scheme_headers``), and may set
``SCRIPT_NAME`` and other variables whose names have an underscore (``forwarder_headers``). Nobody else can.
The address of the client stays that of the connection: X-Forwarded-For is the application's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote_to_bytes

from wsgitop.http.faults import RequestFault
from wsgitop.http.head import Request
from wsgitop.settings.table import Settings
from wsgitop.wsgi.types import WSGIEnvironment

_PORTS: Final = {"http": "80", "https": "443"}


class TrustedProxies:
    """Who is trusted, by the settings. ``script_name`` is where the application is mounted unless a proxy
    says so: gunicorn's environment variable SCRIPT_NAME.
    """

    def __init__(self, settings: Settings, script_name: str = "") -> None:
        entries = [entry.strip() for entry in settings.forwarded_allow_ips.split(",") if entry.strip()]
        self._any = "*" in entries
        self._networks = [ip_network(entry) for entry in entries if entry != "*"]
        self._trusted = HeaderRules(
            secure={environ_key(name): value for name, value in settings.secure_scheme_headers.items()},
            forwarders=frozenset(
                name.strip().upper() for name in settings.forwarder_headers.split(",") if name.strip()
            ),
            header_map=settings.header_map,
            script_name=script_name,
        )
        self._others = HeaderRules({}, frozenset(), settings.header_map, script_name)

    def rules_for(self, host: str) -> HeaderRules:
        """``host`` is a peer's address, '' for a unix socket, which only this machine can reach."""
        return self._trusted if self._trusts(host) else self._others

    def _trusts(self, host: str) -> bool:
        if self._any or not host:
            return True
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        # A socket for both families shows IPv4 as a part of IPv6.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


class HeaderRules:
    """What the header fields of one kind of peer mean.

    ``secure`` maps keys of environ to the value that says https, ``forwarders`` are names of fields in upper
    case (or ``*``), ``header_map`` is what happens to other fields with an underscore in their names.
    """

    __slots__ = ("_forwarders", "_header_map", "_secure", "script_name")

    def __init__(
        self, secure: Mapping[str, str], forwarders: frozenset[str], header_map: str, script_name: str
    ) -> None:
        self._secure = tuple(secure.items())
        self._forwarders = forwarders
        self._header_map = header_map
        self.script_name = mount_point(script_name)

    def apply(self, request: Request, environ: WSGIEnvironment) -> None:
        """Complete an environ that has the other fields, those without an underscore in their names.

        Raises RequestFault.
        """
        if self._secure:
            environ["wsgi.url_scheme"] = self._scheme(request.fields)
        if request.underscored:
            self._take_underscored(request, environ)

    def _scheme(self, fields: Mapping[str, str]) -> str:
        """By what all fields say that are there.

        Where they contradict each other one of them is not the proxy's, and nobody can tell which: whatever
        is answered could be kept by a cache for others. Refused, as gunicorn does.
        """
        https: bool | None = None
        for key, secure in self._secure:
            value = fields.get(key)
            if value is None:
                continue
            # Several of a name were joined by commas. A list is a chain of proxies; it is secure throughout
            # or it is not.
            said = all(part.strip(" \t").lower() == secure.lower() for part in value.split(","))
            if https not in (None, said):
                raise RequestFault(400, "Headers of the proxy contradict each other about https")
            https = said
        return "https" if https else "http"

    def _take_underscored(self, request: Request, environ: WSGIEnvironment) -> None:
        """Fields with an underscore where another may have a hyphen: in environ they have the same key."""
        forwarded: dict[str, str] = {}
        for name, value in request.underscored:
            if name in self._forwarders or "*" in self._forwarders:
                if forwarded.setdefault(name, value) != value:
                    raise RequestFault(400, f"Repeated {name}")
            elif self._header_map == "refuse":
                raise RequestFault(400, "An underscore in the name of a header field")
            elif self._header_map == "dangerous":
                key = environ_key(name)
                environ[key] = f"{environ[key]},{value}" if key in environ else value
        for name, value in forwarded.items():
            # Not joined with a field of nearly the same name, which may be the client's.
            environ[environ_key(name)] = value
        if "SCRIPT_NAME" in forwarded:
            environ["SCRIPT_NAME"] = mount_point(forwarded["SCRIPT_NAME"])


def environ_key(name: str) -> str:
    """The key under which environ has a header field, by its name as written in HTTP."""
    key = name.upper().replace("-", "_")
    return key if name.upper() in ("CONTENT-TYPE", "CONTENT-LENGTH") else "HTTP_" + key


def mount_point(script_name: str) -> str:
    """SCRIPT_NAME as PEP 3333 wants it, percent-decoded and without a slash at its end."""
    return unquote_to_bytes(script_name).decode("latin-1").rstrip("/")


def path_below(script_name: str, path: str) -> str:
    """The PATH_INFO of an application that is mounted at ``script_name``. Raises RequestFault 500: the proxy
    is told one thing and the server another.
    """
    rest = path[len(script_name) :]
    if not path.startswith(script_name) or rest[:1] not in ("", "/"):
        raise RequestFault(500, "The path does not begin with SCRIPT_NAME")
    return rest


def server_of(host: str | None, scheme: str) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT of a unix socket, which has neither: what the client believes to talk to.
    Never empty (PEP 3333).
    """
    name, colon, port = (host or "localhost").rpartition(":")
    if not colon or "]" in port:
        name, port = host or "localhost", ""
    return name, port or _PORTS[scheme]
