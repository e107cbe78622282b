"""How numbers are written."""

import pytest

from hotlap.report.text import ms_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234e-7, "0.000123 ms"), (0.01234, "12.3 ms"), (0.999, "999 ms"), (0.9996, "1,000 ms"), (2.0, "2,000 ms")],
)
def test_seconds_in_milliseconds_have_no_exponent(seconds: float, text: str) -> None:
    assert ms_text(seconds) == text
