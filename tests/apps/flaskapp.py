"""A Flask site: a form, a session cookie, streaming and slow views, and the request's id in each answer."""

import time
from collections.abc import Iterator

from flask import Flask, Response, redirect, request, session, url_for
from markupsafe import escape
from werkzeug.wrappers import Response as AnyResponse

app = Flask(__name__)
app.secret_key = "of the tests only"


@app.after_request
def echo_request_id(response: Response) -> Response:
    """Send the client's request id back."""
    if identity := request.headers.get("X-Request-Id"):
        response.headers["X-Request-Id"] = identity
    return response


@app.get("/")
def index() -> str:
    """Greet by the name in the session."""
    return f"<p>Hello, {escape(session.get('name', 'stranger'))}</p>"


@app.route("/name", methods=["GET", "POST"])
def name() -> str | AnyResponse:
    """A form that keeps its field in the session."""
    if request.method == "POST":
        session["name"] = request.form["name"]
        return redirect(url_for("index"))
    return '<form method="post"><input name="name"><button>Send</button></form>'


@app.post("/upload")
def upload() -> dict[str, int | str]:
    """Say what arrived."""
    file = request.files["file"]
    return {"name": file.filename or "", "bytes": len(file.read())}


@app.get("/stream/<int:lines>")
def stream(lines: int) -> Response:
    """Lines of unknown total length."""

    def rows() -> Iterator[str]:
        for number in range(lines):
            yield f"line {number}\n"

    return Response(rows(), mimetype="text/plain")


@app.get("/slow/<float:seconds>")
def slow(seconds: float) -> str:
    """Answer after ``seconds``."""
    time.sleep(seconds)
    return f"slept {seconds:g} s\n"


@app.get("/fail")
def fail() -> str:
    """Raise."""
    raise RuntimeError("the site was asked to fail")
