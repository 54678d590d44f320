"""STAR files: parsing, errors that name the line, and writing that keeps every byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given
from hypothesis import strategies as st

from napari_harmony.errors import InputError
from napari_harmony.particles.star import StarDocument, parse_star, read_star
from napari_harmony.particles.star_text import quote, split_quoted, unquote
from napari_harmony.particles.star_write import format_values, write_loop, write_star

LOOP = b"""# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2 [text in brackets]
1 first


# version 30001

data_particles

loop_
_rlnImageName #1
_rlnAnglePsi #2
_rlnUnknownLabel #3
000001@a.mrcs    12.500000   x
# a comment between rows
000002@a.mrcs   -99.000000   y

"""


def written(document: StarDocument, tmp_path: Path, *args: object, **options: object) -> bytes:
    """What ``write_star`` makes of a document."""
    path = tmp_path / "out.star"
    write_star(path, document, *args, **options)  # type: ignore[arg-type]
    return path.read_bytes()


def test_loops_are_read() -> None:
    document = parse_star(LOOP)
    assert [(t.block, len(t), t.labels) for t in document.tables] == [
        ("optics", 1, ("rlnOpticsGroup", "rlnOpticsGroupName")),
        ("particles", 2, ("rlnImageName", "rlnAnglePsi", "rlnUnknownLabel")),
    ]
    particles = document.table("missing", "particles")
    assert particles is not None
    assert particles.texts("rlnImageName") == ["000001@a.mrcs", "000002@a.mrcs"]
    np.testing.assert_array_equal(particles.numbers("rlnAnglePsi"), [12.5, -99])
    assert document.version == 30001


def test_pairs_are_read() -> None:
    document = parse_star(b"data_general\n_rlnA 3\n_rlnB 'two words' # why\n\n_rlnC x#1\ndata_other\n_rlnD\t4.5")
    general, other = document.tables
    assert not general.is_loop
    assert [general.texts(label) for label in general.labels] == [["3"], ["two words"], ["x#1"]]
    assert other.numbers("rlnD").tolist() == [4.5]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n \n"])
def test_line_endings(ending: str, last: str) -> None:
    text = f"\ndata_\n\nloop_ \n_a\n_b #2\n1 x\n2 y{last}".replace("\n", ending)
    (table,) = parse_star(text.encode()).tables
    assert table.texts("b") == ["x", "y"]
    assert table.integers("a").tolist() == [1, 2]


def test_values_that_look_like_keywords() -> None:
    text = (
        b"data_x\nloop_\n_a\n_b\n_c\ndata_1.mrc 1 2\nloop_ 3 4\nDATA_z 5 6\n_q 7 8\nd#e 9 'data_ in'\n\ndata_y\n_a 1\n"
    )
    first, second = parse_star(text).tables
    assert first.texts("a") == ["data_1.mrc", "loop_", "DATA_z", "_q", "d#e"]
    assert first.texts("c")[-1] == "data_ in"
    assert (second.block, second.texts("a")) == ("y", ["1"])


def test_quoted_values_and_comments_behind_rows() -> None:
    text = b"data_\nloop_\n_a\n_b\n'one two' 5'-end\n\"it's\" x # note\n'' 3\n5' \"a\" \n"
    (table,) = parse_star(text).tables
    assert table.texts("a") == ["one two", "it's", "", "5'"]
    assert table.texts("b") == ["5'-end", "x", "3", "a"]


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    text = b"data_\nloop_\n_a\n_b\n\xff\xe9.mrc 'caf\xc3\xa9 \xc2\x85 x'\n"
    (table,) = parse_star(text).tables
    assert table.texts("b") == ["café \x85 x"]
    document = parse_star(text)
    out = written(document, tmp_path, document.tables[0], {"c": table.texts("a")})
    assert out.endswith(b"\xff\xe9.mrc\n")


def test_empty_loops_and_two_loops_in_a_block() -> None:
    text = b"data_a\nloop_\n_x\n_y\n\nloop_\n_z\n1\n2\n"
    empty, full = parse_star(text).tables
    assert (len(empty), empty.numbers("x").tolist(), full.texts("z")) == (0, [], ["1", "2"])


def test_rows_behind_an_empty_line_are_kept() -> None:
    (table,) = parse_star(b"data_\nloop_\n_x\n_y\n1 2\n\n3 4\n").tables
    assert table.texts("y") == ["2", "4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data_a\nloop_\n_x\n_y\n1 2\n1 2 9\n",
            "line 6: the row has 3 values for the 2 labels of table data_a, too many",
        ),
        ("data_a\nloop_\n_x\n_y\n1 2\n3\n", "line 6: the row has 1 values for the 2 labels of table data_a, too few"),
        ("data_a\nloop_\n_x\n_y\n_x\n1 2 3\n", r"line 5: the label _x of table data_a stands on line 3 already"),
        ("data_a\n_x 1\n_x 2\n", "line 3: the label _x"),
        ("data_a\n_x 1 2\n", "line 2: _x needs one value and has 2"),
        ("data_a\n_x\n", "line 2: _x needs one value and has 0"),
        ("data_a\nloop_\n\n", "loop_ has no labels"),
        ("1 2 3\n", "line 1: '1' stands outside any table"),
        ("loop_\n_x\n1\n", "line 1: 'loop_' stands outside any table"),
        ("data_a\nfoo\n", "line 2: 'foo' stands outside"),
        ("# nothing\n", "no table"),
        ("data_a\n", "no table"),
        ("d\x00a\x00t\x00a\x00", "binary"),
    ],
)
def test_errors_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_star(text.encode(), "some/file.star")
    assert "some/file.star" in str(error.value)
    assert "\n" not in str(error.value)


def test_values_that_are_no_numbers_name_their_line() -> None:
    (table,) = parse_star(b"data_\nloop_\n_x\n_y\n1 2\n1.5 abc\n").tables
    with pytest.raises(InputError, match="line 6: y is 'abc', which is not a number"):
        table.numbers("y")
    with pytest.raises(InputError, match=r"line 6: x is '1\.5', which is not a whole number"):
        table.integers("x")
    with pytest.raises(InputError, match="the column z is missing"):
        table.numbers("z")


def test_columns_take_the_type_of_their_values() -> None:
    text = b"data_\nloop_\n_i\n_f\n_s\n_rlnMicrographName\n1 1 a 001\n-2 1e-3 1 002\n+3 nan 2 003\n"
    (table,) = parse_star(text).tables
    assert [table.column(label).dtype.kind for label in table.labels] == ["i", "f", "O", "O"]
    assert table.column("rlnMicrographName").tolist() == ["001", "002", "003"]


def test_unchanged_files_are_written_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    files = sorted(path for path in shared_data.glob("*/*.star") if path.name != "unparsable.star")
    assert len(files) > 10
    for path in files:
        document = read_star(path)
        assert written(document, tmp_path) == path.read_bytes(), path
        for table in document.tables:
            same = written(document, tmp_path, table, {}, rows=np.arange(len(table)))
            if table.is_loop:
                assert parse_star(same).tables[0].labels == document.tables[0].labels


def test_only_changed_cells_of_real_files_change(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted(shared_data.glob("metadata/*.star")):
        document = read_star(path)
        table = max(document.tables, key=len)
        label = next(
            name for name in table.labels if name.startswith("rlnAngle") or name == "rlnTomoTiltSeriesPixelSize"
        )
        out = parse_star(written(document, tmp_path, table, {label: np.arange(len(table)) / 7, "hrmNew": table.lines}))
        changed = max(out.tables, key=len)
        assert changed.labels == (*table.labels, "hrmNew")
        np.testing.assert_allclose(changed.numbers(label), np.arange(len(table)) / 7, atol=1e-6)
        np.testing.assert_array_equal(changed.integers("hrmNew"), table.lines)
        for name in set(table.labels) - {label}:
            assert changed.texts(name) == table.texts(name), (path, name)
        rest = [t for t in document.tables if t is not table]
        for before, after in zip(rest, (t for t in out.tables if t is not changed), strict=True):
            assert before.labels == after.labels
        old, new = path.read_bytes().splitlines(), out.content.splitlines()
        rows = set(table.lines.tolist())
        kept = [line for number, line in enumerate(old) if number not in rows]
        assert [line for line in new if line in set(kept)] == kept


def test_a_changed_column_keeps_the_others_and_the_alignment(tmp_path: Path) -> None:
    document = parse_star(LOOP)
    out = written(document, tmp_path, document.tables[1], {"rlnAnglePsi": [1.0, -179.5], "hrmFlags": ["a b", "none"]})
    expected = LOOP.replace(b"_rlnUnknownLabel #3\n", b"_rlnUnknownLabel #3\n_hrmFlags #4\n")
    expected = expected.replace(b"    12.500000   x\n", b'     1.000000   x        "a b"\n')
    expected = expected.replace(b"   -99.000000   y\n", b"  -179.500000   y         none\n")
    assert out == expected


def test_tabs_and_carriage_returns_stay(tmp_path: Path) -> None:
    document = parse_star(b"data_\r\nloop_\r\n_a\r\n_b\r\n1\t2\r\n3\t4\r\n")
    out = written(document, tmp_path, document.tables[0], {"a": [10, 30], "c": [7, 8]})
    assert out == b"data_\r\nloop_\r\n_a\r\n_b\r\n_c\r\n10\t2\t7\r\n30\t4\t8\r\n"


def test_files_without_a_last_line_break(tmp_path: Path) -> None:
    document = parse_star(b"data_\nloop_\n_a\n_b\n1 2\n3 4")
    out = written(document, tmp_path, document.tables[0], {"b": [5, 6]})
    assert out == b"data_\nloop_\n_a\n_b\n1 5\n3 6"
    empty = parse_star(b"data_\nloop_\n_a")
    assert written(empty, tmp_path, empty.tables[0], {"b": []}) == b"data_\nloop_\n_a\n_b\n"


def test_pairs_can_be_changed_and_added(tmp_path: Path) -> None:
    document = parse_star(b"data_\n_a 1\n_b  'x y'  # note\n\ndata_z\n_c 3\n")
    out = written(document, tmp_path, document.tables[0], {"b": ["p q"], "new": [2.5]})
    assert out == b'data_\n_a 1\n_b  "p q"  # note\n_new 2.500000\n\ndata_z\n_c 3\n'


def test_rows_can_be_chosen_in_any_order(tmp_path: Path) -> None:
    document = parse_star(LOOP)
    out = written(document, tmp_path, document.tables[1], {"rlnAnglePsi": [1.0, 2.0]}, rows=[1, 0])
    particles = parse_star(out).tables[1]
    assert particles.texts("rlnImageName") == ["000002@a.mrcs", "000001@a.mrcs"]
    assert particles.numbers("rlnAnglePsi").tolist() == [2.0, 1.0]
    assert b"a comment between rows" not in out
    assert written(document, tmp_path, document.tables[1], rows=[1]).count(b"@a.mrcs") == 1


def test_values_that_do_not_fit_in_number_are_refused(tmp_path: Path) -> None:
    document = parse_star(LOOP)
    with pytest.raises(ValueError, match="3 values for 2 rows"):
        written(document, tmp_path, document.tables[1], {"x": [1, 2, 3]})
    assert not list(tmp_path.iterdir())


def test_numbers_are_written_as_relion_does() -> None:
    assert format_values(np.array([0.0, -12.25, 1e-7, 123456789.0])) == [
        "0.000000",
        "-12.250000",
        "1e-07",
        "1.23457e+08",
    ]
    assert format_values(np.array([np.nan, np.inf])) == ["nan", "inf"]
    assert format_values(np.array([1, 2], np.uint8)) == ["1", "2"]
    assert format_values(np.array([True, False])) == ["1", "0"]


def test_many_columns_against_another_reader(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {"rlnImageName": np.array([f"{i:06d}@a b.mrcs" for i in range(50)], dtype=object)}
    columns |= {f"rlnX{i}": rng.normal(size=50).round(6) for i in range(8)}
    path = tmp_path / "x.star"
    path.write_bytes(b"".join(write_loop("particles", columns)))
    frame = starfile.read(path)
    assert isinstance(frame, pd.DataFrame)
    ours = read_star(path).tables[0]
    assert ours.texts("rlnImageName") == frame["rlnImageName"].tolist()
    for i in range(8):
        np.testing.assert_allclose(ours.numbers(f"rlnX{i}"), frame[f"rlnX{i}"])
        np.testing.assert_allclose(ours.numbers(f"rlnX{i}"), columns[f"rlnX{i}"])


def test_real_files_against_another_reader(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("metadata/*.star")):
        blocks = starfile.read(path, always_dict=True, parse_as_string=[])
        for table in read_star(path).tables:
            frame = blocks[table.block]
            for label in table.labels:
                mine = table.column(label)
                if mine.dtype.kind in "if":
                    np.testing.assert_allclose(mine, np.atleast_1d(np.asarray(frame[label], dtype=float)), rtol=1e-12)
                else:
                    assert mine.tolist() == frame[label].astype(str).tolist(), (path, label)


words = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
writable = words.filter(lambda word: not ('"' in word and "'" in word))


@given(st.lists(st.tuples(writable, writable), min_size=1, max_size=6))
def test_any_text_survives_writing_and_reading(rows: list[tuple[str, str]]) -> None:
    columns = {
        "a": np.array([row[0] for row in rows], dtype=object),
        "b": np.array([row[1] for row in rows], dtype=object),
    }
    (table,) = parse_star(b"".join(write_loop("x", columns))).tables
    assert table.texts("a") == [row[0] for row in rows]
    assert table.texts("b") == [row[1] for row in rows]


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=6))
def test_numbers_survive_to_six_decimals_or_digits(values: list[float]) -> None:
    (table,) = parse_star(b"".join(write_loop("x", {"a": np.array(values)}))).tables
    np.testing.assert_allclose(table.numbers("a"), values, rtol=1e-5, atol=5e-7)


@given(st.lists(st.sampled_from(["a", "5'", "'x y'", '"p  q"', "#", "_l", "data_", "''", "é"]), max_size=8))
def test_splitting_finds_the_values(values: list[str]) -> None:
    line = "\t " + "  ".join(values)
    assert [line[start:stop] for start, stop in split_quoted(line)] == values


@given(writable)
def test_quoting_is_undone(value: str) -> None:
    assert unquote(quote(value)) == value or quote(value) == value


def test_text_with_both_quotes_is_refused() -> None:
    with pytest.raises(ValueError, match="both kinds of quotes"):
        quote('it\'s "so"')


def test_the_parser_splits_large_files_over_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    buffer.write(LOOP)
    expected = parse_star(LOOP)
    for size in range(1, 40):
        monkeypatch.setattr("napari_harmony.particles.star_text._CHUNK", size)
        document = parse_star(LOOP)
        for one, other in zip(document.tables, expected.tables, strict=True):
            np.testing.assert_array_equal(one.start, other.start)
            np.testing.assert_array_equal(one.stop, other.stop)
