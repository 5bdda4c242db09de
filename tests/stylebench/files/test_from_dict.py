"""A dataclass from parsed JSON: each field is of its type and range, or named in one line."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from stylebench.files.from_dict import FieldError, from_dict


@dataclass
class Fields:
    count: int = 0
    seconds: float = 0.0
    name: str = ""
    names: list[str] = field(default_factory=list)
    values: Mapping[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"count": 10**30}, "count: is an integer of more than 64 bits"),
        ({"count": -(2**63)}, "count: is an integer of more than 64 bits"),
        ({"seconds": 10**400}, "seconds: is an integer of more than 64 bits"),
        ({"seconds": float("nan")}, "seconds: nan is not a finite number"),
        ({"name": "a\ud800"}, r"name: 'a\ud800' has the character '\ud800', which is no text"),
        ({"name": "a\0"}, r"name: 'a\x00' has the character '\x00', which is no text"),
        ({"name": "\x1b[2J"}, r"name: '\x1b[2J' has the character '\x1b', which is no text"),
        ({"name": "a" * 10_001}, "name: a text of 10001 characters, expected 10000 at most"),
        ({"values": {"\ud800": 1.0}}, r"values: '\ud800' has the character '\ud800'"),
        ({"names": ["a", "\0"]}, r"names.1: '\x00' has the character '\x00'"),
        ({"\ud800": 1}, r"'\ud800': is no field of a Fields"),
        ({"a" * 10**6: 1}, "a" * 80 + ": is no field of a Fields"),
        ({"count": "a" * 10**6}, "count: expected int, found str 'aaaa"),
        ([], "the whole: expected dict, found list []"),
    ],
)
def test_what_no_field_can_hold_is_one_short_printable_line(data, message):
    with pytest.raises(FieldError) as refused:
        from_dict(Fields, data)
    assert message in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


def test_any_readable_text_and_any_64_bit_number_is_taken():
    given = {"count": 2**63 - 1, "seconds": 3, "name": "Sternennacht ü 夜\n\t"}
    assert from_dict(Fields, given) == Fields(2**63 - 1, 3.0, "Sternennacht ü 夜\n\t")
