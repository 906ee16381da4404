"""All settings, read once from the environment and an optional `writebehind.toml`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
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

from writebehind.access.algorithms import Algorithms
from writebehind.access.hosts import Hosts, Origins, is_loopback
from writebehind.access.keys import Token
from writebehind.access.published import fault_of
from writebehind.errors import ConfigurationError
from writebehind.mongodb.fresh_reads import Concern, Preference
from writebehind.redis.keys import MOST_PARTITIONS
from writebehind.settings.bounds import (
    MEBIBYTE,
    MOST,
    Count,
    CountOrNone,
    Milliseconds,
    Port,
    Processes,
    Rate,
    RateOrNone,
    Seconds,
)
from writebehind.settings.collection import CollectionSettings, is_file
from writebehind.settings.names import COLLECTION_NAME, fault_of_database
from writebehind.settings.secret_files import OF_SECRETS, secrets_of_files
from writebehind.settings.urls import (
    AMQP_SCHEMES,
    celery_brokers,
    celery_redis,
    check_broker,
    check_mongodb,
    check_redis,
)

ENV_PREFIX = "WRITEBEHIND_"
CONFIG_FILE_VARIABLE = "WRITEBEHIND_CONFIG"
DEFAULT_CONFIG_FILE = "writebehind.toml"

#: Settings that hold others.
_NESTED = {"defaults", "collections"}


class Settings(BaseSettings):
    """The settings of one installation. Frozen; build it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,  # which may be a URL with a password
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        repr=False,
        description="the Redis or Valkey server that holds pending and cached documents; or a cluster, "
        "`redis+cluster://host,host`, or what Sentinels watch, `redis+sentinel://host,host/service/0`, or "
        "servers that share the partitions, `a=redis://host/0;b=redis://host/0`",
    )
    mongodb_url: str = Field(
        "mongodb://127.0.0.1:27017/",
        validation_alias=AliasChoices("MONGODB_URL", "mongodb_url"),
        repr=False,
        description="the MongoDB deployment that documents are persisted to",
    )
    mongodb_database: str = Field(
        "writebehind",
        validation_alias=AliasChoices("MONGODB_DATABASE", "mongodb_database"),
        description="the database in it, to which Redis belongs once there is data",
    )
    broker_url: str = Field(
        "",
        validation_alias=AliasChoices("BROKER_URL", "broker_url"),
        repr=False,
        description="Celery's broker; the Redis server above unless set, of several with names the first",
    )
    broker_queue_type: Literal["quorum", "classic"] = Field(
        "quorum",
        description="type of the queues on RabbitMQ; `classic` for an application whose own tasks need it, or "
        "queues that are there already",
    )
    celery: dict[str, Any] = Field(
        {},
        description="settings of Celery's workers and connections, by their names in Celery's documentation, "
        'such as `{"worker_prefetch_multiplier": 2}`; none that flush tasks depend on',
    )

    host: str = Field("127.0.0.1", description="address that the API listens on")
    port: Port = Field(8000, description="port that the API listens on")
    embedded_redis_mib: Annotated[int, Field(gt=0, le=MOST // MEBIBYTE)] = Field(
        1_024, description="memory that the data in the Valkey of `writebehind up` may take, MiB"
    )
    exporter_port: Port = Field(9477, description="port that the exporter serves metrics on")
    metrics_dir: Path | None = Field(
        None,
        description="directory in which the processes of a host keep their counts, so that one of them can show "
        "those of all; unless set, the service's processes choose one in the system's directory for temporary "
        "files, and others count for themselves",
    )
    alive_file: Path | None = Field(
        None,
        description="file that a worker, beat or the listener touches every few seconds while it works, for "
        "probes that look at its age; each process needs one of its own",
    )
    flower_port: Port = Field(5555, description="port that Flower listens on, on loopback")
    flower_db: Path | None = Field(
        None,
        description="file in which Flower keeps workers and the last 10,000 tasks, so that a restart forgets none;"
        " whoever can write to it has Flower run what they like; unless set, they are kept nowhere",
    )
    allowed_hosts: Hosts = Field(
        [],
        description="names and addresses, besides loopback and the address above, under which clients reach the "
        "API: requests for others are 421; `*.example.com` for all below it, `*` for any; "
        "in the environment with commas between them",
    )
    cors_origins: Origins = Field(
        [],
        description="origins, such as `https://app.example.com`, whose pages may read and write documents; in the "
        "environment with commas between them",
    )
    tls_cert: Path | None = Field(
        None,
        description="file with the certificate of the API, and those that lead to its authority, PEM: it is "
        "served by TLS then, from 1.2 on, and by nothing else",
    )
    tls_key: Path | None = Field(
        None, description="file with the key of this certificate, PEM, without a password"
    )
    tls_client_ca: Path | None = Field(
        None,
        description="file with certificates of authorities, PEM: clients without a certificate of one of them are "
        "refused",
    )
    root_key: str = Field(
        "",
        repr=False,
        description="API key that may do everything, `wb_…`, besides those in Redis: `writebehind keys generate` "
        "makes one; `consistency --api` sends it, to this machine only",
    )
    jwt_issuer: str = Field(
        "",
        description="issuer of JSON Web Tokens that are taken besides API keys, as their claim `iss` has it, such "
        "as `https://login.example.com/`; the next two have to be set as well",
    )
    jwt_audience: str = Field("", description="audience that their claim `aud` has to have: the name of this API")
    jwt_jwks: str = Field(
        "",
        description="path or https URL of the issuer's JSON Web Key Set: `jwks_uri` of an OpenID Connect provider",
    )
    jwt_algorithms: Algorithms = Field(
        ["RS256", "ES256", "EdDSA"],
        description="algorithms that they may be signed with, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, "
        "ES384, ES512 and EdDSA (Ed25519); in the environment with commas between them",
    )
    jwt_scope_claim: str = Field(
        "scope",
        min_length=1,
        description="claim with the scopes, such as `users:read *:write admin`: a text with blanks between them, "
        "or a list",
    )
    insecure: bool = Field(
        False, description="let everybody do everything who reaches the API beyond loopback, while there is no key"
    )
    metrics_open: bool = Field(
        False, description="serve `/metrics` of the API to all, also where others need a key for it"
    )
    web_workers: Processes = Field(1, description="web processes")
    web_threads: Processes = Field(
        8,
        description="threads in each web process; requests about many documents have half as many besides, and "
        "those of operators a quarter, at least two",
    )
    max_connections: Count = Field(
        2_048, description="most connections that a web process has at a time: each may hold 80 KiB of a request"
    )
    request_timeout_ms: Milliseconds = Field(
        30_000,
        description="how long a client may take to send a request and to take its answer, besides a second for "
        "each 64 KiB; and how long the request may take in between",
    )
    client_rate: RateOrNone = Field(
        0,
        description="items in a second that a client may send to the API: a request, and each further item of it; "
        "0 for any number. A client is a key, or an address where there is none; all web processes together",
    )
    client_window: Seconds = Field(
        10, description="seconds' worth of `client_rate` that a client may send at once, if it was quiet before"
    )
    client_concurrency: CountOrNone = Field(
        0, description="requests that a client may have at a time in a web process; 0 for any number"
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
        "each with about 340 bytes of Redis's memory: 42 MiB in all with 64 partitions",
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
        check_redis("REDIS_URL", self.redis_url)
        check_mongodb("MONGODB_URL", self.mongodb_url)
        if self.broker_url:
            check_broker("BROKER_URL", self.broker_url)
        if fault := fault_of_database(self.mongodb_database):
            raise ValueError(f"MONGODB_DATABASE {fault}")
        return self

    @model_validator(mode="after")
    def _check_rest(self) -> Self:
        if self.root_key and Token.parse(self.root_key) is None:
            raise ValueError("WRITEBEHIND_ROOT_KEY is no key: `writebehind keys generate` makes one")
        given = [bool(one) for one in (self.jwt_issuer, self.jwt_audience, self.jwt_jwks)]
        if any(given) and not all(given):
            raise ValueError("jwt_issuer, jwt_audience and jwt_jwks have to be set together, or none of them")
        if fault := fault_of(self.jwt_jwks):
            raise ValueError(f"jwt_jwks {fault}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are set together, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca is for an API that is served by TLS: set tls_cert and tls_key")
        if self.mongodb_read_concern == "linearizable" and self.mongodb_read_preference != "primary":
            raise ValueError("mongodb_read_concern linearizable is for mongodb_read_preference primary only")
        return self

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything as long as there is no API key."""
        return self.insecure or is_loopback(self.host)

    @property
    def broker(self) -> str:
        """The URL of Celery's broker, as Celery takes it."""
        return celery_brokers(self.broker_url) if self.broker_url else celery_redis(self.redis_url)

    @property
    def is_broker_rabbitmq(self) -> bool:
        """Whether the broker speaks AMQP."""
        return self.broker_url.startswith(AMQP_SCHEMES)

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


def config_file() -> Path | None:
    """The settings file: what `WRITEBEHIND_CONFIG` names, else `writebehind.toml` here, else none.

    Raises:
        ConfigurationError: `WRITEBEHIND_CONFIG` names a file that does not exist.
    """
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    if named and not is_file(Path(named)):
        raise ConfigurationError(f"{CONFIG_FILE_VARIABLE}: there is no file {named[:200]!r}")
    path = Path(named or DEFAULT_CONFIG_FILE)
    return path if path.is_file() else None


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


def sought_file() -> str:
    """Which settings file was read, or looked for and not found, with its whole path."""
    path = Path(os.environ.get(CONFIG_FILE_VARIABLE) or DEFAULT_CONFIG_FILE)
    with suppress(OSError):  # the current directory may be gone
        path = path.absolute()
    return f"the settings file is {path}" if is_file(path) else f"there is no settings file {path}"


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
        if variable.startswith(ENV_PREFIX) and variable not in {CONFIG_FILE_VARIABLE, *OF_SECRETS}:
            field, nested, _ = variable.removeprefix(ENV_PREFIX).lower().partition("__")
            if field not in Settings.model_fields or (nested and field not in _NESTED):
                hint = alike(field, _NESTED if nested else Settings.model_fields, _variable)
                raise ConfigurationError(f"{variable}: there is no such setting{hint}")


def _variable(field: str) -> str:
    aliases = Settings.model_fields[field].validation_alias
    return str(aliases.choices[0]) if isinstance(aliases, AliasChoices) else ENV_PREFIX + field.upper()
