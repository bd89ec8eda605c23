"""The table of settings: one field each, whose metadata names the variable, its unit and what it is for."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20


def _is_root() -> bool:
    return os.geteuid() == 0


def _home() -> Path:
    return Path(os.environ.get("HOME") or "~").expanduser()


def _state_dir() -> Path:
    return Path("/var/lib/era") if _is_root() else _home() / ".local/state/era"


def _runtimes_root() -> Path:
    return Path("/var/lib/era/runtimes") if _is_root() else _home() / ".cache/era/runtimes"


def _meta(env: str, help: str, *, unit: str = "", shown: str = "", more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Metadata of one setting; ``more`` are older names, ``shown`` replaces a default that depends on the machine."""
    return {"env": env, "help": help, "unit": unit, "shown": shown, "more": more}


@dataclass(frozen=True, kw_only=True)
class Conf:
    """All settings of one process. Get them by :func:`era_project.conf.get`."""

    port: int = field(default=8787, metadata=_meta("PORT", "TCP port of the HTTP server; 0 takes a free one."))
    host: str = field(
        default="",
        metadata=_meta("ERA_HOST", "Address to listen on; empty: loopback only, IPv4 and IPv6.", shown="loopback"),
    )
    state_dir: Path = field(
        default_factory=_state_dir,
        metadata=_meta(
            "ERA_STATE_DIR",
            "Folder of everything that must survive a restart.",
            shown="`/var/lib/era` as root, else `~/.local/state/era`",
            more=("AGENT_STATE_DIR",),
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_meta("ERA_LOG_LEVEL", "One of debug, info, warn, error.", more=("AGENT_LOG_LEVEL",)),
    )
    runtimes_root: Path = field(
        default_factory=_runtimes_root,
        metadata=_meta(
            "ERA_RUNTIMES_DIR",
            "Folder of the languages' runtimes, one sub-folder for each set of versions.",
            shown="`/var/lib/era/runtimes` as root, else `~/.cache/era/runtimes`",
        ),
    )
    runtimes: str = field(
        default="",
        metadata=_meta(
            "ERA_RUNTIMES",
            "The very folder that holds python/, node/, deno/ and go/; `serve` sets it for its parts.",
            shown="`current` in ERA_RUNTIMES_DIR",
        ),
    )
    public_url: str = field(
        default="",
        metadata=_meta("ERA_PUBLIC_URL", "Base of every URL that answers contain.", shown="`http://localhost:PORT`"),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_meta("ERA_ALLOWED_HOSTS", "Further names (comma separated) that a Host header may carry."),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_meta("ERA_CORS_ORIGINS", "Origins (comma separated) whose pages may call the API."),
    )
    uid_base: int = field(
        default=0,
        metadata=_meta(
            "ERA_UID_BASE",
            "Root only: first host uid of this server's; it takes six for each slot, 1,024 at least.",
            shown="free ones are taken",
        ),
    )
    slots: str = field(
        default="auto",
        metadata=_meta("ERA_SLOTS", "`auto` reuses a sandbox that is proved clean; `strict` builds each run's anew."),
    )
    slot_mode: str = field(
        default="auto", metadata=_meta("ERA_SLOT_MODE", "How sandboxes get their rights: auto, root, sub or one.")
    )
    slot_count: int = field(
        default=0,
        metadata=_meta("ERA_SLOT_COUNT", "One-shot sandboxes of a node.", shown="four for each core, at least 8"),
    )
    live_max: int = field(default=16, metadata=_meta("ERA_LIVE_MAX", "Sessions that a node keeps live at most."))
    live_idle_s: float = field(
        default=600.0, metadata=_meta("ERA_LIVE_IDLE_S", "Idle time after which a live session is stored.", unit="s")
    )
    live_freeze_s: float = field(
        default=2.0, metadata=_meta("ERA_LIVE_FREEZE_S", "Idle time after which a live session is frozen.", unit="s")
    )
    live_save_s: float = field(
        default=30.0,
        metadata=_meta(
            "ERA_LIVE_SAVE_S", "Idle time after which changed variables are stored, the sandbox kept.", unit="s"
        ),
    )
    live_reserve_mib: int = field(
        default=512,
        metadata=_meta("ERA_LIVE_RESERVE_MIB", "Free memory below which idle live sessions are stored.", unit="MiB"),
    )
    parked: Mapping[str, int] = field(
        default_factory=dict,
        metadata=_meta(
            "ERA_PARKED",
            "Interpreters booted ahead of need while their language is in use, such as `node=1,deno=0`.",
            shown="small, by language",
        ),
    )
    database_url: str = field(
        default="",
        metadata=_meta("DATABASE_URL", "PostgreSQL to use.", shown="the embedded one in the state folder"),
    )
    broker_url: str = field(
        default="",
        metadata=_meta("ERA_BROKER_URL", "Valkey, Redis or RabbitMQ to use.", shown="the embedded Valkey"),
    )
    redis_url: str = field(
        default="",
        metadata=_meta("ERA_REDIS_URL", "Valkey or Redis of live events and replies.", shown="the broker"),
    )
    s3_endpoint: str = field(
        default="",
        metadata=_meta("ERA_S3_ENDPOINT", "host:port of a MinIO or S3 object store.", shown="a folder"),
    )
    s3_access_key: str = field(default="", metadata=_meta("ERA_S3_ACCESS_KEY", "Its access key."))
    s3_secret_key: str = field(default="", metadata=_meta("ERA_S3_SECRET_KEY", "Its secret key."))
    s3_bucket: str = field(default="era", metadata=_meta("ERA_S3_BUCKET", "Its bucket."))
    s3_secure: bool = field(default=True, metadata=_meta("ERA_S3_SECURE", "Whether it is spoken to over TLS."))
    default_timeout_s: float = field(
        default=30.0, metadata=_meta("ERA_DEFAULT_TIMEOUT_S", "Wall time of a run that names none.", unit="s")
    )
    max_timeout_s: float = field(
        default=3600.0, metadata=_meta("ERA_MAX_TIMEOUT_S", "Wall time that a run may ask for.", unit="s")
    )
    queue_timeout_s: float = field(
        default=60.0, metadata=_meta("ERA_QUEUE_TIMEOUT_S", "How long a run waits to be started.", unit="s")
    )
    max_body_bytes: int = field(
        default=16 * MIB, metadata=_meta("ERA_MAX_BODY_BYTES", "Largest JSON body.", unit="bytes")
    )
    max_code_bytes: int = field(default=4 * MIB, metadata=_meta("ERA_MAX_CODE_BYTES", "Largest `code`.", unit="bytes"))
    max_env_bytes: int = field(
        default=128 * 1024, metadata=_meta("ERA_MAX_ENV_BYTES", "Largest `env`, names and values.", unit="bytes")
    )
    max_data_bytes: int = field(
        default=MIB, metadata=_meta("ERA_MAX_DATA_BYTES", "Largest `data` and `metadata`, each.", unit="bytes")
    )
    default_cpu: float = field(
        default=1.0, metadata=_meta("ERA_DEFAULT_CPU", "`cpu_count` of a run that names none.", unit="cores")
    )
    max_cpu: float = field(default=8.0, metadata=_meta("ERA_MAX_CPU", "Largest `cpu_count`.", unit="cores"))
    default_memory_mib: int = field(
        default=256, metadata=_meta("ERA_DEFAULT_MEMORY_MIB", "`memory_mib` of a run that names none.", unit="MiB")
    )
    max_memory_mib: int = field(default=8192, metadata=_meta("ERA_MAX_MEMORY_MIB", "Largest `memory_mib`.", unit="MiB"))
    max_queued_runs: int = field(
        default=100, metadata=_meta("ERA_MAX_QUEUED_RUNS", "Runs that may wait in one session.")
    )
    run_keep_hours: float = field(
        default=24.0, metadata=_meta("ERA_RUN_KEEP_HOURS", "How long a run's record is kept.", unit="h")
    )
    workspace_bytes: int = field(
        default=4096 * MIB, metadata=_meta("ERA_WORKSPACE_BYTES", "Largest session workspace.", unit="bytes")
    )
    workspace_files: int = field(
        default=100_000, metadata=_meta("ERA_WORKSPACE_FILES", "Most files of a session workspace.")
    )
    lease_s: float = field(
        default=4.0,
        metadata=_meta("ERA_LEASE_S", "Silence after which a worker node counts as dead.", unit="s"),
    )
    webhook_allow_private: bool = field(
        default=False,
        metadata=_meta("ERA_WEBHOOK_ALLOW_PRIVATE", "Whether webhooks may go to private addresses."),
    )
    node_name: str = field(
        default_factory=socket.gethostname,
        metadata=_meta("ERA_NODE_NAME", "Name of this worker node.", shown="the host's name"),
    )
    secrets: str = field(
        default="",
        metadata=_meta(
            "ERA_SECRETS",
            "File of the server's own keys, made at the first start.",
            shown="`secrets.json` in the state",
        ),
    )
    uid_block: int = field(
        default=0,
        metadata=_meta("ERA_UID_BLOCK", "Root only, set by `serve` for its parts: first host uid of sandboxes."),
    )
    uid_count: int = field(
        default=0,
        metadata=_meta("ERA_UID_COUNT", "Root only, set by `serve` for its parts: number of those uids."),
    )
    cgroup: str = field(
        default="",
        metadata=_meta("ERA_CGROUP", "Set by `serve` for its parts: name of the sandboxes' control group."),
    )
    run_dir: str = field(
        default="",
        metadata=_meta("ERA_RUN_DIR", "Scratch folder with a short path.", shown="`run` in the state folder"),
    )

    @property
    def one_shot_slots(self) -> int:
        """Four for each core, at least eight: built on demand, so that four spinning runs leave room for others."""
        return self.slot_count or max(8, 4 * (os.cpu_count() or 1))

    @property
    def secrets_file(self) -> Path:
        """The file that :mod:`era_project.secrets` reads."""
        return Path(self.secrets) if self.secrets else self.state_dir / "secrets.json"

    @property
    def runtimes_dir(self) -> Path:
        """The folder with ``python/ node/ deno/ go/ gocache/``."""
        return Path(self.runtimes) if self.runtimes else self.runtimes_root / "current"

    @property
    def workspaces_dir(self) -> Path:
        """The folder of this node's session workspaces."""
        return self.state_dir / "workspaces"

    @property
    def objects_dir(self) -> Path:
        """The folder that is the object store where there is no MinIO."""
        return self.state_dir / "objects"

    @property
    def scratch_dir(self) -> Path:
        """Private scratch of this node's runner."""
        return Path(self.run_dir) if self.run_dir else self.state_dir / "run"

    @property
    def base_url(self) -> str:
        """Base of every URL that answers contain, without a trailing slash."""
        return (self.public_url or f"http://localhost:{self.port}").rstrip("/")
