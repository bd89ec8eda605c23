"""Django's settings, made from :mod:`era_project.conf`."""

from __future__ import annotations

from typing import Any

from era_project import addresses, conf, logs, secrets

_conf = conf.get()

SECRET_KEY = secrets.get().django_key
DEBUG = False
# The doors' own guard checks the Host header: Django's check refuses names that are legal here.
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "era_project.urls"
ASGI_APPLICATION = "era_project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
DATETIME_FORMAT = "Y-m-d H:i:s"
APPEND_SLASH = False

INSTALLED_APPS = [
    "unfold",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_eventstream",
    "sessions_app",
    "storage_app",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {"default": addresses.database(_conf)}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]

STATIC_URL = "/static/"
CSRF_TRUSTED_ORIGINS = [_conf.public_url.rstrip("/")] if _conf.public_url else []
CSRF_FAILURE_VIEW = "era_project.api_errors.csrf_failure"
UNFOLD = {"SITE_TITLE": "ERA", "SITE_HEADER": "ERA", "SITE_URL": "/health"}
SESSION_COOKIE_NAME = "era_admin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _conf.public_url.startswith("https://")

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}

REDIS_URL = addresses.redis_url(_conf)
REDIS_CONNECTION = addresses.redis_arguments(REDIS_URL)
"""What ``redis.Redis(**REDIS_CONNECTION)`` takes: live events and replies."""
EVENTSTREAM_REDIS = REDIS_CONNECTION
EVENTSTREAM_STORAGE_CLASS = "sessions_app.events.RunStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = "sessions_app.events.RunChannels"

CELERY_BROKER_URL = addresses.broker_url(_conf)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # Valkey refuses to hand out messages while its own log cannot be written
CELERY_BROKER_TRANSPORT_OPTIONS = {"ack_emulation": False} if addresses.is_redis(CELERY_BROKER_URL) else {}
CELERY_RESULT_BACKEND = None
CELERY_RESULT_BACKEND_THREAD_SAFE = True  # there is none; else each thread's first run looks for one, 30 ms
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "era.maintenance"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# After a broker's restart it would be raised again by the runs' threads, on the socket that the consumer reads: both hang.
CELERY_WORKER_ENABLE_PREFETCH_COUNT_REDUCTION = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False

LOGGING = logs.settings(_conf.log_level)
