"""pandas' HTML becomes a plain structure: headers, spans, alignment, emphasis."""

from __future__ import annotations

import pandas as pd

from nbpaper.table_grid import Row
from nbpaper.tables import Table, parse_table


def parsed(html: str) -> Table:
    table = parse_table(html)
    assert table is not None
    return table


def texts(rows: list[Row]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]


def frame() -> pd.DataFrame:
    columns = pd.MultiIndex.from_product([["accuracy"], ["5k", "10k"]])
    index = pd.MultiIndex.from_tuples([("lora", 1), ("lora", 2), ("full", 1)], names=["strategy", "seed"])
    return pd.DataFrame([[0.5, -1.0], [0.25, 2.0], [1.0, 3.0]], index=index, columns=columns)


def test_index_names_move_into_the_header_row_above_them() -> None:
    assert texts(parsed(frame().to_html()).head) == [["", "", "accuracy"], ["strategy", "seed", "5k", "10k"]]


def test_spans_keep_every_row_as_wide_as_the_table() -> None:
    table = parsed(frame().to_html())
    assert len(table.alignments) == 4
    assert [cell.rowspan for cell in table.body[0]] == [2, 1, 1, 1]
    assert [cell.column for cell in table.body[1]] == [1, 2, 3]


def test_numbers_are_aligned_right_and_words_left() -> None:
    table = parsed(pd.DataFrame({"name": ["a", "b"], "score": ["81.2 ± 0.3", "-"], "n": [1, -2]}).to_html(index=False))
    assert table.alignments == ["left", "right", "right"]
    assert table.body[1][2].text == "\N{MINUS SIGN}2"


def test_html_with_more_than_a_table_and_its_size_is_no_table() -> None:
    assert parse_table("<style>td {}</style><table><tr><td>1</td></tr></table><p>60 rows × 14 columns</p>")
    assert parse_table("<p>Progress</p><table><tr><td>1</td></tr></table>") is None
    assert parse_table("<p>nothing</p>") is None


def test_ragged_rows_are_filled() -> None:
    table = parsed("<table><tr><td>a</td><td>b</td><td>c</td></tr><tr><td>d</td></tr></table>")
    assert texts(table.body) == [["a", "b", "c"], ["d", "", ""]]


def test_markup_that_nobody_escaped_is_shown_as_it_is_written() -> None:
    table = parsed("<table><tr><td><script>alert(1)</script> fine</td><td>two<br>lines</td></tr></table>")
    assert texts(table.body) == [["<script>alert(1)</script> fine", "two\nlines"]]
