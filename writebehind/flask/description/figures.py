"""JSON Schemas of the answers to operators and to who watches: what each figure is, docs/http-api.md says."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_OR_NO_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0}
_OR_NO_NUMBER: Schema = {"type": ["number", "null"]}
_OR_NO_TEXT: Schema = {"type": ["string", "null"]}
_OR_NO_OBJECT: Schema = {"type": ["object", "null"]}
_OBJECT: Schema = {"type": "object"}
_SOME: Schema = {"type": "array", "items": _OBJECT}
_NAMES: Schema = {"type": "array", "items": _TEXT}
_COUNTS: Schema = {"type": "object", "additionalProperties": _COUNT}
#: Figures of `/admin/status` that only one server of Redis knows are null while it is away.
_SOLE = {
    "hit_ratio": _OR_NO_NUMBER,
    "flushed_per_second": _OR_NO_NUMBER,
    "workers": _OR_NO_COUNT,
    "breaker": _OR_NO_TEXT,
    "breaker_reason": _OR_NO_TEXT,
    "listener": _OR_NO_OBJECT,
}


def _shape(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": required | optional}


def _list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


_READ_MOST: dict[str, Schema] = {
    "collection": _TEXT,
    "id": _TEXT,
    "reads_per_second": {"type": "number", "minimum": 0},
}
_PASS: Schema = _shape(
    {
        "started_ms": _COUNT,
        "ended_ms": _COUNT | {"description": "0 while it is under way"},
        "keys": _COUNT,
        "checked": _COUNT,
        "equal": _COUNT,
        "found": _COUNTS,
        "repaired": _COUNTS,
        "samples": {"type": "object", "additionalProperties": _NAMES},
        "dry_run": _FLAG,
        "consistency": _OR_NO_NUMBER | {"description": "`equal` of `checked`"},
    }
)

_PAUSES = _list_of(
    _shape(
        {
            "collection": _OR_NO_TEXT | {"description": "null for all collections"},
            "since": _NUMBER | {"description": "seconds since the epoch"},
            "seconds_left": _OR_NO_NUMBER | {"description": "null until it is resumed"},
        }
    )
)

#: The schemas by name.
FIGURES: dict[str, Schema] = {
    "Status": _shape(
        {
            "version": _TEXT,
            "safe": _FLAG | {"description": "whether MongoDB has everything that was acknowledged"},
            "pending": _COUNT,
            "pending_bytes": _COUNT,
            "oldest_pending_seconds": _NUMBER,
            "dead_letters": _COUNT,
            "partitions": _COUNT,
            "away": _SOME,
            "unknown": _NAMES,
            "to_do": _SOME,
            "lost_data": {
                "type": ["array", "null"],
                "items": {"type": "object"},
                "description": "what was only in data that Redis has lost, until an operator has seen it",
            },
            "lost_keys": {
                "type": ["boolean", "null"],
                "description": "whether Redis has lost all API keys: nobody is let in but with the root key",
            },
            "paused": _PAUSES | {"type": ["array", "null"]},
        },
        overdue_seconds=_NUMBER,
        seconds_until_safe=_OR_NO_NUMBER,
        seconds_until_drained=_OR_NO_NUMBER,
        seconds_until_cap=_OR_NO_NUMBER,
        not_safe_because=_OR_NO_TEXT,
        cap=_OR_NO_TEXT,
        grows_per_second=_OR_NO_NUMBER,
        dead_letters_by_collection=_COUNTS,
        refusing=_SOME,
        heartbeats_refused=_FLAG,
        redis_refuses=_OR_NO_TEXT,
        redis_refuses_seconds=_OR_NO_NUMBER,
        mongodb_error=_OR_NO_TEXT,
        mongodb_ping_error=_OR_NO_TEXT,
        mongodb_refuses=_OR_NO_TEXT,
        totals=_COUNTS,
        full_partitions=_list_of(_COUNT),
        **_SOLE,
    ),
    "Paused": _shape({"paused": _PAUSES}),
    "Resumed": _shape({"resumed": _PAUSES, "paused": _PAUSES}),
    "Conflicts": _shape(
        {
            "conflicts": _list_of(
                _shape(
                    {
                        "collection": _TEXT,
                        "id": _TEXT,
                        "operation": _TEXT,
                        "policy": {"enum": ["ours", "theirs"]},
                        "at": _NUMBER | {"description": "seconds since the epoch"},
                        "ours": _OR_NO_OBJECT,
                        "theirs": _OR_NO_OBJECT,
                    }
                )
            )
        }
    ),
    "Drifts": _shape(
        {
            "consistency": _shape(
                {"checked": _COUNT, "equal": _COUNT, "ratio": _OR_NO_NUMBER, "vanished": _COUNT}
            ),
            "current": _PASS,
            "passes": _list_of(_PASS),
        }
    ),
    "HotKeys": _shape(
        {
            "hot_keys": _list_of(_shape(_READ_MOST | {"partition": _COUNT})),
            "by_partition": _list_of(_shape({"partition": _COUNT, "hot_keys": _list_of(_shape(_READ_MOST))})),
        }
    ),
    "Health": _shape({"status": {"enum": ["ok"]}}),
    "Readiness": _shape(
        {
            "ready": _FLAG,
            "redis": _TEXT | {"description": "`ok`, or what is wrong"},
            "mongodb": _TEXT | {"description": "`ok`, or what is wrong"},
            "workers": _OR_NO_COUNT,
            "silent_workers": _OR_NO_COUNT,
        },
        away=_SOME,
        refusing=_SOME,
    ),
    "Places": {
        "type": "object",
        "required": ["name", "version"],
        "additionalProperties": _TEXT,
        "description": "addresses, relative to this one",
    },
}
