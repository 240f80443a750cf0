# SPDX-License-Identifier: Apache-2.0
"""The others: each is set up to do what is measured as cheaply as it can (no logging, no lookups, no limits in the way), with
one ECDSA listener on `port` and one with RSA on the next. All their processes share the server's processor."""

import os
import pathlib
import shutil
import socket
import subprocess

from lab import LabError, run, wait_for
from node import prioritise

from . import machine, packages

ACCOUNTS = {"Debian-exim": 901, "opensmtpd": 902, "opensmtpq": 903, "haproxy": 904}


class Field:
    """What the peers have in common: the wire, the certificates, where they live."""

    def __init__(self, stack, folder, options, pems, say):
        self.stack, self.folder, self.options, self.pems, self.say = stack, pathlib.Path(folder), options, pems, say
        self.cache = options.build_folder / "compare-packages"
        self.server_ns, self.client_ns = (f"hkc{os.getpid()}-{end}" for end in ("server", "client"))
        self.softirq_thread = machine.softirq_thread()
        stack.enter_context(machine.wire(self.server_ns, self.client_ns))

    def within(self, ns, *command):
        return ["ip", "netns", "exec", ns, *[str(c) for c in command]]

    def answers(self, port):
        code = "import socket,sys\nsocket.create_connection((sys.argv[1],int(sys.argv[2])),2).close()"
        return run(*self.within(self.client_ns, "python3", "-c", code, machine.SERVER, port), check=False).returncode == 0


