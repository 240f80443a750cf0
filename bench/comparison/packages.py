# SPDX-License-Identifier: Apache-2.0
"""Debian packages that are not installed: fetched by apt, unpacked into a folder of their own, seen by one server only. (Mail
servers exclude each other as packages, and an installed one would be left behind.)"""

import pathlib
import re
import shutil

from lab import LabError, run

# They bring what a server that is only measured does not run.
NOT_NEEDED = {"cron", "cron-daemon-common", "ed"}


def missing(packages):
    """The packages and those of their dependencies that are not installed."""
    plan = run("apt-get", "-s", "install", "--no-install-recommends", *packages, timeout=120).stdout
    return [name for name in re.findall(r"^Inst (\S+)", plan, re.MULTILINE) if name not in NOT_NEEDED]


def unpack(folder, packages, say):
    """The folder's `root` holds the packages' files, and `versions` says which these are; both are kept for the next time."""
    folder = pathlib.Path(folder)
    root, versions = folder / "root", folder / "versions"
    if not versions.exists():
        say(f"  fetching {' '.join(packages)}")
        shutil.rmtree(folder, ignore_errors=True)
        root.mkdir(parents=True)
        fetch(folder, packages)
        found = []
        for deb in sorted(folder.glob("*.deb")):
            run("dpkg-deb", "-x", deb, root)
            found.append(run("dpkg-deb", "-W", "--showformat=${Package} ${Version}", deb).stdout)
            deb.unlink()
        versions.write_text("\n".join(found) + "\n")
    return root, dict(line.split(" ", 1) for line in versions.read_text().splitlines())


def fetch(folder, packages):
    try:
        names = missing(packages)
    except LabError:  # no lists yet, or old ones
        run("apt-get", "update", "-q", timeout=300)
        names = missing(packages)
    done = run("apt-get", "download", "-q", *names, cwd=folder, check=False, timeout=300)
    if done.returncode != 0:  # what the lists name may have been replaced since
        run("apt-get", "update", "-q", timeout=300)
        run("apt-get", "download", "-q", *missing(packages), cwd=folder, timeout=300)


def seen_by(root, etc, shell, *command):
    """The command in a mount namespace where the packages lie over /usr and the folder `etc` over /etc; /var/lib and
    /var/spool are empty there, and what `shell` makes in them goes with the command."""
    script = ('mount -t overlay -o "lowerdir=$0/usr:/usr" overlay /usr; mount -t overlay -o "lowerdir=$1:/etc" overlay /etc; '
              'mount -t tmpfs lib /var/lib; mount -t tmpfs spool /var/spool; chmod 755 /var/lib /var/spool; '
              f'{shell}\nshift; exec "$@"')
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, str(root), str(etc), *[str(c) for c in command]]
