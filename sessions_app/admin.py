"""The admin: sessions, runs, files and nodes to look at, search, end and cancel; everything changes by services."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as StockGroupAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from sessions_app import run_object
from sessions_app.models import OPEN, Entry, Node, Run, Session
from sessions_app.services import endings, runs

admin.site.site_header = admin.site.site_title = "ERA"
admin.site.index_title = "Sessions, runs, files, nodes"

SHOWN_CHARACTERS = 64 << 10
ALLOWANCES = ("allow_internet", "allow_public")


class Looked(ModelAdmin):
    """A list to look at: nothing is added or edited by hand."""

    list_per_page = 50
    show_full_result_count = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


class Undeletable(Looked):
    """Rows that end by themselves."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


def _counted(rows: QuerySet[Any]) -> Coalesce:
    counted = rows.order_by().values("session").annotate(n=Count("*")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


@admin.register(Session)
class SessionAdmin(Looked):
    """Sessions; deleting one ends its runs, its sandbox and its files."""

    list_display = (
        "name", "language", "state", "persistent", "files", "size", "runs_kept", "runs_open", "created_at",
        "last_run_at",
    )  # fmt: skip
    list_filter = ("language", "state", "persistent", "node", "owner", "created_at")
    search_fields = ("name", "metadata")
    ordering = ("-created_at", "-id")
    readonly_fields = ("kept_data", "stored_code")
    fieldsets = (
        (None, {"fields": ("name", "owner", "language", "state", "persistent", "metadata", "kept_data")}),
        ("Limits", {"fields": ("default_timeout_s", "cpu_count", "memory_mib", "sandbox", *ALLOWANCES)}),
        ("Files and state", {"fields": ("file_count", "total_bytes", "node", "snapshot_lost", "lost_reason")}),
        ("Stored code", {"fields": ("stored_code", "code_description", "code_updated_at")}),
        ("Times", {"fields": ("created_at", "updated_at", "last_run_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        """The sessions with the counts of their runs."""
        own = Run.objects.filter(session=OuterRef("pk"))
        listed: QuerySet[Session] = super().get_queryset(request)
        return listed.annotate(kept=_counted(own), open=_counted(own.filter(OPEN)))

    @admin.display(description="data")
    def kept_data(self, session: Session) -> SafeString:
        """As it is stored."""
        return _text(session.data)

    @admin.display(description="code")
    def stored_code(self, session: Session) -> SafeString:
        """What runs when a run brings no code."""
        return _text(session.code)

    @admin.display(description="files", ordering="file_count")
    def files(self, session: Session) -> SafeString:
        """How many, leading to them."""
        return format_html(
            '<a href="/admin/sessions_app/entry/?session__id__exact={}">{}</a>', session.pk, session.file_count
        )

    @admin.display(description="size", ordering="total_bytes")
    def size(self, session: Session) -> str:
        """Of all files."""
        return filesizeformat(session.total_bytes)

    @admin.display(description="runs", ordering="kept")
    def runs_kept(self, session: Any) -> SafeString:
        """How many are kept, leading to them."""
        return format_html('<a href="/admin/sessions_app/run/?session__id__exact={}">{}</a>', session.pk, session.kept)

    @admin.display(description="unfinished", ordering="open")
    def runs_open(self, session: Any) -> int:
        """How many wait or run."""
        return int(session.open)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the page that asks shows: not each of a hundred thousand files."""
        chosen = list(objs)
        files = sum(session.file_count for session in chosen)
        return [str(session) for session in chosen], {"sessions": len(chosen), "files": files}, set(), []

    def delete_model(self, request: HttpRequest, obj: Session) -> None:
        """End one session."""
        endings.delete_many([obj.name], owner_id=obj.owner_id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """End the chosen sessions."""
        by_owner: dict[int, list[str]] = {}
        for owner_id, name in queryset.values_list("owner_id", "name"):
            by_owner.setdefault(owner_id, []).append(name)
        for owner_id, names in by_owner.items():
            endings.delete_many(names, owner_id=owner_id)


@admin.register(Run)
class RunAdmin(Undeletable):
    """Runs and what they printed; unfinished ones can be cancelled."""

    list_display = (
        "id", "session_name", "language", "status", "exit_code", "execution_time_ms", "node", "created_at",
    )  # fmt: skip
    list_filter = ("status", "language", "node", "sandbox", "streamed", "created_at")
    search_fields = ("id", "session_name", "node")
    ordering = ("-created_at", "-id")
    actions: ClassVar[list[str]] = ["cancel_runs"]
    readonly_fields = ("program", "printed", "errors")
    fieldsets = (
        (None, {"fields": ("id", "session_name", "seq", "language", "status", "exit_code", "signal", "message")}),
        ("Program and output", {"fields": ("program", "printed", "errors", "stdout_bytes", "stderr_bytes", "result")}),
        ("What it left", {"fields": ("changes", "data", "data_error", "state", "warnings")}),
        (
            "Where and how",
            {"fields": ("node", "sandbox", "timeout_s", "cpu_count", "memory_mib", "streamed", "detached")},
        ),
        ("Times", {"fields": ("created_at", "started_at", "finished_at", "queue_until", "execution_time_ms", "usage")}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        """By the start of the run's id, the session's or the node's name."""
        for word in search_term.split():
            wanted = Q(session_name__icontains=word) | Q(node__icontains=word) | Q(id__icontains=word)
            queryset = queryset.filter(wanted)
        return queryset, False

    @admin.display(description="code")
    def program(self, run: Run) -> SafeString:
        """What was run; nothing where it was the session's stored code."""
        return _text(run.code)

    @admin.display(description="stdout")
    def printed(self, run: Run) -> SafeString:
        """The first of it."""
        return _output(run.stdout, run.stdout_blob)

    @admin.display(description="stderr")
    def errors(self, run: Run) -> SafeString:
        """The first of it."""
        return _output(run.stderr, run.stderr_blob)

    @admin.action(description="Cancel the chosen runs")
    def cancel_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Cancel those that are not finished."""
        chosen = list(queryset.filter(OPEN).values_list("id", "owner_id"))
        for run_id, owner_id in chosen:
            runs.cancel(str(run_id), owner_id=owner_id, wait_s=0)
        self.message_user(request, f"{len(chosen)} unfinished runs were told to end.", messages.SUCCESS)


def _output(content: Any, blob: str | None) -> SafeString:
    if blob is not None:
        return format_html("{}", "(large: GET /api/runs/ has it)")
    return _text(run_object.decode(content))


def _text(text: str | None) -> SafeString:
    return format_html('<pre class="whitespace-pre-wrap font-mono text-sm">{}</pre>', (text or "")[:SHOWN_CHARACTERS])


@admin.register(Entry)
class EntryAdmin(Undeletable):
    """Files, empty folders and links of sessions."""

    list_display = ("path", "session", "kind", "size_shown", "download")
    list_filter = ("kind", "session__language")
    search_fields = ("path", "session__name", "blob")
    list_select_related = ("session",)
    ordering = ("session", "path")

    @admin.display(description="size", ordering="size")
    def size_shown(self, entry: Entry) -> str:
        """For people."""
        return filesizeformat(entry.size)

    @admin.display(description="")
    def download(self, entry: Entry) -> SafeString | str:
        """A link to the content."""
        if entry.kind != Entry.Kind.FILE:
            return ""
        address = f"/api/sessions/{quote(entry.session.name)}/files/{quote(entry.path)}"
        return format_html('<a href="{}">open</a>', address)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """The session's link leads here."""
        return lookup == "session__id__exact" or super().lookup_allowed(lookup, value, request)


@admin.register(Node)
class NodeAdmin(Undeletable):
    """Worker nodes and their leases."""

    list_display = (
        "name",
        "alive",
        "draining",
        "slots",
        "serves",
        "busy",
        "live_sessions",
        "lease_until",
        "started_at",
    )
    list_filter = ("draining",)
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        """The nodes with what they do now."""
        running = Run.objects.filter(OPEN, node=OuterRef("name"), status="running")
        held = Session.objects.filter(node=OuterRef("name"))
        listed: QuerySet[Node] = super().get_queryset(request)
        return listed.annotate(is_alive=Q(lease_until__gt=Now()), running=_by_node(running), held=_by_node(held))

    @admin.display(boolean=True, description="alive")
    def alive(self, node: Any) -> bool:
        """By the database's clock."""
        return bool(node.is_alive)

    @admin.display(description="serves")
    def serves(self, node: Node) -> str:
        """Its languages."""
        return ", ".join(node.languages)

    @admin.display(description="running", ordering="running")
    def busy(self, node: Any) -> int:
        """Runs at this moment."""
        return int(node.running)

    @admin.display(description="live sessions", ordering="held")
    def live_sessions(self, node: Any) -> int:
        """Sandboxes of sessions that live there."""
        return int(node.held)


def _by_node(rows: QuerySet[Any]) -> Coalesce:
    counted = rows.order_by().values("node").annotate(n=Count("*")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(StockUserAdmin, ModelAdmin):
    """Who may enter here."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(StockGroupAdmin, ModelAdmin):
    """Groups of them."""
