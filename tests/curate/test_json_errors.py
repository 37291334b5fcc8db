"""What is said of a line that is no JSON: what is wrong and where, in one phrase."""

import pytest

from siftune.curate.core.errors import BadRow
from siftune.curate.records.json_lines import parse as parse_line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"prompt": "a\nb"}', "Invalid control character at character 14 of"),
        (b'{"prompt": "a', "Unterminated string starting at character 12 of"),
        (b'{"prompt": }', "Expecting value at character 12 of"),
    ],
)
def test_where_a_line_is_no_json_is_named_once(line: bytes, told: str) -> None:
    with pytest.raises(BadRow) as wrong:
        parse_line(line)
    assert (wrong.value.reason, wrong.value.detail[: len(told)]) == ("not_json", told)
