"""The harness of tests/bench: who is measured, in which order, and what is printed. See tests/bench for the usage.

Programs are started by a worker: one in this machine's own namespaces for our engine, one inside the peers' root (tests/peers
enter). A worker is this same file and times with the same code, so what the start costs is the same for all. It takes a command
a line as JSON, and ends when its input closes, with every service it started: nothing outlives a bench that is killed.
"""
import argparse, contextlib, ctypes, datetime, gzip, hashlib, json, os, pathlib, re, shutil, signal, socket, statistics, subprocess
import sys, tarfile, tempfile, time

TREE = pathlib.Path(__file__).resolve().parent.parent
OUT = TREE / "target" / "bench"


# --- the worker -------------------------------------------------------------------------------------------------------

def measure(argv, env):
    """Runs a program to its end: wall-clock seconds from just before the start to when it was reaped, and its usage."""
    with tempfile.TemporaryFile() as log:
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            wiring = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                      (os.POSIX_SPAWN_DUP2, log.fileno(), 2)]
            begin = time.perf_counter()
            pid = os.posix_spawnp(argv[0], argv, os.environ | env, file_actions=wiring)
            _, status, usage = os.wait4(pid, 0)
            end = time.perf_counter()
        finally:
            os.close(null)
        log.seek(0)
        said = log.read().decode(errors="replace")
        return {"seconds": end - begin, "status": os.waitstatus_to_exitcode(status), "peak_kib": usage.ru_maxrss,
                "user": usage.ru_utime, "system": usage.ru_stime, "said": said[-2000:]}


