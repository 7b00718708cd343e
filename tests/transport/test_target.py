"""What users write to name a server."""

from __future__ import annotations

import re
import shlex
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.errors import UsageError
from wsgitop.transport.ssh import far_command, ssh_command
from wsgitop.transport.target import ExecTarget, SshTarget, Target, is_remote, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/run/shop.sock", Target("path", "/run/shop.sock")),
        ("./shop", Target("path", "./shop")),
        ("shop.sock", Target("path", "shop.sock")),
        ("unix:/run/shop.sock", Target("path", "/run/shop.sock")),
        ("unix:///run/shop.sock", Target("path", "/run/shop.sock")),
        ("unix:relative", Target("path", "relative")),
        ("4242", Target("pid", "4242")),
        (" 4242 ", Target("pid", "4242")),
        ("shop", Target("name", "shop")),
        ("shop.wsgi:application", Target("name", "shop.wsgi:application")),
        ("shop.wsgi:create_app()", Target("name", "shop.wsgi:create_app()")),
        ("٤٢", Target("name", "٤٢")),
        ("ssh://web", SshTarget("web")),
        ("ssh://web/", SshTarget("web")),
        (" ssh://alice@web-3.example ", SshTarget("web-3.example", "alice")),
        ("ssh://alice@web:2222/run/shop/c.sock", SshTarget("web", "alice", 2222, "/run/shop/c.sock")),
        ("ssh://web//run/shop/c.sock", SshTarget("web", server="/run/shop/c.sock")),
        ("ssh://web/4242", SshTarget("web", server="4242")),
        ("ssh://web/shop.wsgi:application", SshTarget("web", server="shop.wsgi:application")),
        ("ssh://web/c.sock", SshTarget("web", server="/c.sock")),
        ("ssh://web/-x", SshTarget("web", server="-x")),
        ("ssh://a%40corp@web/run/my%20shop%3F/c", SshTarget("web", "a@corp", 0, "/run/my shop?/c")),
        ("ssh://a@corp@web", SshTarget("web", "a@corp")),
        ("ssh://[fe80::1]:22/", SshTarget("fe80::1", "", 22)),
        ("ssh://a@[fe80::1%25eth0]", SshTarget("fe80::1%eth0", "a")),
        ("ssh://bücher.example", SshTarget("bücher.example")),
        (
            "exec:kubectl exec pod -- wsgitop relay",
            ExecTarget(("kubectl", "exec", "pod", "--", "wsgitop", "relay")),
        ),
        ("exec:'/opt/a b/relay' $(x) ;", ExecTarget(("/opt/a b/relay", "$(x)", ";"))),
    ],
)
def test_targets(text: str, target: Target | SshTarget | ExecTarget) -> None:
    assert parse_target(text) == target
    assert is_remote(text) is not isinstance(target, Target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b", "empty"),
        ("unix:", "names no path"),
        ("ssh://", "names no host"),
        ("ssh:///run/shop.sock", "names no host"),
        ("ssh://@web", "user"),
        ("ssh://alice:secret@web", "no password"),
        ("ssh://alice:@web", "no password"),
        ("ssh://-oProxyCommand=touch%20x", "host"),
        ("ssh://-web", "host"),
        ("ssh://-l@web", "user"),
        ("ssh://%2dl@web", "user"),
        ("ssh://%2doProxyCommand=x", "host"),
        ("ssh://web;reboot", "host"),
        ("ssh://$(reboot)", "host"),
        ("ssh://web%0areboot", "host"),
        ("ssh://web reboot", "host"),
        ("ssh://a'b@web", "user"),
        ("ssh://a%60b@web", "user"),
        ("ssh://a%5c@web", "user"),
        ("ssh://web%zz", "%"),
        ("ssh://web%ff", "%"),
        ("ssh://web/run%", "%"),
        ("ssh://web/%00", "control characters"),
        ("ssh://web/run/%1b[2J.sock", "control characters"),
        ("ssh://web/a%0ab", "control characters"),
        ("ssh://web/?command=x", "no query"),
        ("ssh://web/#x", "fragment"),
        ("ssh://web:", "1 to 65535"),
        ("ssh://web:0", "1 to 65535"),
        ("ssh://web:65536", "1 to 65535"),
        ("ssh://web:-1", "1 to 65535"),
        ("ssh://web:٢٢", "1 to 65535"),
        ("ssh://web:22x", "1 to 65535"),
        ("ssh://fe80::1", "several colons"),
        ("ssh://[fe80::1", "no IPv6 address"),
        ("ssh://[web]", "no IPv6 address"),
        ("ssh://[::1]22", "no IPv6 address"),
        ("ssh://[-oProxyCommand=x]", "no IPv6 address"),
        ("ssh://[fe80::1%25-x]", "no IPv6 address"),
        ("ssh://[fe80::1%25$(x)]", "no IPv6 address"),
        ("exec:", "without a command"),
        ("exec:  ", "without a command"),
        ("exec:'' relay", "without a command"),
        ("exec:docker 'x", "cannot be read"),
        ("tcp://127.0.0.1:9000", "plain TCP"),
        ("http://host/", "plain TCP"),
        ("127.0.0.1:9000", "plain TCP"),
        (":9000", "plain TCP"),
        ("web-3.example:9000", "plain TCP"),
        ("[::1]:9000", "plain TCP"),
    ],
)
def test_targets_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        parse_target(text)
    assert refusal.value.remedy


