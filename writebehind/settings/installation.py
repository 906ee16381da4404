"""All settings, read once from the environment and an optional `writebehind.toml`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from writebehind.errors import ConfigurationError
from writebehind.mongodb.fresh_reads import Concern, Preference
from writebehind.redis.keys import MOST_PARTITIONS
from writebehind.settings.bounds import (
    MEBIBYTE,
    Count,
    CountOrNone,
    Milliseconds,
    Rate,
    Seconds,
)
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.config_file import CONFIG_FILE_VARIABLE, config_file
from writebehind.settings.names import COLLECTION_NAME
from writebehind.settings.secret_files import OF_SECRETS, secrets_of_files
from writebehind.settings.servers import Servers
from writebehind.settings.serving import Serving

#: The variable by which `writebehind up` tells its processes the data directory that describes them: no setting.
RUNS_IN = "WRITEBEHIND_RUNS_IN"
ENV_PREFIX = "WRITEBEHIND_"

#: Settings that hold others.
_NESTED = {"defaults", "collections"}


class Settings(Serving, Servers, BaseSettings):
    """The settings of one installation. Frozen; build it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,  # which may be a URL with a password
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="format of the log lines of the service's processes; `json` is an object in each line"
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="least level of log lines; of Celery, granian and others from `warning` on"
    )
    audit_log: Path | None = Field(
        None,
        description="file to which web processes append a line of JSON for each call of an operator, but for "
        "figures, and for each refusal",
    )
    access_log: bool = Field(False, description="whether `writebehind run web` logs each request")

    partitions: Annotated[int, Field(gt=0, le=MOST_PARTITIONS)] = Field(
        64, description="parts that documents are divided into; fixed once there is data"
    )
    max_pending_per_partition: Count = Field(
        50_000, description="pending documents in a partition from which writes are refused"
    )
    max_memory_percent: Annotated[float, Field(gt=0, le=100)] = Field(
        90, description="part of Redis's maxmemory, in percent, from which writes are refused"
    )
    batch_size: Annotated[int, Field(gt=0, le=10_000)] = Field(
        1_000, description="most documents in one bulk write, which has as many as MongoDB takes in good time"
    )
    min_batch_size: Count = Field(25, description="least documents in one bulk write, however slow MongoDB is")
    batch_target_ms: Milliseconds = Field(500, description="how long one bulk write should take")
    lease_ms: Milliseconds = Field(10_000, description="how long a flusher owns a partition without renewing")
    mongodb_timeout_ms: Milliseconds = Field(
        5_000, description="limit for one MongoDB operation; below `lease_ms`"
    )
    mongodb_read_preference: Preference = Field(
        "primary",
        description="members that fills, lookups and queries are read from: `primary`, `secondary`, "
        "`secondaryPreferred` or `nearest`. All but the first ask the primary how far it is, and wait until the "
        "member has come as far",
    )
    mongodb_read_concern: Concern = Field(
        "local",
        description="read concern of fills, lookups and queries: `local`, `majority`, which waits in the "
        "same way, or `linearizable`, from the primary only",
    )
    redis_timeout_ms: Milliseconds = Field(2_000, description="limit for one Redis round trip")
    load_timeout_ms: Milliseconds = Field(
        6_000, description="how long one reader may take to fill a missing entry; not below `mongodb_timeout_ms`"
    )
    persist_timeout_ms: Milliseconds = Field(
        5_000, description="how long a write with durability `persisted` waits before it answers 202"
    )
    confirm_timeout_ms: Milliseconds = Field(
        1_500,
        description="how long a write with durability `fsynced` or `replicated` waits before it answers 202; "
        "below `redis_timeout_ms`",
    )
    confirm_replicas: CountOrNone = Field(
        0,
        description="replicas of a Redis server that such a write waits for; 0 for all but one of those that are "
        "connected, and at least one: for `fsynced`, where none is connected, the server's own disk alone",
    )
    recommit_bytes: CountOrNone = Field(
        8 * MEBIBYTE,
        description="bytes in which each process keeps what it has acknowledged until the replicas of Redis have "
        "it, to commit it again after a failover that has lost it; 0 for none",
    )
    idempotency_ttl: Seconds = Field(
        86_400, description="seconds for which a write is known by its `Idempotency-Key`, so that it counts once"
    )
    idempotency_most: Count = Field(
        2_000,
        description="writes that are known by their `Idempotency-Key` in each partition; of more the last ones, "
        "and those of the last two minutes, up to fifty times as many. Each takes up to 530 bytes of Redis: "
        "65 MiB in all with 64 partitions",
    )
    tombstone_ttl: Seconds = Field(3600, description="seconds that Redis remembers a deletion already in MongoDB")
    sweep_interval: Seconds = Field(5, description="seconds between two looks for partitions that nobody flushes")
    overdue_ms: Milliseconds = Field(3_000, description="lateness from which the sweep steps in")

    query_interval: Seconds = Field(
        1, description="seconds within which the cached queries of a collection are loaded anew once at most"
    )
    reconcile_interval: Seconds = Field(10, description="seconds between two parts of a reconciling pass")
    reconcile_pass_s: Seconds = Field(
        3600, description="seconds in which a pass compares all that is cached with MongoDB"
    )
    consistency_cpu_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        0.9,
        description="percent of a core that are used to see whether readers see what MongoDB has; 0 for none",
    )
    hot_samples: CountOrNone = Field(
        1_000, description="reads in a second that a process counts, of more the first ones; 0 for no hot keys"
    )
    hot_keys: Count = Field(2_000, description="documents in a partition of which it is known how hot they are")
    hot_half_life: Seconds = Field(600, description="seconds after which a read counts half")
    warm_interval: Seconds = Field(30, description="seconds between two passes of warming")
    warm_keys: CountOrNone = Field(10_000, description="hot keys that a pass keeps warm")
    warm_rate: Rate = Field(2_000, description="documents in a second that warming loads at most")
    max_document_bytes: Annotated[int, Field(gt=0, le=15 * MEBIBYTE)] = Field(
        MEBIBYTE, description="largest document, as BSON and as a request body"
    )
    max_bulk_bytes: Count = Field(16 * MEBIBYTE, description="largest body of a bulk request")
    max_bulk_items: Count = Field(10_000, description="most items in a bulk request")
    max_answer_bytes: Count = Field(
        8 * MEBIBYTE,
        description="bytes from which an answer with several documents leaves out the rest, and says so",
    )

    allow_unlisted: bool = Field(False, description="accept collections that are not listed below")
    defaults: dict[str, Any] = Field({}, description="settings for every collection that does not set its own")
    collections: dict[str, CollectionSettings] = Field({}, description="the collections, by name")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, that over files with secrets, and these over the settings file."""
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, config_file())
        return init_settings, env_settings, InitSettingsSource(settings_cls, secrets_of_files(os.environ)), toml

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        defaults = values.get("defaults", {})
        listed = values.get("collections", {})
        if isinstance(defaults, dict) and isinstance(listed, dict):
            values["collections"] = {
                name: {**defaults, **own} if isinstance(own, dict) else own for name, own in listed.items()
            }
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            CollectionSettings.model_validate(self.defaults)
        except ValidationError as error:
            raise ValueError(_first_of(error, "defaults")) from error
        for name in self.collections:
            if not COLLECTION_NAME.fullmatch(name):
                raise ValueError(f"collections.{name}: not a usable collection name")
        if self.mongodb_timeout_ms >= self.lease_ms:
            raise ValueError(
                "mongodb_timeout_ms must be below lease_ms: a flusher must give up before its lease ends"
            )
        if self.load_timeout_ms < self.mongodb_timeout_ms:
            raise ValueError(
                "load_timeout_ms must not be below mongodb_timeout_ms: what a reader waits for could not be kept"
            )
        if self.confirm_timeout_ms >= self.redis_timeout_ms:
            raise ValueError("confirm_timeout_ms must be below redis_timeout_ms, or Redis seems not to answer")
        if self.min_batch_size > self.batch_size:
            raise ValueError("min_batch_size must not be above batch_size")
        if self.mongodb_read_concern == "linearizable" and self.mongodb_read_preference != "primary":
            raise ValueError("mongodb_read_concern linearizable is for mongodb_read_preference primary only")
        return self

    @property
    def has_lookups(self) -> bool:
        """Whether documents of any collection can be looked up by a unique field."""
        return "lookup" in self.defaults or any(one.lookup for one in self.collections.values())

    @property
    def longest_flush_delay_ms(self) -> int:
        """The longest flush delay of any collection, ms."""
        every = (CollectionSettings.model_validate(self.defaults), *self.collections.values())
        return max(one.flush_delay_ms for one in every)

    @property
    def unlisted(self) -> CollectionSettings | None:
        """The settings of collections that are not listed; `None` when they are not allowed."""
        return CollectionSettings.model_validate(self.defaults) if self.allow_unlisted else None


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        ConfigurationError: with one line that names the first wrong setting.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_first_of(error)) from None  # whose context is what was given, with its secrets
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}") from None
    except ValueError as error:  # the TOML does not parse
        raise ConfigurationError(f"{config_file()}: {error}") from None
    except OSError as error:  # the file cannot be read
        raise ConfigurationError(f"{CONFIG_FILE_VARIABLE}: {error.strerror}: {config_file()}") from None


def alike(name: str, names: Iterable[str], shown: Callable[[str], str] = str) -> str:
    """A question about a name that there is not: `, do you mean …?`, or nothing where none is alike."""
    like = get_close_matches(name, names, 1)
    return f", do you mean {shown(like[0])}?" if like else ""


def _first_of(error: ValidationError, *within: str) -> str:
    """One line that names the first wrong setting."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in (*within, *first["loc"]))
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = Settings if len(first["loc"]) + len(within) == 1 else CollectionSettings
        reason = f"there is no such setting{alike(str(first['loc'][-1]), known.model_fields)}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {reason}{more}" if where else f"{reason}{more}"


def _refuse_unknown_variables() -> None:
    # pydantic-settings ignores what it does not know in the environment, so a typing error would go unseen.
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) and variable not in {CONFIG_FILE_VARIABLE, RUNS_IN, *OF_SECRETS}:
            field, nested, _ = variable.removeprefix(ENV_PREFIX).lower().partition("__")
            if field not in Settings.model_fields or (nested and field not in _NESTED):
                hint = alike(field, _NESTED if nested else Settings.model_fields, _variable)
                raise ConfigurationError(f"{variable}: there is no such setting{hint}")


def _variable(field: str) -> str:
    aliases = Settings.model_fields[field].validation_alias
    return str(aliases.choices[0]) if isinstance(aliases, AliasChoices) else ENV_PREFIX + field.upper()
