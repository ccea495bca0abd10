"""The processes that are measured: how each is started, alone, on a free loopback port and with one thread."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

START_LIMIT_SECONDS = 60
END_LIMIT_SECONDS = 60
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def fail(message, code=1):
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)


def prepare_process():
    """What must hold of this process before it starts others, which inherit it."""
    # Debian keeps the servers' programs outside of a plain user's PATH.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def most_descriptors():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Target:
    """A process that can be asked."""

    # What one client takes: a proxy that gives each client a connection of its own to the server takes two.
    descriptors_a_client = 1

    def __init__(self, name, port, process, log):
        self.name, self.port, self.process, self.log = name, port, process, log

    def cpu_seconds(self):
        """User and system time of all of its threads."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        # The name in parentheses may hold blanks: count from behind it. utime and stime are fields 14 and 15.
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def resident_bytes(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    def end(self):
        """Asks it to end and waits; answers what it has printed."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=END_LIMIT_SECONDS)
        return self.log.read_text(errors="replace")


class Weir(Target):
    """A Weir, with its admin port."""

    admin = None

    def lookups(self):
        """{outcome: how many look-ups of routed keys have had it}."""
        found = {}
        for line in self.metrics("weir_lookups_total{"):
            outcome = line.split('outcome="', 1)[1].split('"', 1)[0]
            found[outcome] = found.get(outcome, 0) + float(line.rsplit(" ", 1)[1])
        return found

    def wait_until_near_opens(self):
        """It is ready before Redis has promised to tell of changes; until then nothing is kept near."""
        # Seldom asked: what is measured under valgrind must not differ by how often.
        opened = ["weir_near_open 1"]
        wait_until("it keeps near", lambda: self.metrics("weir_near_open ") == opened, self.process, self.log, pause=1)

    def metrics(self, start):
        """The lines that begin so."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            return [line for line in answer.read().decode().splitlines() if line.startswith(start)]


class Servers:
    """Starts servers in a folder of its own; on leaving, all have ended and the folder is gone."""

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="weir-bench-")
        self.folder = Path(self.temporary.name)
        # The user `postgres` must reach its data through it.
        self.folder.chmod(0o755)
        self.started = []
        return self

    def __exit__(self, *_):
        for process, ending in reversed(self.started):
            if process.poll() is None:
                process.send_signal(ending)
        for process, _ in self.started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.temporary.cleanup()

    def spawn(self, name, command, *privileges, ending=signal.SIGKILL):
        """(process, its log). The kernel also ends it should this script be killed."""
        log = self.folder / f"{name.replace(' ', '-')}-{len(self.started)}.log"
        death = ["setpriv", f"--pdeathsig={ending.name.removeprefix('SIG')}", *privileges, "--"]
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [*death, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder
            )
        self.started.append((process, ending))
        return process, log

    def redis(self, name="Redis, asked directly"):
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--maxclients", str(most_descriptors() - 100), "--dir", str(self.folder)]
        # Of a million keys and more than it may remember for near caches it tells before they change.
        command += ["--tracking-table-max-keys", "0"]
        process, log = self.spawn("redis", command)
        wait_until("redis-server answers", lambda: ask(port, b"PING") == b"+PONG\r\n", process, log)
        return Target(name, port, process, log)

    def weir(self, binary, name, config, workers=1, wrapper=(), pause=0.02):
        """`wrapper`: the command of a program that runs it."""
        port, admin = free_port(), free_port()
        file = self.folder / f"weir-{len(self.started)}.toml"
        server = f'[server]\nlisten = ["127.0.0.1:{port}"]\nadmin = "127.0.0.1:{admin}"\nworkers = {workers}\n'
        file.write_text(f"{server}max_clients = {most_descriptors()}\n{config}")
        process, log = self.spawn("weir", [*wrapper, binary, "serve", "--config", str(file)], ending=signal.SIGTERM)
        ready = f"http://127.0.0.1:{admin}/readyz"
        wait_until("weir is ready", lambda: urllib.request.urlopen(ready, timeout=5).status == 200, process, log, pause)
        weir = Weir(name, port, process, log)
        weir.admin = admin
        return weir

    def peers(self, redis):
        """The proxies that this machine has, each in front of that Redis."""
        starts = {"nutcracker": self.twemproxy, "haproxy": self.haproxy, "envoy": self.envoy}
        found = []
        for program, start in starts.items():
            if shutil.which(program):
                found.append(start(redis))
            else:
                print(f"{program} is not on this machine's PATH, and is left out", file=sys.stderr)
        return found

    def twemproxy(self, redis):
        port, config = free_port(), self.folder / "nutcracker.yml"
        config.write_text(
            f"bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n"
            f"  preconnect: true\n  backlog: 4096\n  servers:\n   - 127.0.0.1:{redis.port}:1\n"
        )
        stats = ["--stats-port", str(free_port()), "--stats-addr", "127.0.0.1"]
        process, log = self.spawn("nutcracker", ["nutcracker", "--conf-file", str(config), *stats])
        wait_until("twemproxy answers", lambda: ask(port, b"GET", b"x").startswith(b"$"), process, log)
        return Target("twemproxy", port, process, log)

    def haproxy(self, redis):
        port, config = free_port(), self.folder / "haproxy.cfg"
        config.write_text(
            f"global\n  nbthread 1\n  maxconn {(most_descriptors() - 100) // 2}\n"
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen bench\n  bind 127.0.0.1:{port} backlog 4096\n  server redis 127.0.0.1:{redis.port}\n"
        )
        process, log = self.spawn("haproxy", ["haproxy", "-db", "-f", str(config)])
        wait_until("HAProxy answers", lambda: ask(port, b"PING") == b"+PONG\r\n", process, log)
        target = Target("HAProxy, TCP only", port, process, log)
        target.descriptors_a_client = 2
        return target

    def envoy(self, redis):
        port, config = free_port(), self.folder / "envoy.yaml"
        config.write_text(ENVOY.replace("PORT", str(port)).replace("UPSTREAM", str(redis.port)))
        command = ["envoy", "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        process, log = self.spawn("envoy", command)
        wait_until("Envoy answers", lambda: ask(port, b"GET", b"x").startswith(b"$"), process, log)
        return Target("Envoy", port, process, log)

    def postgres(self, sql):
        """The url of a PostgreSQL with these statements, one a line, already run; None where there is no PostgreSQL."""
        folder = postgres_programs()
        if folder is None:
            return None
        data, port = self.folder / "postgres", free_port()
        data.mkdir(mode=0o700)
        privileges = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(data, "postgres", "postgres")
            privileges = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
        as_server = ["setpriv", *privileges, "--"] if privileges else []
        make = [folder / "initdb", "-D", data, "-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        run([*as_server, *make], self.folder)
        run([*as_server, folder / "postgres", "--single", "-D", data, "postgres"], self.folder, sql)
        command = [str(folder / "postgres"), "-D", str(data), "-p", str(port)]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "autovacuum=off"):
            command += ["-c", setting]
        # QUIT is its immediate shutdown, and takes its children with it.
        process, log = self.spawn("postgres", command, *privileges, ending=signal.SIGQUIT)
        wait_until("PostgreSQL listens", lambda: "ready to accept connections" in log.read_text(), process, log)
        return f"postgres://weir@127.0.0.1:{port}/postgres"


ENVOY = """
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: PORT } }
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: bench
          settings: { op_timeout: 10s }
          prefix_routes: { catch_all_route: { cluster: redis } }
  clusters:
  - name: redis
    type: STATIC
    connect_timeout: 10s
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: UPSTREAM } } }
"""


def postgres_programs():
    """Where Debian keeps the newest server's programs, or else what PATH has."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def run(command, folder, text=""):
    done = subprocess.run(
        command, input=text, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    # A server in single-user mode ends well whatever became of its statements.
    if done.returncode != 0 or "ERROR:" in done.stdout:
        fail(f"{' '.join(map(str, command))} failed:\n{done.stdout}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, process, log, pause=0.02):
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if process.poll() is not None:
            fail(f"it ended before {what}:\n{log.read_text(errors='replace')}")
        if time.monotonic() > deadline:
            fail(f"waited {START_LIMIT_SECONDS} s in vain until {what}:\n{log.read_text(errors='replace')}")
        time.sleep(pause)


def ask(port, *words):
    """The first bytes of the reply to one command."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        command = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        client.sendall(b"*%d\r\n" % len(words) + command)
        return client.recv(256)
