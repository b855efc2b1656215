"""The shipped tables are what a fresh count gives: the goldens of every network."""

import json

import pytest

from convatlas import tables
from convatlas.account import account
from convatlas.catalogue import names, variants


@pytest.mark.parametrize("name", names())
def test_table_equals_a_fresh_count(name: str) -> None:
    counted = account(name)
    assert tables.load(name) == counted, "run `make tables` and read its diff"
    record = json.loads(json.dumps(tables.index_record(variants()[name], counted)))
    assert tables.index()[name] == record, "run `make tables` and read its diff"


def test_no_table_is_left_over() -> None:
    files = {f.stem for f in tables.FOLDER.glob("*.json")} - {"index"}
    assert files == set(names()) == set(tables.index())
    assert list(tables.index()) == names()