def serve():
    """The worker's loop. A service dies with the worker, in whatever way the worker dies. Each has a session of its own, as the engine's
    supervisors have: the kernel shares processors among sessions first, and one that shared ours would be given what wrk leaves."""
    prctl = ctypes.CDLL(None).prctl
    services = []
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                if asked["do"] == "service":
                    log = open(asked["log"], "wb")
                    services.append(subprocess.Popen(asked["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                     start_new_session=True, preexec_fn=lambda: prctl(1, signal.SIGTERM)))
                    answer = {"status": 0}
                else:
                    answer = measure(asked["argv"], asked["env"])
            except OSError as error:
                answer = {"status": 127, "said": str(error)}
            print(json.dumps(answer), flush=True)
    finally:
        for service in services:
            service.terminate()
        for service in services:
            try:
                service.wait(30)
            except subprocess.TimeoutExpired:
                service.kill()


class Worker:
    """Starts programs in one world, ours or the peers'."""

    def __init__(self, enter=()):
        self.process = subprocess.Popen([*enter, "python3", str(TREE / "tests/bench.py"), "--worker"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.least = None

    def ask(self, **asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench: a worker ended early")
        return json.loads(line)

    def run(self, *argv, **env):
        return self.ask(do="run", argv=[str(part) for part in argv], env=env)

    def must(self, *argv, **env):
        done = self.run(*argv, **env)
        if done["status"] != 0:
            raise Missing(f"`{' '.join(map(str, argv))}` ended with {done['status']}: {done['said'].strip()[-400:]}")
        return done["said"]

    def floor(self):
        """What the peak memory of a program that uses none reads as here: a child counts from the worker's own memory."""
        if self.least is None:
            self.least = self.run("true")["peak_kib"] + 512
        return self.least

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


class Missing(Exception):
    """A peer cannot take part; says why."""


# --- the field --------------------------------------------------------------------------------------------------------

class Bench:
    """What every measurement needs: the two worlds, a registry, a working folder, and what to undo at the end."""

    def __init__(self, stack, wanted):
        self.stack = stack
        OUT.mkdir(parents=True, exist_ok=True)
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="work-", dir=OUT))
        stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.group = f"umiak-bench-{os.getpid()}"
        stack.callback(self.remove_groups)
        self.host = Worker()
        stack.callback(self.host.close)
        self.peers = None
        if subprocess.run([TREE / "tests/peers", "where"], stdout=subprocess.DEVNULL).returncode == 0:
            self.peers = Worker([str(TREE / "tests/peers"), "enter"])
            stack.callback(self.peers.close)
        self.registry = self.start_registry(wanted)
        # As it is installed. What a linker wrote lies in the page cache in single pages, and a start of it takes a millisecond more.
        self.umiak = str(self.work / "bin" / "umiak")
        os.mkdir(self.work / "bin")
        shutil.copy(os.environ["UMIAK"], self.umiak)
        self.state = pathlib.Path("/run") / self.group
        stack.callback(shutil.rmtree, self.state, ignore_errors=True)
        self.skipped = []
        self.socket = None

    def start_registry(self, wanted):
        layouts = self.work / "layouts"
        layouts.mkdir()
        small, real = TREE / "target/fixtures/layouts", TREE / "target/fixtures-real/layouts"
        shared = [self.work / f"shared/library+shared@{n}" for n in range(100)]
        if "images100" in wanted:
            make_shared(shared)
        small_ones = ("start", "exec", "many", "store", "memory", "network")
        names = {"load": [real / "library+big@latest"], "images100": shared,
                 **{what: [small / "library+busybox@latest"] for what in small_ones}, "pull": [real / "library+big@latest"],
                 "wasm": [small / "wasm+hello@artifact-p1", small / "wasm+hello@artifact-p2"], "cpu": [small / "wasm+busy@artifact-p1"],
                 "http": [small / "wasm+serve2@artifact-p2", small / "wasm+serve3@artifact-p3"]}
        names["memory"] += [small / "wasm+serve2@artifact-p2", small / "wasm+does@artifact-p1"]
        # Several measurements share an image.
        for layout in {layout for what in wanted for layout in names[what]}:
            (layouts / layout.name).symlink_to(layout)
        process = subprocess.Popen([TREE / "fixtures/registry", layouts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stack.callback(process.wait, 30)
        self.stack.callback(process.stdin.close)
        address = process.stdout.readline().strip()
        if not address:
            raise SystemExit("bench: the registry did not start")
        return address

    def remove_groups(self):
        """Control groups that docker and podman made for this bench and leave when they end."""
        for hierarchy in pathlib.Path("/sys/fs/cgroup").glob("*"):
            for folder in [hierarchy / self.group]:
                for below, _, _ in os.walk(folder, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(below)

    def have(self, name, make):
        """Sets a peer up, or says that it is missing."""
        try:
            if self.peers is None and name not in ("umiak", "wasmtime", "pulley", "tar", "bare"):
                raise Missing("the peers' root is not built (tests/peers make, as root)")
            return make()
        except Missing as why:
            self.skipped.append(name)
            print(f"skipped: {name}: {why}\n", flush=True)
            return None

    def ours(self, store, *arguments):
        return [self.umiak, "--root", str(self.work / store), "--run-root", str(self.state), *arguments]

    def docker(self, *arguments):
        """A docker of this bench alone: no bridge and no firewall rules, so that nothing of the host's network changes."""
        if self.socket is None:
            self.socket = f"unix:///run/{self.group}.sock"
            log = self.work / "dockerd.log"
            self.peers.ask(do="service", log=str(log), argv=[
                "dockerd", "--host", self.socket, "--data-root", str(self.work / "docker"), "--exec-root", "/run/docker-bench",
                "--pidfile", "/run/docker-bench.pid", "--bridge", "none", "--iptables=false", "--ip6tables=false",
                "--cgroup-parent", "/" + self.group, "--exec-opt", "native.cgroupdriver=cgroupfs"])
            for _ in range(300):
                if self.peers.run("docker", "--host", self.socket, "version")["status"] == 0:
                    break
                time.sleep(0.1)
            else:
                raise Missing("dockerd did not start: " + log.read_text(errors="replace")[-600:])
        return ["docker", "--host", self.socket, *arguments]

    def podman(self, store, *arguments):
        return ["podman", "--root", str(self.work / store), "--runroot", f"/run/{store}", "--cgroup-manager", "cgroupfs", *arguments]

    def versions(self):
        asked = {"umiak": (self.host, [self.umiak, "--version"]),
                 "wasmtime": (self.host, [TREE / "target/tools/wasmtime", "--version"])}
        if self.peers:
            asked |= {name: (self.peers, [name, "--version"]) for name in ("docker", "podman", "crun", "runc", "wasmedge")}
        said = {name: worker.run(*argv) for name, (worker, argv) in asked.items()}
        return {name: done["said"].splitlines()[0] for name, done in said.items() if done["status"] == 0 and done["said"]}


class Entrant:
    """One program in a race: how to get ready (not timed), what to time, how to clear up (not timed)."""

    def __init__(self, name, worker, argv, before=None, after=None, env=None):
        self.name, self.worker, self.argv = name, worker, argv
        self.before, self.after, self.env = before, after, env or {}
        self.samples, self.failed = [], []

    def turn(self, keep=True):
        if self.before:
            self.before()
        done = self.worker.run(*self.argv, **self.env)
        if self.after:
            self.after()
        if done["seconds"] > 1:
            print(f"bench: {self.name}: {done['seconds']:.2f} s", file=sys.stderr, flush=True)
        if done["status"] != 0:
            self.failed.append(f"ended with {done['status']}: {done['said'].strip()}")
            if len(self.failed) > 10:
                raise SystemExit(f"bench: {self.name}: {self.failed[-1]}")
        elif keep:
            self.samples.append(done)

    def median(self):
        return statistics.median(s["seconds"] for s in self.samples)


def race(entrants, runs, warm_up):
    """Every entrant once, then every entrant again: what slows the machine for a while slows them all."""
    for turn in range(-warm_up, runs):
        for entrant in entrants:
            entrant.turn(keep=turn >= 0)


# --- start ------------------------------------------------------------------------------------------------------------

def bundle(bench, runtime, root):
    """The runtime's own default bundle of a root, without a terminal, running `true`."""
    folder = bench.work / f"bundle-{runtime}"
    folder.mkdir()
    bench.peers.must("sh", "-c", f"cd {folder} && {runtime} spec")
    config = json.loads((folder / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["true"]}
    config["root"]["path"] = str(root)
    (folder / "config.json").write_text(json.dumps(config))
    argv = [runtime, "--root", f"/run/{runtime}-bench", "run", "--bundle", folder, f"umiak-bench-{runtime}-{os.getpid()}"]
    bench.peers.must(*argv)
    return Entrant(f"{runtime} run (bundle)", bench.peers, argv)


def start(bench, runs):
    image = f"{bench.registry}/library/busybox:latest"
    common = ["run", "--rm", "--network", "none"]

    def umiak():
        bench.host.must(*bench.ours("umiak", "pull", image))
        return Entrant("umiak", bench.host, bench.ours("umiak", *common, image, "true"))

    def docker():
        bench.peers.must(*bench.docker("pull", image))
        bench.peers.must(*bench.docker("tag", image, "busybox"))
        return Entrant("docker", bench.peers, bench.docker(*common, "busybox", "true"))

    def podman():
        store = "podman-start"
        bench.stack.callback(lambda: bench.peers.run("rm", "-rf", bench.work / store))
        bench.peers.must(*bench.podman(store, "pull", "--tls-verify=false", image))
        argv = bench.podman(store, *common, "--cgroup-parent", "/" + bench.group, image, "true")
        bench.peers.must(*argv)
        return Entrant("podman", bench.peers, argv)

    root = bench.work / "rootfs"
    root.mkdir()
    layout = TREE / "target/fixtures/layouts/library+busybox@latest"
    blob = lambda digest: layout / "blobs/sha256" / digest.removeprefix("sha256:")
    (top,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    for layer in json.loads(blob(top["digest"]).read_bytes())["layers"]:
        with tarfile.open(blob(layer["digest"])) as tar:
            tar.extractall(root, filter="fully_trusted")

    entrants = [bench.have("umiak", umiak), bench.have("crun", lambda: bundle(bench, "crun", root)),
                bench.have("runc", lambda: bundle(bench, "runc", root)), bench.have("docker", docker), bench.have("podman", podman),
                Entrant("(no container: busybox true)", bench.host, ["/bin/busybox", "true"])]
    entrants = [e for e in entrants if e]
    race(entrants, runs, warm_up=3)
    return "`run --rm --network none` of busybox `true`", entrants, [("crun run (bundle)", "at most", 1.5), ("docker", "at least", 12)]


# --- wasm -------------------------------------------------------------------------------------------------------------

def wasm(bench, runs):
    folder = TREE / "target/fixtures/wasm"
    wasmtime = TREE / "target/tools/wasmtime"

    def umiak(level):
        image = f"{bench.registry}/wasm/hello:artifact-{level}"
        bench.host.must(*bench.ours("umiak", "pull", "--platform", "wasi/wasm", image))
        argv = bench.ours("umiak", "run", "--rm", image)
        if not bench.host.must(*argv).strip():
            raise SystemExit(f"bench: umiak: {image} said nothing")
        return Entrant(f"umiak, {level}", bench.host, argv)

    def precompiled(level):
        if not wasmtime.exists():
            raise Missing("its package could not be fetched")
        code = bench.work / f"hello.{level}.cwasm"
        bench.host.must(wasmtime, "compile", "-o", code, folder / f"hello.{level}.wasm")
        return Entrant(f"wasmtime run --allow-precompiled, {level}", bench.host, [str(wasmtime), "run", "--allow-precompiled", str(code)])

    def wasmedge():
        code = bench.work / "hello.p1.aot.wasm"
        bench.peers.must("wasmedge", "compile", folder / "hello.p1.wasm", code)
        return Entrant("wasmedge AOT, p1", bench.peers, ["wasmedge", str(code)])

    entrants = [bench.have("umiak", lambda: umiak("p1")), bench.have("wasmtime", lambda: precompiled("p1")),
                bench.have("wasmedge", wasmedge),
                bench.have("umiak", lambda: umiak("p2")), bench.have("wasmtime", lambda: precompiled("p2"))]
    entrants = [e for e in entrants if e]
    race(entrants, runs, warm_up=3)
    return "`run --rm` of a Wasm hello, compiled before", entrants, [("wasmtime run --allow-precompiled, p1", "at most", 1.2), ("wasmedge AOT, p1", "at least", 3)]


def pulley(bench, image):
    """The same guest by the interpreter."""
    config = bench.work / "pulley.toml"
    config.write_text('[wasm]\ntarget = "pulley64"\n')
    argv = lambda *rest: [bench.umiak, "--config", str(config), *bench.ours("umiak-pulley", *rest)[1:]]
    bench.host.must(*argv("pull", "--platform", "wasi/wasm", image))
    return Entrant("umiak, interpreted (Pulley)", bench.host, argv("run", "--rm", image))


def cpu(bench, runs):
    """A guest that computes for about a second: what interruption costs, since ours can always be stopped."""
    image = f"{bench.registry}/wasm/busy:artifact-p1"
    bench.host.must(*bench.ours("umiak", "pull", "--platform", "wasi/wasm", image))

    def wasmtime(name, compile=(), run=()):
        program, code = str(TREE / "target/tools/wasmtime"), bench.work / f"busy{len(run)}.cwasm"
        if not os.path.exists(program):
            raise Missing("its package could not be fetched")
        bench.host.must(program, "compile", *compile, "-o", code, TREE / "target/fixtures/wasm/busy.p1.wasm")
        # In a session of its own, as our supervisor is: the kernel shares processors among sessions first.
        return Entrant(name, bench.host, ["setsid", program, "run", *run, "--allow-precompiled", str(code)])

    entrants = [Entrant("umiak", bench.host, bench.ours("umiak", "run", "--rm", image)),
                bench.have("wasmtime", lambda: wasmtime("wasmtime run")),
                # A guest that could be interrupted is one with a time limit there.
                bench.have("wasmtime", lambda: wasmtime("wasmtime run -W timeout", ["-W", "epoch-interruption"], ["-W", "timeout=600s"])),
                bench.have("pulley", lambda: pulley(bench, image))]
    entrants = [e for e in entrants if e]
    race(entrants, min(runs, 10), warm_up=1)
    return "a Wasm guest that computes", entrants, [("wasmtime run", "at most", 1.0), ("wasmtime run -W timeout", "at most", 1.0)]


# --- http -------------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def press(bench, port, connections, duration):
    """What wrk says of a server: requests a second, and the latency that 50 and 99 of 100 stay below, in milliseconds."""
    said = bench.host.must("wrk", "--latency", "-t", "1", "-c", connections, "-d", f"{duration}s", f"http://127.0.0.1:{port}/")
    unit = {"us": 0.001, "ms": 1, "s": 1000}
    times = {mark: float(value) * unit[suffix] for mark, value, suffix in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", said)}
    if wrong := re.search(r"Non-2xx.*|Socket errors.*", said):
        raise SystemExit(f"bench: http: {wrong.group(0)}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)), times["50"], times["99"]


def http(bench, runs):
    """The same components under the same load, in turns; servers that are not asked are idle meanwhile."""
    if not shutil.which("wrk"):
        raise SystemExit("bench: http: the load is wrk's, which is not installed (Debian's package `wrk`)")
    servers = {}
    for level, tag in [("0.2", "serve2:artifact-p2"), ("0.3", "serve3:artifact-p3")]:
        image, port = f"{bench.registry}/wasm/{tag}", free_port()
        bench.host.must(*bench.ours("umiak", "pull", "--platform", "wasi/wasm", image))
        # Both without an access log, which the peer has not, and with it.
        for name, extra in [("umiak", []), ("umiak --log-driver none", ["--log-driver", "none"])]:
            port = free_port()
            id = bench.host.must(*bench.ours("umiak", "run", "-d", *extra, "-p", f"127.0.0.1:{port}:80", image)).split()[-1]
            bench.stack.callback(bench.host.run, *bench.ours("umiak", "rm", "-f", id))
            servers[level, name] = port

        def wasmtime():
            port = free_port()
            file = TREE / "target/fixtures/wasm" / (tag.split(":")[0] + "." + tag[-2:] + ".wasm")
            flags = ["-S", "cli,p3", "-W", "component-model-async"] if level == "0.3" else ["-S", "cli"]
            log = bench.work / f"serve-{level}.log"
            bench.host.ask(do="service", log=str(log), argv=[str(TREE / "target/tools/wasmtime"), "serve", *flags, "--addr", f"127.0.0.1:{port}", str(file)])
            for _ in range(200):
                if "Serving HTTP" in log.read_text(errors="replace"):
                    return port
                time.sleep(0.1)
            raise Missing("wasmtime serve did not start: " + log.read_text(errors="replace")[-400:])
        port = bench.have("wasmtime", wasmtime)
        if port:
            servers[level, "wasmtime serve"] = port
    rounds, duration, samples = max(3, min(runs, 5)), 3, {}
    for connections in (16, 128):
        for turn in range(-1, rounds):
            for (level, name), port in servers.items():
                got = press(bench, port, connections, duration if turn >= 0 else 1)
                if turn >= 0:
                    samples.setdefault((level, connections, name), []).append(got)
    print("### A hello by HTTP\n\n| WASI | connections | | requests/s | to umiak | median | p99 |\n|---|---|---|---|---|---|---|")
    middle = {key: [statistics.median(sample[at] for sample in all) for at in range(3)] for key, all in samples.items()}
    for (level, connections, name), (rate, half, most) in middle.items():
        own = middle[level, connections, "umiak"][0]
        print(f"| {level} | {connections} | {name} | {rate:.0f} | {rate / own:.2f}× | {half:.2f} ms | {most:.2f} ms |")
    print()
    (OUT / "http.json").write_text(json.dumps({" ".join(map(str, key)): all for key, all in samples.items()}, indent=1))


# --- pull -------------------------------------------------------------------------------------------------------------

def pull(bench, runs):
    image = f"{bench.registry}/library/big:latest"
    settle = lambda: bench.host.must("sync")
    empty = Trash(bench)

    def umiak():
        root = bench.work / "umiak-pull"
        return Entrant("umiak", bench.host, bench.ours("umiak-pull", "pull", "--quiet", image),
                       before=lambda: (empty(root), settle()), after=lambda: empty(root))

    def docker():
        bench.docker()
        clear = lambda: (bench.peers.run(*bench.docker("rmi", "-f", image)), bench.peers.run(*bench.docker("image", "prune", "-af")))
        return Entrant("docker", bench.peers, bench.docker("pull", "--quiet", image), before=lambda: (clear(), settle()), after=clear)

    def podman():
        store = "podman-pull"
        bench.peers.must(*bench.podman(store, "info"))
        clear = lambda: (bench.peers.must("rm", "-rf", f"/run/{store}"), empty(bench.work / store))
        return Entrant("podman", bench.peers, bench.podman(store, "pull", "--quiet", "--tls-verify=false", image),
                       before=lambda: (clear(), settle()), after=clear)

    def tar():
        layout = TREE / "target/fixtures-real/layouts/library+big@latest"
        blob = lambda digest: layout / "blobs/sha256" / digest.removeprefix("sha256:")
        (top,) = json.loads((layout / "index.json").read_bytes())["manifests"]
        layers = [str(blob(l["digest"])) for l in json.loads(blob(top["digest"]).read_bytes())["layers"]]
        into = bench.work / "tar"
        script = 'd=$1; shift; n=0; for layer do n=$((n+1)); mkdir -p "$d/$n"; tar -xzf "$layer" -C "$d/$n"; done'
        return Entrant("`tar -xzf` of the layers in turn", bench.host, ["sh", "-ec", script, "sh", str(into), *layers],
                       before=lambda: (empty(into), settle()), after=lambda: empty(into))

    entrants = [bench.have("umiak", umiak), bench.have("docker", docker), bench.have("podman", podman), bench.have("tar", tar)]
    entrants = [e for e in entrants if e]
    race(entrants, min(runs, 3), warm_up=0)
    return "pull and unpack of a 4-layer image from loopback", entrants, [
        ("docker", "at least", 4), ("podman", "at least", 6), ("`tar -xzf` of the layers in turn", "at most", 0.6)]


# --- load and save ----------------------------------------------------------------------------------------------------

class Trash:
    """Where things are moved that are in the way. They are deleted when all is measured: deleting makes work for the disk that the
    next turn would wait for."""

    def __init__(self, bench):
        self.folder = bench.work / "trash"
        self.folder.mkdir(exist_ok=True)

    def __call__(self, path):
        if path.exists():
            path.rename(self.folder / f"{path.name}-{len(list(self.folder.iterdir()))}")


def load(bench, runs):
    """The same archives by every engine, and each engine's own `save` to a file."""
    image, store = f"{bench.registry}/library/big:latest", "podman-load"
    settle, trash = lambda: bench.host.must("sync"), Trash(bench)
    bench.host.must(*bench.ours("umiak-save", "pull", "--quiet", image))
    archives = {"umiak": bench.work / "umiak.tar", "docker": bench.work / "docker.tar", "podman": bench.work / "podman.tar"}
    saves = []

    def saver(name, worker, argv):
        file = archives[name]
        saves.append(Entrant(name, worker, [*argv, "save", "-o", str(file), image], before=lambda: (trash(file), settle())))

    def docker():
        bench.peers.must(*bench.docker("pull", "--quiet", image))
        saver("docker", bench.peers, bench.docker())

    def podman():
        bench.stack.callback(lambda: bench.peers.run("rm", "-rf", bench.work / store))
        bench.peers.must(*bench.podman(store, "pull", "--quiet", "--tls-verify=false", image))
        saver("podman", bench.peers, bench.podman(store))

    saver("umiak", bench.host, bench.ours("umiak-save"))
    bench.have("docker", docker)
    bench.have("podman", podman)
    race(saves, min(runs, 3), warm_up=0)
    sizes = ", ".join(f"{e.name} {archives[e.name].stat().st_size / 1e6:.0f} MB" for e in saves)
    results = [(f"`save` of a 4-layer image to a file ({sizes})", saves, [("docker", "at least", 1), ("podman", "at least", 1)])]
    for whose in [e.name for e in saves if e.name != "podman"]:
        entrants = loaders(bench, [e.name for e in saves], str(archives[whose]), image, settle, trash)
        race(entrants, min(runs, 3), warm_up=0)
        results.append((f"`load` of what {whose} saved", entrants, [("docker", "at least", 1), ("podman", "at least", 1)]))
    return results


def loaders(bench, names, archive, image, settle, trash):
    """An entrant for each engine, which has nothing of the image before its turn."""
    def umiak():
        clear = lambda: trash(bench.work / "umiak-load")
        return bench.host, bench.ours("umiak-load"), clear

    def docker():
        return bench.peers, bench.docker(), lambda: (bench.peers.run(*bench.docker("rmi", "-f", image)),
                                                     bench.peers.run(*bench.docker("image", "prune", "-af")))

    def podman():
        store = "podman-loads"
        return bench.peers, bench.podman(store), lambda: (bench.peers.must("rm", "-rf", f"/run/{store}"), trash(bench.work / store))

    made = []
    for name, make in [("umiak", umiak), ("docker", docker), ("podman", podman)]:
        if name in names:
            worker, argv, clear = make()
            made.append(Entrant(name, worker, [*argv, "load", "-q", "-i", archive],
                                before=lambda clear=clear: (clear(), settle()), after=clear))
    return made


# --- many images ------------------------------------------------------------------------------------------------------

OWN, SHARED = 200_000, 5_000_000


def make_shared(folders):
    """Images of one layer in common and one of their own, of bytes that do not compress."""
    sys.path.insert(0, str(TREE / "fixtures/images"))
    sys.dont_write_bytecode = True
    import small
    base = small.tree([("base", os.urandom(SHARED), 0o644)])
    for folder in folders:
        folder.parent.mkdir(exist_ok=True)
        layout = small.Layout(folder.parent, folder.name)
        own = small.tree([("own", os.urandom(OWN), 0o644)])
        layers = [layout.blob(gzip.compress(tar, 1, mtime=0), small.OCI + "layer.v1.tar+gzip") for tar in (base, own)]
        ids = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in (base, own)]
        body = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
        layout.tag(layout.manifest(layout.blob(small.dump(body), small.OCI + "config.v1+json"), layers))


def images100(bench, runs):
    """What 99 more images take, of which only a small layer is new."""
    print("### 100 images that share a layer\n\n| | first pull | 99 more, each | disk of the first | 99 more, each |\n|---|---|---|---|---|")
    def measure(name, worker, argv, folder):
        size = lambda: int(worker.must("du", "-sB1", folder).split()[0])
        pull = lambda number: worker.run(*argv, "pull", "-q", f"{bench.registry}/library/shared:{number}")["seconds"]
        empty = size() if pathlib.Path(folder).exists() else 0
        first, one = pull(0), size() - empty
        more = sum(pull(number) for number in range(1, 100)) / 99
        each = (size() - empty - one) / 99
        # Kept packed and unpacked: twice what is new, and some for records and names.
        print(f"| {name} | {seconds(first)} | {seconds(more)} | {one / 1e6:.1f} MB | {each / 1e6:.2f} MB |")
        return each
    each = measure("umiak", bench.host, bench.ours("umiak-shared"), bench.work / "umiak-shared")
    def docker():
        bench.docker()
        measure("docker", bench.peers, bench.docker(), bench.work / "docker")
    bench.have("docker", docker)
    print(f"\n- {'reached' if each < 3 * OWN else 'NOT reached'}: an image more takes {each / OWN:.2f} times the bytes that are new "
          "(at most 3, packed and unpacked)\n")


# --- life -------------------------------------------------------------------------------------------------------------

SLEEP = ["--network", "none"]


def images(bench, podman_store):
    """The same busybox in every engine, under the name that each knows it by."""
    image = f"{bench.registry}/library/busybox:latest"
    bench.host.must(*bench.ours("umiak", "pull", image))
    names = {"umiak": image}
    def docker():
        bench.peers.must(*bench.docker("pull", image))
        names["docker"] = image
    def podman():
        bench.stack.callback(lambda: bench.peers.run("rm", "-rf", bench.work / podman_store))
        bench.peers.must(*bench.podman(podman_store, "pull", "--tls-verify=false", image))
        names["podman"] = image
    bench.have("docker", docker)
    if podman_store:
        bench.have("podman", podman)
    return names


def engines(bench, podman_store):
    """How each engine is called."""
    return {"umiak": (bench.host, lambda *a: bench.ours("umiak", *a)), "docker": (bench.peers, bench.docker),
            "podman": (bench.peers, lambda *a: bench.podman(podman_store, *a))}


def exec_(bench, runs):
    store = "podman-exec"
    names, call, entrants = images(bench, store), engines(bench, store), []
    for engine, image in names.items():
        worker, argv = call[engine]
        extra = ["--cgroup-parent", "/" + bench.group] if engine == "podman" else []
        worker.must(*argv("run", "-d", "--name", "bench-exec", *SLEEP, *extra, image, "sleep", "10000"))
        bench.stack.callback(worker.run, *argv("rm", "-f", "bench-exec"))
        entrants.append(Entrant(engine, worker, argv("exec", "bench-exec", "true")))
    race(entrants, runs, warm_up=3)
    return "`exec` of `true` in a running container", entrants, [("docker", "at least", 10)]


def many(bench, runs):
    """100 detached containers, one after another and 8 at a time."""
    names, call, entrants = images(bench, None), engines(bench, None), []
    for label, parallel in [("", 1), (", 8 at a time", 8)]:
        for engine, image in names.items():
            worker, argv = call[engine]
            begin = " ".join(argv("run", "-d", *SLEEP, image, "sleep", "10000"))
            script = f"seq 100 | xargs -P {parallel} -I N {begin} >/dev/null"
            clear = "ids=$(" + " ".join(argv("ps", "-aq")) + "); [ -z \"$ids\" ] || " + " ".join(argv("rm", "-f")) + " $ids >/dev/null"
            after = lambda worker=worker, clear=clear: worker.must("sh", "-c", clear)
            bench.stack.callback(after)
            entrants.append(Entrant(engine + label, worker, ["sh", "-c", script], after=after))
    race(entrants, min(runs, 3), warm_up=0)
    return "100 × `run -d`", entrants, [("docker", "at least", 10)]


def store(bench, runs):
    """What 1,000 stopped containers in the store cost a new one, and lists of 1,000 containers and of 1,000 images."""
    image = f"{bench.registry}/library/busybox:latest"
    run = ["run", "--rm", *SLEEP, image, "true"]
    entrants = []
    for name, count in [("empty", 0), ("full", 1000)]:
        ours = lambda *a, name=name: bench.ours(f"umiak-{name}", *a)
        bench.host.must(*ours("pull", image))
        bench.host.must("sh", "-c", f"seq {count} | xargs -P 4 -I N " + " ".join(ours("create", *SLEEP, image, "true")) + " >/dev/null")
        entrants.append(Entrant(f"umiak, {count} containers in the store" if count else "umiak", bench.host, ours(*run)))
    entrants.append(Entrant("umiak ps -a of 1,000", bench.host, bench.ours("umiak-full", "ps", "-a")))
    images_of = lambda *a: bench.ours("umiak-images", *a)
    each = " ".join(images_of("import", "-", "bench:N"))
    bench.host.must("sh", "-c", f"cd {bench.work} && seq 1000 | xargs -I N sh -c 'echo N >N.txt; tar c N.txt | {each} >/dev/null; rm N.txt'")
    entrants.append(Entrant("umiak images of 1,000", bench.host, images_of("images")))
    race(entrants, runs, warm_up=3)
    print(f"- `images` of 1,000: {seconds(entrants[3].median())} (at most 30 ms)")
    print(f"- `ps -a` of 1,000 containers: {seconds(entrants[2].median())} (at most 30 ms)")
    print(f"- `run --rm` with 1,000 stopped: {entrants[1].median() / entrants[0].median():.2f}× of an empty store (at most 1.2×)\n")
    return "`run --rm` beside 1,000 stopped containers", entrants, []


def private_kib(worker, pid):
    said = worker.must("cat", f"/proc/{pid}/smaps_rollup")
    return sum(int(line.split()[1]) for line in said.splitlines() if line.startswith("Private_"))


def code_kib(pid):
    """Of a Wasm program's code, as it is mapped: what is in memory for all containers of the image together, and for this one alone."""
    shared, private, inside = 0, 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        word, rest = line.split(maxsplit=1)
        if not word.endswith(":"):
            inside = line.endswith(".cwasm")
        elif inside and word in ("Shared_Clean:", "Shared_Dirty:"):
            shared += int(rest.split()[0])
        elif inside and word in ("Private_Clean:", "Private_Dirty:"):
            private += int(rest.split()[0])
    return shared, private


def memory(bench, runs):
    """Private memory of what stays beside each idle detached container: our supervisor, docker's shim, podman's conmon."""
    podman_store = "podman-memory"
    names, call, count = images(bench, podman_store), engines(bench, podman_store), 10
    whose = {"umiak": "__supervisor", "docker": "containerd-shim-runc-v2", "podman": "conmon"}
    print("### Private memory of an idle detached container's supervisor\n\n| | process | median of %d |\n|---|---|---|" % count)
    guest = lambda name, *rest: ["--platform", "wasi/wasm", *rest, f"{bench.registry}/wasm/{name}"]
    kinds = [(engine, engine, [image, "sleep", "10000"]) for engine, image in names.items()]
    kinds[1:1] = [("umiak, a Wasm program", "umiak", [*guest("does:artifact-p1"), "sleep", "10000000"]),
                  ("umiak, a Wasm server of HTTP", "umiak", guest("serve2:artifact-p2", "-p", "127.0.0.1::80"))]
    notes = []
    for label, engine, what in kinds:
        worker, argv = call[engine]
        extra = ["--cgroup-parent", "/" + bench.group] if engine == "podman" else []
        ids = [worker.must(*argv("run", "-d", *SLEEP, *extra, *what)).split()[-1] for _ in range(count)]
        bench.stack.callback(worker.run, *argv("rm", "-f", *ids))
        time.sleep(2)
        found, code = [], []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                if whose[engine] in line and any(id[:12] in line for id in ids):
                    found.append(private_kib(worker, pid))
                    code.append(code_kib(pid))
        if found:
            print(f"| {label} | `{whose[engine]}` | {statistics.median(found) / 1024:.2f} MB |")
        if any(map(sum, code)):
            once, each = (f"{statistics.median(part) / 1024:.2f} MB" for part in zip(*code))
            notes.append(f"- {label}: of its code {once} are in memory for all containers of the image together, {each} for each alone")
    print("", *notes, "", sep="\n")


# --- network ----------------------------------------------------------------------------------------------------------

class Town:
    """A host's network of its own for one engine: bridges and firewall rules are made where they disturb nobody. Another host
    (192.0.2.9) is on a cable to it (192.0.2.1)."""

    def __init__(self, bench, inside=()):
        self.bench = bench
        here, other = (self.space() for _ in range(2))
        bench.host.must("nsenter", f"--net=/proc/{here}/ns/net", "sh", "-ec",
            f"ip link add cable type veth peer name eth0 netns {other}; ip addr add 192.0.2.1/24 dev cable; ip link set cable up")
        enter = lambda pid: ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
        bench.host.must(*enter(other), "sh", "-ec", "ip addr add 192.0.2.9/24 dev eth0; ip link set eth0 up")
        self.host, self.other = self.worker([*enter(here), *inside]), self.worker(enter(other))
        self.socket = None

    def space(self):
        script = "ip link set lo up && echo up && exec sleep 100000"
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        self.bench.stack.callback(process.wait, 30)
        self.bench.stack.callback(process.terminate)
        if process.stdout.readline() != "up\n":
            raise SystemExit("bench: no network namespace can be made")
        return process.pid

    def worker(self, enter):
        worker = Worker(enter)
        self.bench.stack.callback(worker.close)
        return worker

    def docker(self, *arguments):
        """A docker with its bridge and its firewall rules, as it is installed."""
        if self.socket is None:
            self.socket = "unix:///run/docker-network.sock"
            log = self.bench.work / "dockerd-network.log"
            self.host.ask(do="service", log=str(log), argv=[
                "dockerd", "--host", self.socket, "--data-root", str(self.bench.work / "docker-network"), "--exec-root",
                "/run/docker-network", "--pidfile", "/run/docker-network.pid", "--cgroup-parent", "/" + self.bench.group,
                "--exec-opt", "native.cgroupdriver=cgroupfs"])
            for _ in range(300):
                if self.host.run("docker", "--host", self.socket, "version")["status"] == 0:
                    break
                time.sleep(0.1)
            else:
                raise Missing("dockerd did not start: " + log.read_text(errors="replace")[-600:])
        return ["docker", "--host", self.socket, *arguments]


def network(bench, runs):
    image, inside = f"{bench.registry}/library/busybox:latest", [str(TREE / "tests/peers"), "enter"]
    # Each has a host of its own: what docker does not know it does not let through.
    ours, *peers = Town(bench), *(Town(bench, inside) for _ in range(2 if bench.peers else 0))
    towns = dict(zip(("umiak", "docker", "podman"), (ours, *peers)))
    saved = bench.work / "busybox.tar"
    bench.host.must(*bench.ours("umiak", "pull", image))
    bench.host.must(*bench.ours("umiak", "save", "-o", saved, image))
    podman_store = "podman-network"
    bench.stack.callback(lambda: bench.host.run("rm", "-rf", bench.work / podman_store))
    calls = {"umiak": lambda *a: bench.ours("umiak", *a), "docker": lambda *a: towns["docker"].docker(*a),
             "podman": lambda *a: bench.podman(podman_store, *a)}

    def peer(name, *extra):
        worker, argv = towns[name].host, calls[name]
        worker.must(*argv("load", "-i", str(saved)))
        argv = argv("run", "--rm", *extra, image, "true")
        worker.must(*argv)
        return Entrant(name, worker, argv)

    none = bench.ours("umiak", "run", "--rm", "--network", "none", image, "true")
    entrants = [Entrant("umiak", ours.host, bench.ours("umiak", "run", "--rm", "--network", "bridge", image, "true")),
                Entrant("umiak, --network none", ours.host, none), bench.have("docker", lambda: peer("docker")),
                bench.have("podman", lambda: peer("podman", "--cgroup-parent", "/" + bench.group))]
    entrants = [e for e in entrants if e]
    race(entrants, runs, warm_up=3)
    bench.have("iperf3", lambda: throughput(bench, towns, calls))
    return "`run --rm` of busybox `true` on the default bridge", entrants, [
        ("docker", "at least", 15), ("umiak, --network none", "at most", 2)]


def iperf3_root(bench):
    """A root of iperf3 and the libraries that it needs, as a tar."""
    program = shutil.which("iperf3")
    if program is None:
        raise Missing("iperf3 is not installed")
    said = bench.host.must("ldd", program)
    libraries = [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
    root = bench.work / "iperf3.tar"
    with tarfile.open(root, "w") as tar:
        for path in [program, *libraries]:
            tar.add(os.path.realpath(path), path.lstrip("/"))
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return root, program


def throughput(bench, towns, calls):
    """What goes through a published port from another host, and from one container to another: the best that each can, in turns."""
    (root, program), ways = iperf3_root(bench), {}
    for engine in ("umiak", "docker"):
        if engine not in towns:
            continue
        worker, argv, name = towns[engine].host, calls[engine], "bench-iperf3"
        worker.must(*argv("import", str(root), "bench:iperf3"))
        worker.must(*argv("run", "-d", "--name", name, "-p", "5201:5201", "bench:iperf3", program, "-s"))
        bench.stack.callback(worker.run, *argv("rm", "-f", name))
        address = worker.must(*argv("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)).strip()
        asks = [program, "-J", "-t", "3", "-c"]
        ways[engine, "published port, from another host"] = (towns[engine].other, [*asks, "192.0.2.1"])
        ways[engine, "container to container"] = (worker, argv("run", "--rm", "bench:iperf3", *asks, address))
    found = {way: [] for way in ways}
    for _ in range(5):
        for way, (worker, argv) in ways.items():
            into = bench.work / "iperf3.json"
            done = worker.run("sh", "-c", 'exec "$@" >"$0"', str(into), *argv)
            said = into.read_text()
            if done["status"] != 0 or "sum_received" not in said:
                raise SystemExit(f"bench: iperf3 of {way}: {done['said']} {said}")
            found[way].append(json.loads(said)["end"]["sum_received"]["bits_per_second"])
    print("### iperf3, one connection\n\n| | umiak | docker | |\n|---|---|---|---|")
    for name in dict.fromkeys(name for _, name in ways):
        rates = [found.get((engine, name)) for engine in ("umiak", "docker")]
        shown = [f"{statistics.median(rate) / 1e9:.1f} Gbit/s" if rate else "–" for rate in rates]
        ratio = f"{statistics.median(rates[0]) / statistics.median(rates[1]):.2f}×" if all(rates) else "–"
        print(f"| {name} | {shown[0]} | {shown[1]} | {ratio} |")
    print(flush=True)
    return True


# --- what is printed --------------------------------------------------------------------------------------------------

def seconds(value):
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def report(title, entrants, targets):
    """The table, and for each target whether it is reached."""
    by_name = {e.name: e for e in entrants if e.samples}
    print(f"### {title}\n\n| | median | fastest | slowest | to umiak | CPU | peak memory |\n|---|---|---|---|---|---|---|")
    for entrant in (e for e in entrants if e.samples):
        # A peer is held against our run of the same thing.
        own = by_name.get("umiak") or by_name.get("umiak, " + entrant.name[-2:])
        times = [s["seconds"] for s in entrant.samples]
        ratio = f"{entrant.median() / own.median():.2f}×" if own else "–"
        processor = statistics.median(s["user"] + s["system"] for s in entrant.samples)
        peak = statistics.median(s["peak_kib"] for s in entrant.samples)
        least = entrant.worker.floor()
        memory = f"{peak / 1024:.0f} MB" if peak > least else f"< {least / 1024:.0f} MB"
        # A client of a daemon does not do the work itself, so its usage says nothing.
        used = [seconds(processor), memory] if entrant.name != "docker" else ["–", "–"]
        print(f"| {entrant.name} | {seconds(entrant.median())} | {seconds(min(times))} | {seconds(max(times))} | {ratio} | "
              + " | ".join(used) + " |")
    print()
    verdicts = []
    for name, how, factor in targets:
        own = by_name.get("umiak") or by_name.get("umiak, " + name[-2:])
        if own is None or name not in by_name:
            continue
        if how == "at most":
            reached = own.median() / by_name[name].median()
            line, met = f"{reached:.2f}× the time of {name} (at most {factor}×)", reached <= factor
        else:
            reached = by_name[name].median() / own.median()
            line, met = f"{reached:.1f}× faster than {name} (at least {factor}×)", reached >= factor
        verdicts.append({"target": line, "met": met})
        print(f"- {'reached' if met else 'NOT reached'}: {line}")
    for entrant in (e for e in entrants if e.failed):
        print(f"- FAILED {len(entrant.failed)} times, left out above: {entrant.name}: {entrant.failed[0]}")
    print(flush=True)
    return verdicts


MEASURES = {"start": start, "wasm": wasm, "cpu": cpu, "http": http, "pull": pull, "load": load, "images100": images100, "exec": exec_,
            "many": many, "store": store, "memory": memory, "network": network}


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("what", nargs="+", choices=list(MEASURES))
    asked.add_argument("--runs", type=int, default=20)
    asked = asked.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, asked.what)
        conditions = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "kernel": os.uname().release,
                      "cpus": os.cpu_count(), "load_before": os.getloadavg()[0], "runs": asked.runs, "versions": bench.versions()}
        print(f"Linux {conditions['kernel']}, {conditions['cpus']} CPUs, load {conditions['load_before']:.1f} before the start; "
              + "; ".join(conditions["versions"].values()) + "\n")
        failures = 0
        for what in asked.what:
            result = MEASURES[what](bench, asked.runs)
            if result is None:
                continue
            conditions["load_after"] = os.getloadavg()[0]
            for place, (title, entrants, targets) in enumerate(result if isinstance(result, list) else [result]):
                failures += sum(len(e.failed) for e in entrants)
                verdicts = report(title, entrants, targets)
                samples = {e.name: [{k: v for k, v in s.items() if k != "said"} for s in e.samples] for e in entrants}
                (OUT / f"{what}{place or ''}.json").write_text(json.dumps(
                    {"title": title, "conditions": conditions, "samples": samples, "targets": verdicts, "skipped": bench.skipped,
                     "failed": {e.name: e.failed for e in entrants if e.failed}}, indent=1))
    if failures:
        sys.exit("bench: some runs failed")


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        serve()
    else:
        main()