def test_what_is_wrong_is_told_without_a_password() -> None:
    for text in ("ssh://alice:s3cret@web", "ssh://alice:s3cret@-x", "ssh://alice:s3cret@web:x/%zz"):
        with pytest.raises(UsageError) as refusal:
            parse_target(text)
        assert "s3cret" not in str(refusal.value)


# -- how ssh is started --------------------------------------------------------------------------------------


def test_ssh_is_asked_for_what_was_meant() -> None:
    words = ssh_command(SshTarget("web", "alice", 2222, "/run/my shop/c.sock"))
    assert words[0] == "ssh"
    assert words[-3:] == ["--", "web", "wsgitop relay -- '/run/my shop/c.sock'"]
    assert words[-7:-3] == ["-p", "2222", "-l", "alice"]
    assert "BatchMode=yes" in words
    assert {"-T", "-a", "-x", "ClearAllForwardings=yes"} <= set(words)
    asking = ssh_command(SshTarget("web"), interactive=True)
    assert "BatchMode=yes" not in asking
    assert asking[-3:] == ["--", "web", "wsgitop relay"]
    # What the user has configured about hosts, keys and signs of life stays.
    assert not any(word.startswith(("StrictHost", "UserKnown", "ServerAlive", "-F")) for word in words)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("/srv/venv/bin/wsgitop", "/srv/venv/bin/wsgitop relay"),
        ("~/venv/bin/wsgitop", "~/venv/bin/wsgitop relay"),
        ("'~/my venv/bin/wsgitop'", "~/'my venv/bin/wsgitop' relay"),
        ("~root/x", "'~root/x' relay"),
        ("sudo -u www wsgitop", "sudo -u www wsgitop relay"),
        ("wsgitop;reboot $(x)", "'wsgitop;reboot' '$(x)' relay"),
    ],
)
def test_a_command_at_the_far_end(command: str, line: str) -> None:
    assert far_command(command, "") == line


@pytest.mark.parametrize("command", ["", " ", "'x", "a '\n'", "'\x1b'"])
def test_a_command_at_the_far_end_that_is_none(command: str) -> None:
    with pytest.raises(UsageError, match="--remote-command"):
        far_command(command, "")


HOSTILE = st.text(
    st.sampled_from("-$`'\"\\;&|<>(){}[]*?!~#%@:/=., \n\r\t\0\x1b\x7f\u2028é0a") | st.characters(),
    max_size=24,
)


SHELLS = st.text(st.sampled_from("-$`'\"\\;&|<>(){}[]*?!~#%@=., a0"), max_size=24)
"""What is printable of it."""


def mostly(good: str) -> st.SearchStrategy[str]:
    """So that what is hostile in one part is not refused for another."""
    return st.just(good) | st.just(good) | HOSTILE


@given(mostly("alice"), mostly("web"), mostly("22"), SHELLS | HOSTILE, st.booleans())
def test_nothing_of_a_target_becomes_an_option_or_reaches_a_shell(
    user: str, host: str, port: str, path: str, encoded: bool
) -> None:
    """Whatever is taken at all stands where it belongs, is one word there, and is what was written."""
    parts = [quote(part, safe="", errors="surrogatepass") if encoded else part for part in (user, host, path)]
    text = f"ssh://{parts[0]}@{parts[1]}:{port}/{parts[2]}" if user else f"ssh://{parts[1]}/{parts[2]}"
    try:
        target = parse_target(text)
        assert isinstance(target, SshTarget)
        words = ssh_command(target)
    except UsageError:
        return
    separator = words.index("--")
    assert words[separator : separator + 2] == ["--", target.host]
    assert separator + 3 == len(words)
    plain = ssh_command(SshTarget("web", "alice" if target.user else "", 22 if target.port else 0))
    assert len(words) == len(plain), "no further word"
    for name in filter(None, (target.host, target.user)):
        assert not name.startswith("-")
        assert not re.search(r"[\s$`'\"\\;&|<>(){}*?!~#]", name), "ssh may give it to a shell"
    line = words[-1]
    assert line.isprintable()
    assert shlex.split(line) == ["wsgitop", "relay", *(["--", target.server] if target.server else [])]


@given(HOSTILE)
def test_an_exec_target_is_words_or_is_refused(command: str) -> None:
    try:
        target = parse_target(f"exec:{command}")
    except UsageError:
        return
    assert isinstance(target, ExecTarget)
    assert list(target.words) == shlex.split(f"exec:{command}".strip().removeprefix("exec:"))
