# SPDX-License-Identifier: Apache-2.0
"""deploy/lab.py: a little Internet on one machine, for the quickstart and the system tests.

Three network namespaces: a sender, the node (the relay's port is a net_tap whose kernel side is the node's
router), and a receiver with a real Postfix. Documentation addresses only. Everything stands in one temporary
folder and ends with close(): processes by their pid, namespaces with the mount namespace this runs in.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
RELAY_V4, RELAY_V6 = "192.0.2.25", "2001:db8:0:1::25"
SENDER_V4, SENDER_V6 = "198.51.100.10", "2001:db8:0:2::10"
RECEIVER_V4, RECEIVER_V6 = "203.0.113.25", "2001:db8:0:3::25"
HOSTNAME = "relay.example.test"
MX = "mx.example.test"
DOMAIN = "dest.example.test"


class LabError(Exception):
    """Something the lab needs did not come about; the text is for a person."""


def run(*args, check=True, **kwargs):
    """Runs a command to its end; its output as text."""
    kwargs.setdefault("timeout", 2 * PATIENCE)
    done = subprocess.run([str(a) for a in args], text=True, capture_output=True, **kwargs)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(str(a) for a in args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


PATIENCE = 60  # seconds: no wait is given up sooner, however slow and busy the machine is


def wait_for(what, seconds, condition, interval=0.05):
    """Waits until condition() is true; its value. A person is told what did not come about. `seconds` matters only
    where that may rightly take longer than PATIENCE: it bounds a failure, and says nothing of how fast something is."""
    seconds = max(seconds, PATIENCE)
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {seconds} s in vain: {what}")
        time.sleep(interval)


class Certs:
    """A lab CA and certificates from it, made by openssl."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = self.folder / "ca.pem"
        self._ca_key = self.folder / "ca.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self._ca_key, "-out", self.ca, "-days", "30", "-subj", "/CN=Lab CA")

    def make(self, name, names, key="ec", days=30, start=None):
        """A key and certificate for DNS names; the path of one PEM with key, leaf and CA."""
        pem, csr = self.folder / f"{name}.pem", self.folder / f"{name}.csr"
        keyfile, leaf = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else [key if ":" in key else "rsa:2048"]
        run("openssl", "req", "-newkey", *kind, "-nodes", "-keyout", keyfile, "-out", csr, "-subj", f"/CN={names[0]}",
            "-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names))
        extra = ["-days", str(days)]
        if start:
            extra = ["-not_before", start[0], "-not_after", start[1]]
        run("openssl", "x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self._ca_key, "-CAcreateserial",
            "-out", leaf, "-copy_extensions", "copy", *extra)
        pem.write_text(keyfile.read_text() + leaf.read_text() + self.ca.read_text())
        return pem


class Lab:
    """The namespaces, and what runs in them."""

    def __init__(self, build="build", folder=None, cores=1, hugepages="no", settings=None, verbose=False):
        if not os.environ.get("HIKYAKU_DEBIAN13"):
            raise LabError("run this through deploy/root, which gives it Debian 13 and namespaces of its own")
        self.bin = CHECKOUT / build
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="hikyaku-lab.", dir="/tmp"))
        self.cores, self.hugepages, self.settings = cores, hugepages, settings or {}
        self.verbose = verbose
        self.tag = f"hk{os.getpid()}"
        self.processes = []
        self.stack = contextlib.ExitStack()
        self.control = self.relay = self.bridge = None
        self.config = self.folder / "hikyaku.yaml"
        self.records = self.folder / "records.jsonl"
        self.api = self.folder / "api.sock"

    # ---- namespaces ----

    def ns(self, name):
        return f"{self.tag}-{name}"

    def in_ns(self, name, *args):
        return ["ip", "netns", "exec", self.ns(name), *[str(a) for a in args]]

    def _link(self, ns, v4, v6, gate_v4, gate_v6):
        inside, outside = "eth0", f"to-{ns}"
        node = self.ns("node")
        run("ip", "-n", node, "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.ns(ns))
        for dev, netns, a4, a6 in ((outside, node, gate_v4, gate_v6), (inside, self.ns(ns), v4, v6)):
            run("ip", "-n", netns, "addr", "add", f"{a4}/24", "dev", dev)
            run("ip", "-n", netns, "addr", "add", f"{a6}/64", "dev", dev, "nodad")
            run("ip", "-n", netns, "link", "set", dev, "up")
        run("ip", "-n", self.ns(ns), "route", "add", "default", "via", gate_v4)
        run("ip", "-n", self.ns(ns), "route", "add", "default", "via", gate_v6)

    def make_network(self):
        for name in ("node", "sender", "receiver"):
            run("ip", "netns", "add", self.ns(name))
            self.stack.callback(run, "ip", "netns", "del", self.ns(name), check=False)
            run("ip", "-n", self.ns(name), "link", "set", "lo", "up")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run(*self.in_ns("node", "sysctl", "-q", "-w", f"{key}=1"))
        self._link("sender", SENDER_V4, SENDER_V6, "198.51.100.1", "2001:db8:0:2::1")
        self._link("receiver", RECEIVER_V4, RECEIVER_V6, "203.0.113.1", "2001:db8:0:3::1")

    def _address_tap(self):
        """The tap appears when the relay starts; its kernel side, or the bridge's, is the relay's router."""
        node = self.ns("node")
        wait_for("the relay's tap interface", 20, lambda: self._alive(self.relay, "relay") and
                 run("ip", "-n", node, "link", "show", "hktap0", check=False).returncode == 0)
        if self.bridge is None:
            run("ip", "-n", node, "link", "set", "hktap0", "arp", "on", "up")
            run(*self.in_ns("node", "sysctl", "-q", "-w", "net.ipv6.conf.hktap0.disable_ipv6=0"))
        self._address("hktap0" if self.bridge is None else "hkrouter")

    def _address(self, dev):
        node = self.ns("node")
        run("ip", "-n", node, "addr", "replace", "192.0.2.1/24", "dev", dev)
        run("ip", "-n", node, "addr", "replace", "2001:db8:0:1::1/64", "dev", dev, "nodad")
        run("ip", "-n", node, "link", "set", dev, "up")
        run("ip", "-n", node, "neigh", "flush", "dev", dev)  # a relay started again may have another MAC address

    # ---- a bad network before the relay ----

    def start_bridge(self, **options):
        """Carries the relay's frames by tests/tools/tap_bridge, with its options (loss="1%", delay_ms=10, seed=7):
        from now on, also if the relay runs or is started again, until stop_bridge()."""
        if self.bridge is not None:
            self.stop_bridge()
        args = [a for key, value in options.items() for a in (f"--{key.replace('_', '-')}", value)]
        node, tool = self.ns("node"), self.bin / "tests" / "tools" / "tap_bridge"
        (self.folder / "bridge.log").unlink(missing_ok=True)
        run("ip", "-n", node, "addr", "flush", "dev", "hktap0", check=False)
        self.bridge = self.start("node", "bridge", tool, "--relay", "hktap0", "--router", "hkrouter", *args)
        wait_for("the bridge's interface", 10, lambda: self._alive(self.bridge, "bridge") and
                 "UP" in run("ip", "-n", node, "link", "show", "hkrouter", check=False).stdout)
        for key in ("net.ipv4", "net.ipv6"):  # what is tried is the relay, not the kernel's patience with ARP and NDP
            run(*self.in_ns("node", "sysctl", "-q", "-w", f"{key}.neigh.hkrouter.mcast_solicit=20",
                            f"{key}.neigh.hkrouter.retrans_time_ms=300"))
        self._address("hkrouter")

    def stop_bridge(self):
        """Ends it; its counts, by direction. Between the relay and the kernel there is only the tap again."""
        self.stop(self.bridge)
        self.bridge = None
        if run("ip", "-n", self.ns("node"), "link", "show", "hktap0", check=False).returncode == 0:
            self._address_tap()
        return json.loads((self.folder / "bridge.log").read_text().splitlines()[-1])

    # ---- processes ----

    def start(self, ns, name, *args, env=None, stdin=None):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(self.in_ns(ns, *args), stdout=log, stderr=log, stdin=stdin or subprocess.DEVNULL,
                                   env={**os.environ, **(env or {})}, start_new_session=True)
        log.close()
        self.processes.append(process)
        return process

    def stop(self, process, how=signal.SIGTERM, seconds=PATIENCE):
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log_tail(self, name, lines=15):
        path = self.folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    # ---- the node ----

    def write_config(self):
        def merge(into, more):
            for key, value in more.items():
                if isinstance(value, dict) and isinstance(into.get(key), dict):
                    merge(into[key], value)
                else:
                    into[key] = value
        config = {
            "node": {"hostname": HOSTNAME},
            "paths": {"spool": str(self.folder / "spool"), "store": str(self.folder / "store.db"),
                      "control_socket": str(self.folder / "control.sock"), "api_socket": str(self.api),
                      "records": str(self.records)},
            "dataplane": {
                "cores": self.cores, "hugepages": self.hugepages, "memory_mb": 256, "mbufs_per_core": 16384,
                "ports": [{"name": "lan0", "device": "net_tap0,iface=hktap0",
                           "addresses": [f"{RELAY_V4}/24", f"{RELAY_V6}/64"]}],
                "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1", "port": "lan0"},
                           {"to": "::/0", "via": "2001:db8:0:1::1", "port": "lan0"}]},
            "listeners": [{"name": "smtp", "address": "*", "port": 25, "implicit_tls": False, "enabled": True},
                          {"name": "smtps", "address": "*", "port": 465, "implicit_tls": True, "enabled": True}],
            "limits": {"connections": 2000, "connections_per_client": 500, "mail_memory_mb": 64},
            "spool": {"segment_mb": 16, "reload_memory_mb": 32},
            "queue": {"retry_first": 30},
            "log": {"level": "info"},
        }
        merge(config, self.settings)
        self.config.write_text(json.dumps(config, indent=1))  # JSON is YAML

    def start_control(self):
        self.control = self.start("node", "control", self.bin / "control" / "daemon" / "hikyaku-control",
                                  "--config", self.config)
        wait_for("hikyaku-control's API", 10, lambda: self._alive(self.control, "control") and self._answers())

    def _answers(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(1)
                s.connect(str(self.api))
            return True
        except OSError:
            return False

    def _alive(self, process, name):
        if process.poll() is not None:
            raise LabError(f"{name} ended with {process.returncode}:\n{self.log_tail(name)}")
        return True

    def start_relay(self, wait=True):
        self.relay = self.start("node", "relay", self.bin / "relay" / "hikyaku-relay", "--config", self.config)
        try:
            self._address_tap()
        except LabError as e:
            raise LabError(f"{e}\n{self.log_tail('relay')}") from e
        if wait:
            wait_for("the relay to greet", 20, lambda: self._alive(self.relay, "relay") and self.greets())

    def greets(self, ns="sender", host=RELAY_V4, port=25):
        code = ("import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])),2)\n"
                "s.settimeout(3)\nsys.exit(0 if s.recv(3)==b'220' else 1)")
        return run(*self.in_ns(ns, "python3", "-c", code, host, port), check=False).returncode == 0

    def kill_relay(self):
        """Like a power cut, as far as a process can have one."""
        self.relay.kill()
        self.relay.wait()

    def ctl(self, *args, check=True, stdin=None):
        """hikyakuctl; its output."""
        done = run(self.bin / "control" / "ctl" / "hikyakuctl", "--socket", self.api, *args, check=False, input=stdin)
        if check and done.returncode != 0:
            raise LabError(f"hikyakuctl {' '.join(str(a) for a in args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if check else done

    def ctl_json(self, *args):
        return json.loads(self.ctl("--json", *args))

    def read_records(self, **match):
        """Records so far whose fields are as given."""
        found = []
        if self.records.exists():
            for line in self.records.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if all(record.get(k) == v for k, v in match.items()):
                        found.append(record)
        return found

    def wait_for_records(self, count=1, **match):
        """The records whose fields are as given, once there are at least so many. They are written some time after what
        they tell of, and those of two cores in any order."""
        def look():
            found = self.read_records(**match)
            return found if len(found) >= count else None
        return wait_for(f"{count} records with {match}", PATIENCE, look)

    # ---- the receiver ----

    def start_postfix(self, ns="receiver", name="postfix", hostname=MX, pem=None, extra=None, domains=DOMAIN):
        """A real Postfix that takes mail for `domains` into one maildir."""
        base = self.folder / name
        conf, mail = base / "conf", base / "mail"
        for d in (conf, base / "queue", base / "data", mail):
            d.mkdir(parents=True, exist_ok=True)
        settings = {
            "compatibility_level": "3.6", "queue_directory": base / "queue", "data_directory": base / "data",
            "maillog_file": base / "log", "maillog_file_prefixes": str(self.folder),
            "myhostname": hostname, "mydestination": "", "inet_interfaces": "all",
            "mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "reject_unauth_destination",
            "virtual_mailbox_domains": domains, "virtual_mailbox_base": mail, "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": "static:65534", "virtual_gid_maps": "static:65534", "virtual_minimum_uid": "1",
            "message_size_limit": "60000000", "virtual_mailbox_limit": "0", "smtputf8_enable": "yes",
            "smtpd_tls_loglevel": "1", "smtpd_tls_received_header": "yes", "smtpd_peername_lookup": "no",
            "smtpd_client_connection_count_limit": "0", "smtpd_recipient_limit": "2000",
            "smtpd_client_restrictions": "", "disable_dns_lookups": "yes", "smtp_dns_support_level": "disabled",
            **({"smtpd_tls_chain_files": pem, "smtpd_tls_security_level": "may"} if pem else {}),
            **(extra or {}),
        }
        (conf / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        (conf / "master.cf").write_text("\n".join([
            "smtp inet n - n - 100 smtpd", "smtps inet n - n - 100 smtpd -o smtpd_tls_wrappermode=yes",
            "pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr", "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
            "flush unix n - n 1000? 0 flush", "proxymap unix - - n - - proxymap", "error unix - - n - - error",
            "retry unix - - n - - error", "smtp unix - - n - - smtp", "discard unix - - n - - discard", "virtual unix - n n - - virtual",
            "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache", "postlog unix-dgram n - n - 1 postlogd", ""]))
        shutil.chown(base / "data", "postfix")
        os.chmod(self.folder, 0o755)
        shutil.chown(mail, 65534, 65534)
        process = self.start(ns, name, "postfix", "-c", conf, "start-fg")
        self.stack.callback(run, *self.in_ns(ns, "postfix", "-c", conf, "stop"), check=False)
        wait_for("Postfix to greet", 20, lambda: self.greets(ns=ns, host="127.0.0.1"))
        return process

    def mailbox(self, name="postfix"):
        """The mails delivered so far: (file name, bytes)."""
        new = self.folder / name / "mail" / "all" / "new"
        return [(p.name, p.read_bytes()) for p in sorted(new.iterdir())] if new.exists() else []

    # ---- the sender ----

    def swaks(self, *args, server=RELAY_V4, check=False, **kwargs):
        """A mail by swaks from the sender's namespace; the finished process."""
        return run(*self.in_ns("sender", "swaks", "--server", server, "--helo", "client.example.test",
                               "--from", "alice@sender.example.test", "--to", f"bob@{DOMAIN}", "--timeout", "60", *args),
                   check=check, **kwargs)

    def python(self, ns, code, *args, **kwargs):
        return run(*self.in_ns(ns, "python3", "-c", code, *args), **kwargs)

    # ---- the end ----

    def close(self):
        for process in reversed(self.processes):
            self.stop(process, seconds=15)
        self.stack.close()
        # Whatever may be mounted below it stays whole.
        run("rm", "-rf", "--one-file-system", "--preserve-root", self.folder, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
