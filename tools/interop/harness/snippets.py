"""Runs the programs that a document shows, as written.

In the section "Use your Kafka client", a fenced block whose first line is a comment with a file's name is that file,
a `sh` block is what the reader types, and a `text` block is what the commands before it print last. The files that
`tools/interop/snippets/` has too must be the same there, so that the two cannot drift apart.

The programs say 127.0.0.1:9092, so a door to the broker is opened there for as long as they run.
"""

import difflib
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from . import install
from .proxy import Door

SECTION = "Use your Kafka client"
PORT = 9092
SECONDS = 300
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^(?:#|//|<!--) ([\w.-]+\.\w+)(?: -->)?$")


class SnippetError(Exception):
    """A snippet that is not what it says."""


def section_of(text):
    """The lines under the heading, up to the next one as high; a `#` inside of a fence is no heading."""
    lines, level, fenced = [], 0, False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) (.*)", line)
        if heading and level and len(heading[1]) <= level:
            break
        if level:
            lines.append(line)
        elif heading and heading[2].strip() == SECTION:
            level = len(heading[1])
    if not level:
        raise SnippetError(f"there is no section `{SECTION}`")
    return "".join(lines)


def parts_of(section):
    """The files by name, and the scripts with what each prints last."""
    files, scripts = {}, []
    for language, body in FENCE.findall(section):
        name = NAME.match(body.split("\n", 1)[0])
        if name:
            files[name[1]] = body
        elif language == "sh":
            scripts.append([body, None])
        elif language == "text" and scripts:
            scripts[-1][1] = body
    if not files or not scripts:
        raise SnippetError(f"the section `{SECTION}` shows no program, or no command")
    return files, scripts


def _compare(name, body):
    kept = install.HERE / "snippets" / name
    if not kept.exists():
        raise SnippetError(f"{name} is not in {kept.parent}")
    if kept.read_text() != body:
        change = "\n".join(difflib.unified_diff(kept.read_text().splitlines(), body.splitlines(), str(kept), "the document", lineterm=""))
        raise SnippetError(f"{name} differs from its copy:\n{change}")


def _type(script, wanted, place, log):
    """Runs what a reader types, and compares the end of what it prints."""
    began = time.monotonic()
    with open(log, "ab") as out:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=place, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=out, timeout=SECONDS)
    first = script.strip().splitlines()[-1]
    if done.returncode:
        raise SnippetError(f"`{first}` ended with {done.returncode}; see {log}")
    printed = done.stdout.decode(errors="replace")
    if wanted and not printed.endswith(wanted):
        raise SnippetError(f"`{first}` printed:\n{printed}\nand not, at the end:\n{wanted}")
    print(f"{time.monotonic() - began:6.1f} s  {first}", flush=True)


def run(document, bootstrap, logs):
    """Runs them all; returns the exit code."""
    host, port = bootstrap.rsplit(":", 1)
    log = pathlib.Path(logs, "snippets.log")
    log.write_bytes(b"")
    install.kcat()
    door = Door((host, int(port)), "plain", PORT)
    try:
        files, scripts = parts_of(section_of(document.read_text()))
        with tempfile.TemporaryDirectory(prefix="interop-snippets-") as place:
            for name, body in files.items():
                _compare(name, body)
                pathlib.Path(place, name).write_text(body)
            for script, wanted in scripts:
                _type(script, wanted, place, log)
    except (SnippetError, subprocess.TimeoutExpired) as error:
        print(f"{document}: {error}", file=sys.stderr)
        return 1
    finally:
        door.sever()
    print(f"{len(scripts)} snippets ran as written")
    return 0
