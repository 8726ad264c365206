"""Installs what the clients need, each from its package registry, into a cache outside of the tracked files.

The cache is `target/interop/` of the repository, or `MILLRACE_INTEROP_CACHE`. What is there is used again as long as
the files that pin its versions are the same. Two runs at a time do not disturb each other.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
CACHE = pathlib.Path(os.environ.get("MILLRACE_INTEROP_CACHE", ROOT / "target" / "interop"))
INSTALL_SECONDS = 900
# A registry that stumbles gets another try.
TRIES = 3


class InstallError(Exception):
    """What could not be installed, with the last lines of what the installer said."""


def _run(command, place):
    log = place / "install.log"
    with open(log, "ab") as out:
        out.write(f"$ {' '.join(map(str, command))}\n".encode())
        out.flush()
        try:
            code = subprocess.run(command, cwd=place, stdout=out, stderr=out, stdin=subprocess.DEVNULL, timeout=INSTALL_SECONDS).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InstallError(f"{command[0]}: {error}") from error
    if code:
        tail = log.read_text(errors="replace").splitlines()[-5:]
        raise InstallError(f"{command[0]} ended with {code}: {' | '.join(tail)}")


def _again(commands, place):
    for left in reversed(range(TRIES)):
        try:
            for command in commands:
                _run(command, place)
            return
        except InstallError:
            if not left:
                raise


@contextlib.contextmanager
def _locked(name):
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _installed(name, pins, build):
    """The directory of `name` in the cache, built by `build(directory)` unless it was, from the same `pins`."""
    digest = hashlib.sha256(b"\0".join(pathlib.Path(each).read_bytes() for each in pins)).hexdigest()
    place = CACHE / name
    stamp = place / ".pins"
    with _locked(name):
        if stamp.exists() and stamp.read_text() == digest:
            return place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        build(place)
        stamp.write_text(digest)
    return place


def python(client):
    """A virtual environment with the client's requirements.txt; returns its interpreter."""
    requirements = HERE / client / "requirements.txt"

    def build(place):
        # A virtual environment cannot be moved, and needs no pip of its own.
        _again([[sys.executable, "-m", "venv", "venv"],
                ["venv/bin/python", "-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", requirements]], place)

    return _installed(client, [requirements], build) / "venv" / "bin" / "python"


def npm(client):
    """The client's package.json and lock file, installed; returns the directory that holds node_modules."""
    pins = [HERE / client / "package.json", HERE / client / "package-lock.json"]

    def build(place):
        for each in pins:
            shutil.copy(each, place)
        _again([["npm", "ci", "--no-audit", "--no-fund", "--omit=dev"]], place)

    return _installed(client, pins, build)


def java_packages(client):
    """The jars of the client's pom.xml; returns the class path."""
    pom = HERE / client / "pom.xml"

    def build(place):
        shutil.copy(pom, place)
        _again([["mvn", "-q", "-B", "-ntp", "dependency:copy-dependencies", "-DoutputDirectory=lib"]], place)

    return f"{_installed(client, [pom], build)}/lib/*"


def java(client):
    """The jars of the client's pom.xml and its driver compiled against them; returns the class path.

    The driver is `java/*.java`, `java/tools/*.java` where there are tools, and the client's own `*.java`, where what
    differs between the versions is.
    """
    path = java_packages(client)
    folders = [HERE / "java", HERE / client]
    if json.loads((HERE / client / "client.json").read_text()).get("tools"):
        folders.append(HERE / "java" / "tools")
    sources = sorted(each for folder in folders for each in folder.glob("*.java"))

    def build(place):
        _run(["javac", "-proc:none", "-nowarn", "-encoding", "UTF-8", "-cp", path, "-d", "classes", *sources], place)

    place = _installed(f"{client}-driver", [*sources, HERE / client / "pom.xml"], build)
    return f"{place}/classes:{path}"


def go(client):
    """The client's Go program, built; returns its path."""
    sources = sorted(each for each in (HERE / client).iterdir() if each.suffix in (".go", ".mod", ".sum"))

    def build(place):
        for each in sources:
            shutil.copy(each, place)
        _again([["go", "build", "-o", "driver", "."]], place)

    return _installed(client, sources, build) / "driver"


def kcat():
    """Debian's kcat; returns the program's path."""
    found = shutil.which("kcat")
    if found:
        return found
    place = CACHE / "kcat"
    with _locked("kcat"):
        place.mkdir(parents=True, exist_ok=True)
        _again([["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "kcat"]], place)
    found = shutil.which("kcat")
    if not found:
        raise InstallError("kcat was installed but is not in PATH")
    return found
