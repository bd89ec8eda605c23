"""Django's routes: the doors of the API, health, and the admin; raw endpoints stand in :mod:`era_project.mounts`."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path, re_path

from era_project import api_errors
from sessions_app.api import absent, execute, health, languages, runs, sessions

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/execute", execute.execute),
    path("api/sessions", sessions.Sessions.as_view()),
    path("api/sessions/<str:session>/run", execute.run),
    path("api/sessions/<str:session>", sessions.SessionDoor.as_view()),
    path("api/sessions/<str:session>/code", sessions.Code.as_view()),
    path("api/sessions/<str:session>/duplicate", sessions.Duplicate.as_view()),
    path("api/sessions/<str:session>/restart", sessions.Restart.as_view()),
    path("api/sessions/<str:session>/interrupt", sessions.Interrupt.as_view()),
    path("api/runs", runs.Runs.as_view()),
    path("api/runs/<str:run_id>", runs.RunDoor.as_view()),
    path("api/runs/<str:run_id>/attach", absent.absent),
    path("api/languages", languages.Languages.as_view()),
    path("health", health.health),
    path("health/live", health.live),
    path("api/sessions/<str:session>/setup", absent.absent),
    path("api/sessions/<str:session>/host", absent.absent),
    re_path(r"^api/storage/.+", absent.absent),
    re_path(r"^api/resources/(?:list|stats)$", absent.absent),
    re_path(r"^api/tokens(?:/[^/]+)?$", absent.absent),
    re_path(r"^proxy/.+", absent.absent),
    path("chat", absent.absent),
    path("chat/sync", absent.absent),
    path("sessions", absent.absent),
    path("admin/", admin.site.urls),
]

handler400 = api_errors.bad_request
handler403 = api_errors.permission_denied
handler404 = api_errors.page_not_found
handler500 = api_errors.server_error