class Peer:
    """A server under its own control group. Subclasses say what to fetch, what to write and what to start."""

    packages, port, is_implicit_tls = (), 0, False
    connections = 0  # sessions at a time; 0: as asked for
    can = frozenset(("1.2", "resumed", "X25519MLKEM768"))
    library = "OpenSSL"

    def __init__(self, field):
        self.field = field
        self.folder = field.folder / self.name
        self.folder.mkdir()
        self.etc = self.folder / "etc"
        self.etc.mkdir()
        self.log = self.folder / "log"
        self.root, self.versions = None, {}
        self.group = machine.Group(self.name)
        field.stack.callback(self.group.close)

    def start(self):
        if self.packages:
            self.root, self.versions = packages.unpack(self.field.cache / self.name, self.packages, self.field.say)
            self.write_accounts()
        command, shell = self.command(), self.make_places()
        if self.root:
            command = packages.seen_by(self.root, self.etc, shell, *self.inside(*command))
        else:
            command = self.inside(*command)
        with open(self.log, "ab") as log:
            process = subprocess.Popen(self.group.enter(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        for port in (self.port, self.port + 1):
            wait_for(f"{self.name} to listen", 20, lambda p=port: self.is_up(process) and self.field.answers(p))
        for pid in self.group.processes():
            prioritise(pid, self.field.options.nice)
        return self

    def inside(self, *command):
        return self.field.within(self.field.server_ns, "taskset", "-c", machine.SERVER_CPU, *command)

    def is_up(self, process):
        if process.poll() not in (None, 0):
            raise LabError(f"{self.name} ended with {process.returncode}: {self.said()}")
        return True

    def said(self):
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""

    def write_accounts(self):
        names = {name: number for name, number in ACCOUNTS.items()}
        passwd, group = pathlib.Path("/etc/passwd").read_text(), pathlib.Path("/etc/group").read_text()
        (self.etc / "passwd").write_text(passwd + "".join(f"{n}:x:{i}:{i}::/nonexistent:/usr/sbin/nologin\n" for n, i in names.items()))
        (self.etc / "group").write_text(group + "".join(f"{n}:x:{i}:\n" for n, i in names.items()))

    def make_places(self):
        """Shell: folders at places that are compiled in."""
        return ""

    def version(self):
        return self.versions.get(self.packages[0], "?") if self.packages else ""

    def target(self, certificate):
        return ["--kernel", f"{machine.SERVER}:{self.port + (certificate == 'rsa')}"]

    def prefix(self):
        return self.field.within(self.field.client_ns)

    def pem(self, certificate):
        return self.field.pems[certificate]

    def show(self, certificate):
        """Both are served at all times."""

    def mark(self):
        return {"group": self.group.seconds(), "softirq": machine.thread_seconds(self.field.softirq_thread)}

    @staticmethod
    def bill(before, after):
        """All that its processes spent, in the kernel too, and the thread that finishes their processor's network work."""
        parts = {k: after[k] - before[k] for k in after}
        return sum(parts.values()), parts


class Postfix(Peer):
    name, port = "Postfix", 2510
    can = Peer.can | {"messages"}

    def version(self):
        return machine.version_of("postfix").get("postfix", "?")

    def command(self):
        queue, data, conf = (self.folder / n for n in ("queue", "data", "conf"))
        for d in (queue, data, conf):
            d.mkdir()
        shutil.chown(data, "postfix")
        openssl = self.folder / "openssl.cnf"
        openssl.write_text("postfix = postfix\n[postfix]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n"
                           "[tls]\nNumTickets = 1\n")
        settings = {
            "compatibility_level": "3.10", "queue_directory": queue, "data_directory": data, "myhostname": "mx.example.test",
            "mydestination": "", "inet_interfaces": "all", "inet_protocols": "ipv4", "mynetworks": "127.0.0.0/8",
            "maillog_file": self.folder / "maillog", "maillog_file_prefixes": str(self.folder),
            "smtpd_relay_restrictions": "reject_unauth_destination", "smtpd_client_restrictions": "",
            "virtual_mailbox_domains": "dest.example.test", "virtual_mailbox_maps": "static:all", "virtual_transport": "discard:",
            "smtpd_tls_security_level": "may", "smtpd_tls_loglevel": "0", "smtpd_peername_lookup": "no", "disable_dns_lookups": "yes",
            "smtpd_client_connection_count_limit": "0", "smtpd_client_connection_rate_limit": "0", "in_flow_delay": "0",
            "smtpd_error_sleep_time": "0", "tls_config_file": openssl, "tls_config_name": "postfix",
            "smtpd_tls_chain_files": self.pem("ecdsa"), "tls_eecdh_auto_curves": "", "tls_ffdhe_auto_groups": "",
            "smtpd_tls_session_cache_timeout": "3600s", "default_process_limit": "200",
            # No limit of clients or of uses below that of the generator.
            "max_use": "1000000", "max_idle": "100s",
        }
        (conf / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        (conf / "master.cf").write_text("\n".join([
            f"{self.port} inet n - n - 200 smtpd", f"{self.port + 1} inet n - n - 200 smtpd",
            f"  -o smtpd_tls_chain_files={self.pem('rsa')}",
            "pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr", "rewrite unix - - n - - trivial-rewrite", "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce", "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap", "error unix - - n - - error", "retry unix - - n - - error",
            "discard unix - - n - - discard", "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd", ""]))
        return ["postfix", "-c", conf, "start-fg"]


class Exim(Peer):
    name, port, packages, library = "Exim", 2520, ("exim4-daemon-light",), "GnuTLS"
    can = {"1.2"}  # Debian's GnuTLS knows no X25519MLKEM768; Exim resumes only where it is told whom

    def command(self):
        (self.etc / "exim4").mkdir()
        spool = self.folder / "spool"
        spool.mkdir()
        os.chown(spool, ACCOUNTS["Debian-exim"], ACCOUNTS["Debian-exim"])
        for kind in ("ecdsa", "rsa"):  # it reads them as its own user
            copy = self.folder / f"{kind}.pem"
            copy.write_bytes(pathlib.Path(self.pem(kind)).read_bytes())
            os.chown(copy, ACCOUNTS["Debian-exim"], ACCOUNTS["Debian-exim"])
        pem = f"${{if eq{{$received_port}}{{{self.port + 1}}}{{{self.folder}/rsa.pem}}{{{self.folder}/ecdsa.pem}}}}"
        (self.etc / "exim4" / "exim4.conf").write_text("\n".join([
            "primary_hostname = mx.example.test", f"spool_directory = {spool}", f"log_file_path = {spool}/%slog", f"pid_file_path = {spool}/pid",
            f"daemon_smtp_ports = {self.port} : {self.port + 1}", "local_interfaces = 0.0.0.0", f"tls_certificate = {pem}", f"tls_privatekey = {pem}",
            "tls_advertise_hosts = *", f"tls_require_ciphers = NORMAL:-CIPHER-ALL:+AES-{self.field.options.aes}-GCM", "host_lookup =", "rfc1413_query_timeout = 0s",
            "log_selector = -all", "smtp_accept_max = 0", "smtp_accept_queue = 0", "smtp_accept_queue_per_connection = 0",
            "smtp_connect_backlog = 1024", "smtp_enforce_sync = false", "queue_only", "dns_ipv4_lookup = *", "disable_ipv6",
            "acl_smtp_connect = accept", "acl_smtp_rcpt = deny", "begin acl", "begin routers", "begin transports", "begin retry", "",
        ]))
        return ["/usr/sbin/exim4", "-bdf"]


class OpenSMTPD(Peer):
    name, port, packages, library = "OpenSMTPD", 2530, ("opensmtpd",), "OpenSSL by its libtls"
    connections = 16  # it lets five wait to be accepted; of more, SYNs are lost
    can = {"1.2"}

    def command(self):
        (self.etc / "smtpd.conf").write_text("\n".join([
            f'pki {kind} {what} "{self.folder}/{kind}.pem"' for kind in ("ecdsa", "rsa") for what in ("cert", "key")] + [
            "smtp max-message-size 10M",
            *(f"listen on {machine.SERVER} port {self.port + n} tls pki {kind} hostname mx.example.test" for n, kind in enumerate(("ecdsa", "rsa"))),
            "match from any for any reject", ""]))
        for kind in ("ecdsa", "rsa"):
            copy = self.folder / f"{kind}.pem"
            copy.write_bytes(pathlib.Path(self.pem(kind)).read_bytes())
            copy.chmod(0o600)
        return ["/usr/sbin/smtpd", "-d"]

    def make_places(self):
        return "mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd; chmod 711 /var/spool/smtpd; mount -t tmpfs run /run/lock"


class Nginx(Peer):
    name, port, packages = "nginx", 2540, ("nginx", "libnginx-mod-mail")
    connections = 256  # it sends replies one by one and waits 40 ms for delayed acknowledgements: fewer do not keep it busy

    def command(self):
        tls = ["ssl_conf_command NumTickets 1;", "ssl_protocols TLSv1.2 TLSv1.3;",
               "ssl_ecdh_curve X25519MLKEM768:X25519:prime256v1;", "ssl_session_cache off;", "ssl_session_tickets on;", "starttls on;"]
        servers = [f"server {{ listen {self.port + n}; protocol smtp; ssl_certificate {self.pem(kind)}; ssl_certificate_key {self.pem(kind)}; }}"
                   for n, kind in enumerate(("ecdsa", "rsa"))]
        conf = self.folder / "nginx.conf"
        conf.write_text("\n".join([
            "load_module /usr/lib/nginx/modules/ngx_mail_module.so;", "daemon off;", "worker_processes 1;", "user nobody nogroup;",
            f"pid {self.folder}/pid;", "error_log stderr crit;", "events { worker_connections 8192; }",
            # Asked only at a login, which no session of ours comes to.
            "mail {", "server_name mx.example.test;", "auth_http 127.0.0.1:9;", "smtp_auth plain;", "resolver off;", *tls, *servers, "}", ""]))
        return ["/usr/sbin/nginx", "-c", conf]

    def make_places(self):
        return "mkdir -p /var/lib/nginx; mount -t tmpfs log /var/log"


class HAProxy(Peer):
    name, port, packages, is_implicit_tls = "HAProxy", 2550, ("haproxy",), True

    def command(self):
        self.start_backend()
        ssl = f"ssl curves X25519MLKEM768:X25519:P-256 ssl-min-ver TLSv1.2"
        conf = self.folder / "haproxy.cfg"
        conf.write_text("\n".join([
            "global", " nbthread 1", " maxconn 8000", " tune.ssl.cachesize 0", " ssl-default-bind-options no-sslv3",
            "defaults", " mode tcp", " timeout connect 10s", " timeout client 60s", " timeout server 60s",
            "frontend smtps", *(f" bind {machine.SERVER}:{self.port + n} crt {self.pem(kind)} {ssl}" for n, kind in enumerate(("ecdsa", "rsa"))),
            " default_backend sink", "backend sink", f" server sink {machine.SERVER}:{self.port + 2}", ""]))
        return ["/usr/sbin/haproxy", "-db", "-f", conf]

    def start_backend(self):
        """Our sink, in clear: its time is on nobody's bill, and it runs where the generator does."""
        with open(self.folder / "sink.log", "ab") as log:
            process = subprocess.Popen(self.field.within(self.field.server_ns, "taskset", "-c", machine.CLIENT_CPU, self.field.options.bench, "sink",
                                                         "--kernel", f"{machine.SERVER}:{self.port + 2}"), stdout=log, stderr=log,
                                       start_new_session=True)
        self.field.stack.callback(process.wait, 10)
        self.field.stack.callback(process.terminate)


PEERS = {p.name.lower(): p for p in (Nginx, HAProxy, Postfix, Exim, OpenSMTPD)}
