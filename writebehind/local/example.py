"""The example of the banner: a document that could be stored at once."""

from __future__ import annotations

from writebehind.settings.installation import Settings

EXAMPLE_ID = "ada"
EXAMPLE_IDS = {"int": "1", "objectid": "64b7f0c2a1d3e4f5a6b7c8d9", "uuid": "3f2b8c1e-9d4a-4b6f-8e7a-1c2d3e4f5a6b"}


def accepts_any_collection(settings: Settings) -> bool:
    """Whether collections need not be listed: so that a first try works, also where nothing is said about them."""
    undecided = "allow_unlisted" not in settings.model_fields_set and not settings.collections
    return settings.allow_unlisted or undecided


def example_path(settings: Settings) -> str:
    """The collection and id of a document that could be stored."""
    for name, collection in settings.collections.items():
        return f"{name}/{EXAMPLE_IDS.get(collection.id, EXAMPLE_ID)}"
    return f"users/{EXAMPLE_ID}"
