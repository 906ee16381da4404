"""All settings as a page of Markdown, from their definitions."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from writebehind.settings.collection import CollectionSettings, ShardKeyField
from writebehind.settings.installation import ENV_PREFIX, Settings
from writebehind.settings.queries import NamedQuery, WarmQuery

_INTRODUCTION = """# Settings

Read once, when a process starts: from the environment, then from `writebehind.toml` in the working directory, or
from the file that `WRITEBEHIND_CONFIG` names. A wrong or unknown setting ends the process with one line that names
it. Files that settings name, and the settings file, are regular ones, or links to such: each process reads them,
some more than once, so that a pipe such as `<(…)` or `/dev/stdin` is refused.
`writebehind settings` prints this page.

In the file the names are those below in lower case. What stands under `[defaults]` holds for every collection that
does not set its own:

```toml
partitions = 64

[defaults]
ttl = 600

[collections.users]
id = "objectid"
schema_file = "schemas/user.json"

[collections.payments]
write = "through"
```

In the environment a collection's setting is `WRITEBEHIND_COLLECTIONS__users__ttl=60`.

In a URL each of `:/?#[]@%` in a user or password is written percent-encoded: `%2F` for `/`. `REDIS_URL` may
have the options `db`, `username`, `password` and `client_name`, and with `rediss://` those of redis-py that begin
with `ssl_`: time limits are the settings' below, and nothing is retried. Options of `MONGODB_URL` are PyMongo's.
"""


def settings_reference() -> str:
    """The page."""
    parts = [
        _INTRODUCTION,
        "## The installation\n",
        _table({_variable(name, field): field for name, field in Settings.model_fields.items()}),
        "## A collection\n",
        _table(CollectionSettings.model_fields),
        "## A field of a shard key\n",
        "`[collections.<name>.shard_key.<field>]`, see [how](how-to/use-a-sharded-collection.md).\n",
        _table(ShardKeyField.model_fields),
        "## A cached query\n",
        "`[collections.<name>.queries.<query>]`, see [queries.md](queries.md).\n",
        _table(NamedQuery.model_fields),
        "## A query whose documents are kept warm\n",
        "`[[collections.<name>.warm]]`, see [operations.md](operations.md#hot-keys-and-warming).\n",
        _table(WarmQuery.model_fields),
    ]
    return "\n".join(parts)


def _variable(name: str, field: FieldInfo) -> str:
    aliases = getattr(field.validation_alias, "choices", [])
    return str(aliases[0]) if aliases else ENV_PREFIX + name.upper()


def _table(fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{name}` | {_default(field)} | {_cell(field.description or '')} |" for name, field in fields.items()
    ]
    return "\n".join(["| setting | default | |", "| --- | --- | --- |", *rows, ""])


def _default(field: FieldInfo) -> str:
    default = field.get_default()
    return f"`{_cell(str(default))}`" if default not in (None, "", {}) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
