"""The page of the logs: what it shows, and its keys."""

from __future__ import annotations

ERROR_LINES = (
    "[2025-10-09 08:51:57 +0000] [4242] [INFO] HUP by alice: reload, loading generation 7",
    "[2025-10-09 08:51:58 +0000] [4251] [INFO] worker 1 serves",
    "[2025-10-09 08:52:40 +0000] [4253] [WARNING] GET /report/2024 takes longer than 5 s",
    "[2025-10-09 08:53:02 +0000] [4253] [ERROR] unhandled exception in GET /report/2024?full=1",
    "Traceback (most recent call last):",
    '  File "/srv/shop/views.py", line 17, in report',
    "    rows = fetch(month)",
    "KeyError: 'month'",
    "[2025-10-09 08:53:05 +0000] [4255] [DEBUG] cache: 812 hits, 3 misses",
    "[2025-10-09 08:53:11 +0000] [4242] [CRITICAL] worker 5 was killed by the kernel: out of memory",
)
ACCESS_LINES = (
    '203.0.113.5 - - [09/Oct/2025:08:52:58 +0000] "GET /cart HTTP/1.1" 200 512 "-" "Mozilla/5.0"',
    '203.0.113.7 - alice [09/Oct/2025:08:53:02 +0000] "GET /report/2024?full=1 HTTP/1.1" 500 162 "-" "curl"',
    '203.0.113.9 - - [09/Oct/2025:08:53:06 +0000] "GET /wp-login.php HTTP/1.1" 404 95 "-" "masscan/1.3"',
)
