"""A file system of bounded size for each broker's data, and a ballast that fills it.

Needs root, loop devices and `mkfs.ext4`. Images are sparse files beside the brokers' directories; `end` unmounts them.
"""

import errno
import os
import pathlib
import shutil
import subprocess

IMAGE_BYTES = 768 << 20
TOOL_SECONDS = 60
# A fallocate that fails is tried with half as much, down to one block.
LARGEST, BLOCK = 64 << 20, 4096


class DiskError(Exception):
    """The machine does not do what the file systems need."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS)
    if done.returncode != 0:
        raise DiskError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class Disks:
    """Mounts a file system at each broker's data directory."""

    def __init__(self):
        self.mounted, self.full = {}, set()

    def begin(self, places):
        """Makes and mounts one at each of the brokers' places."""
        if os.geteuid() != 0:
            raise DiskError("file systems need root")
        missing = [tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]
        if missing:
            raise DiskError(f"there is no {', '.join(missing)}")
        try:
            for broker, place in places.items():
                self.mount(broker, pathlib.Path(place))
        except (DiskError, subprocess.TimeoutExpired) as error:
            self.end()
            raise DiskError(str(error)) from error

    def mount(self, broker, place):
        place.mkdir(parents=True, exist_ok=True)
        image = place.with_name(f"{place.name}.img")
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        # No journal: processes are killed here, not the machine.
        run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image))
        run("mount", "-o", "loop,nodev,nosuid", str(image), str(place))
        self.mounted[broker] = place

    def end(self):
        """Unmounts them all. A broker that was just killed may hold its own for a moment: then it goes when that is over."""
        for place in self.mounted.values():
            if subprocess.run(["umount", str(place)], capture_output=True, timeout=TOOL_SECONDS).returncode != 0:
                subprocess.run(["umount", "--lazy", str(place)], capture_output=True, timeout=TOOL_SECONDS)
        self.mounted = {}

    def fill(self, broker):
        """Leaves no block free; what the broker frees meanwhile is taken with the next call. Returns the bytes taken."""
        taken, size = 0, LARGEST
        self.full.add(broker)
        ballast = os.open(self.mounted[broker] / "ballast", os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            end = os.fstat(ballast).st_size
            while size >= BLOCK:
                try:
                    os.posix_fallocate(ballast, end, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
                    continue
                end, taken = end + size, taken + size
        finally:
            os.close(ballast)
        return taken

    def free(self, broker):
        self.full.discard(broker)
        (self.mounted[broker] / "ballast").unlink(missing_ok=True)

    def clear(self, broker):
        """Removes everything on it."""
        for each in self.mounted[broker].iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
