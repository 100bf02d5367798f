"""Where a database is and who asks: project, credentials, the emulator; and the channel to it."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import grpc
import msgspec
from google.auth.exceptions import GoogleAuthError

from memory.errors import BackendUnavailable, InvalidSetting

DATABASE = "(default)"
EMULATOR = "FIRESTORE_EMULATOR_HOST"
SCOPES = ("https://www.googleapis.com/auth/datastore",)
HOST = "firestore.googleapis.com"
LARGEST = 16 * 1024 * 1024
"""Bytes of one message that the channel takes; a document is at most 1 MiB."""


class Place(msgspec.Struct, frozen=True):
    """A database. ``emulator``: host and port of an emulator; None: Google's service."""

    project: str
    database: str
    emulator: str | None

    @property
    def name(self) -> str:
        """The full name of the database."""
        return f"projects/{self.project}/databases/{self.database}"

    @property
    def address(self) -> str:
        """The place as messages show it."""
        return f"{self.emulator or HOST}/{self.name}"

    def location(self, scheme: str, options: Mapping[str, str]) -> str:
        """The address that opens a store here: ``scheme://PROJECT/DATABASE?options``."""
        path = "" if self.database == DATABASE else f"/{quote(self.database, safe='')}"
        told = dict(options) if self.emulator is None else {**options, "emulator": self.emulator}
        query = f"?{urlencode(told)}" if told else ""
        return f"{scheme}://{quote(self.project, safe=':')}{path}{query}"


def place_of(url: str | None, project: str | None, database: str, emulator: str | None) -> Place:
    """The database that a URL (``firestore://project/database``) or options name, else the environment.

    Raises InvalidSetting when no project is named.
    """
    if url:
        parts = urlsplit(url)
        named, path = unquote(parts.netloc), unquote(parts.path.strip("/"))
        if parts.query or "@" in named or "/" in path or (project and named and project != named):
            raise InvalidSetting(
                "the address of a Firestore database is firestore://PROJECT or firestore://PROJECT/DATABASE",
                setting="url",
            )
        project, database = named or project, path or database
    project = (
        project
        or os.environ.get("GOOGLE_CLOUD_PROJECT")
        or os.environ.get("GCP_PROJECT_ID")
        or os.environ.get("GCLOUD_PROJECT")
    )
    emulator = emulator or os.environ.get(EMULATOR) or None
    if not project:
        raise InvalidSetting(
            "name the Google Cloud project: project_id=, firestore://PROJECT, or the variable GOOGLE_CLOUD_PROJECT",
            setting="project_id",
        )
    for setting, part in (("project_id", project), ("database", database)):
        if not part or "/" in part or part != part.strip():
            raise InvalidSetting(f"{setting} is not the name of one: {part!r}", setting=setting)
    return Place(project, database, emulator)


def credentials_of(path: str | None, told: str | None) -> Any:
    """Credentials of a file's path, of JSON, or, with neither, those of the environment.

    Blocking: reads files, and the default ones may ask the machine's metadata server. Raises BackendUnavailable.
    Nothing of a credential is in the message.
    """
    path = path or os.environ.get("GCP_CREDENTIALS_PATH")
    told = told or os.environ.get("GCP_CREDENTIALS_JSON")
    try:
        if path or told:
            return _of_json(Path(path).read_text("utf-8") if path else told or "")
        auth: Any = importlib.import_module("google.auth")  # it has no types
        return auth.default(scopes=SCOPES)[0]
    except (GoogleAuthError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        source = "the file of credentials" if path else "the credentials given as JSON" if told else "no credentials"
        what = "cannot be used" if path or told else "were found"
        raise BackendUnavailable(
            f"{source} {what} ({type(error).__name__}): give credentials_path= or credentials_json= of a service account "
            "or of a user, or set GOOGLE_APPLICATION_CREDENTIALS",
        ) from None


def _of_json(text: str) -> Any:
    """Only the two kinds that name no address to be asked: others come from the environment, which its owner controls."""
    told = json.loads(text)
    if told.get("type") == "authorized_user":
        users: Any = importlib.import_module("google.oauth2.credentials")
        return users.Credentials.from_authorized_user_info(told, scopes=SCOPES)
    services: Any = importlib.import_module("google.oauth2.service_account")
    return services.Credentials.from_service_account_info(told, scopes=SCOPES)


def channel_of(place: Place, credentials: Any) -> grpc.aio.Channel:
    """A channel on the running loop. Calls on it are never repeated by the driver."""
    _keep_running()
    options = [("grpc.max_receive_message_length", LARGEST), ("grpc.enable_retries", 0)]
    if place.emulator is not None:
        return grpc.aio.insecure_channel(place.emulator, options=options)
    from google.api_core import grpc_helpers_async

    return grpc_helpers_async.create_channel(
        f"{HOST}:443", credentials=credentials, default_scopes=SCOPES, default_host=HOST, options=options
    )


@cache
def _keep_running() -> None:
    """grpc ends its thread when the last channel goes, and waits for that end: on a loop, which would be held. So it is
    kept until the process ends."""
    grpc.aio.init_grpc_aio()  # pyright: ignore[reportAttributeAccessIssue] - its module says it without a type
