"""Settings of what is served: where, to whom, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from writebehind.access.algorithms import Algorithms
from writebehind.access.hosts import Hosts, Origins, is_loopback
from writebehind.access.keys import Token
from writebehind.access.published import fault_of, fault_of_url
from writebehind.settings.bounds import (
    MEBIBYTE,
    MOST,
    Count,
    CountOrNone,
    Milliseconds,
    Port,
    Processes,
    RateOrNone,
    Seconds,
)


class Serving(BaseModel):
    """The addresses of an installation's processes, and who may do what, and how much, at that of the API."""

    host: str = Field("127.0.0.1", description="address that the API and the exporter listen on")
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
    state_dir: Path | None = Field(
        None,
        description="directory that outlives a reboot, in which the processes of a host keep what was only in "
        "Redis when they last saw it, so that a loss is told also after both were started anew; unless set, that "
        "stands beside the counts",
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
        description="file with the certificate of the API and the exporter, and those that lead to its authority, "
        "PEM: they are served by TLS then, from 1.2 on, and by nothing else",
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
    oidc_client_id: str = Field(
        "",
        description="client id of the console at this issuer, an OpenID Connect provider: a public client (a "
        "single-page application), whose people log in there; they may come back to `…/console/login.html`",
    )
    oidc_scope: str = Field(
        "openid admin", description="scope that the console asks for as somebody logs in, with blanks between"
    )
    insecure: bool = Field(
        False,
        description="let everybody do everything who reaches the API, and see the figures of the exporter, beyond "
        "loopback, while there is no key",
    )
    metrics_open: bool = Field(
        False, description="serve `/metrics` of the API and of the exporter to all, also where it would need a key"
    )
    web_workers: Processes = Field(1, description="web processes")
    web_threads: Processes = Field(
        8,
        description="threads in each web process; requests about many documents have half as many besides, and "
        "those of operators a quarter, at least two",
    )
    max_connections: Count = Field(
        2_048, description="most connections that a web process has at a time: each may hold 112 KiB of a request"
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

    @model_validator(mode="after")
    def _check_serving(self) -> Self:
        if self.root_key and Token.parse(self.root_key) is None:
            raise ValueError("WRITEBEHIND_ROOT_KEY is no key: `writebehind keys generate` makes one")
        given = [bool(one) for one in (self.jwt_issuer, self.jwt_audience, self.jwt_jwks)]
        if any(given) and not all(given):
            raise ValueError("jwt_issuer, jwt_audience and jwt_jwks have to be set together, or none of them")
        if self.oidc_client_id and not self.jwt_issuer:
            raise ValueError("oidc_client_id is of a client of jwt_issuer, which has to be set as well")
        if self.oidc_client_id and (fault := fault_of_url(self.jwt_issuer)):
            raise ValueError(f"oidc_client_id has people log in at jwt_issuer, which {fault}")
        if fault := fault_of(self.jwt_jwks):
            raise ValueError(f"jwt_jwks {fault}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are set together, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca is for an API that is served by TLS: set tls_cert and tls_key")
        return self

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything as long as there is no API key."""
        return self.insecure or is_loopback(self.host)
