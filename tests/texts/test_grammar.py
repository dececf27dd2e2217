"""The grammar of xl.cfg: what is read, and where an error points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.texts.cfg_grammar import TEXT_MAX, Number, XlCfgError, number_of, parse_cfg, quote, read_cfg
from tests.strategies import texts


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# only a comment\n\n;;\n", {}),
        ("name = 'web'", {"name": "web"}),
        ('a = 1; b = "two"', {"a": "1", "b": "two"}),
        ("memory = 0x400 # hexadecimal\n", {"memory": "0x400"}),
        ("a = 1\na = 2\n", {"a": "2"}),
        ("a = 1\na = [ ]\n", {"a": ()}),
        ("a = [ 'x' ]\na = 1\n", {"a": "1"}),
        ('extra = "a"\nextra += "b"\n', {"extra": "ab"}),
        ("vif = [ '' ]", {"vif": ("",)}),
        ('disk = [\n  # the root\n  "a",\n  "b" , \n]', {"disk": ("a", "b")}),
        ("disk = [ 'a' ]\ndisk += [ 'b' ]", {"disk": ("a", "b")}),
        ("disk += [ 'b' ]", {"disk": ("b",)}),
        ('vnuma = [ [ "pnode=0", [ 1 ] ], [] ]', {"vnuma": (("pnode=0", ("1",)), ())}),
        (r"""a = "it's \"so\" \\ \t" """, {"a": 'it\'s "so" \\ \t'}),
        (r"""a = 'say "no" \'yes\''""", {"a": "say \"no\" 'yes'"}),
        ("a = '#;]'", {"a": "#;]"}),
        ("\tvif2.x_1\t=\t2", {"vif2.x_1": "2"}),
    ],
)
def test_values(text: str, values: dict[str, object]) -> None:
    assert parse_cfg(text) == values


def test_bare_numbers_are_told_from_strings() -> None:
    values = parse_cfg("a = 007; b = '007'")
    assert isinstance(values["a"], Number)
    assert not isinstance(values["b"], Number)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a = 1\nb = ", 2, 5, "a value is expected"),
        ("a = 1 b = 2", 1, 7, "a new line or `;`"),
        ("Memory = 5\n", 1, 1, "'M' has no place"),
        ("memory 5\n", 1, 8, "After `memory` an `=`"),
        ("= 5\n", 1, 1, "a key is expected"),
        ("a = 'b\n", 1, 5, "does not end on its line"),
        ("a = 'b\\\n'\n", 1, 5, "does not end on its line"),
        ("a = [ 'b' 'c' ]\n", 1, 11, "go on with `,`"),
        ("a = [ , ]\n", 1, 7, "a value is expected"),
        ("a = [ 'b'", 1, 10, "go on with `,`"),
        ("a = 1 # the end", 1, 7, "needs a new line"),
        ("a = 1\r\nb = 2\r\n", 1, 6, "Windows line ends"),
        ("import os\n", 1, 8, "After `import`"),
        ("a = os.getcwd()\n", 1, 5, "a value is expected"),
        ("a = -1\n", 1, 5, "hold Python"),
        (r"a = '\x41'", 1, 5, r"escape `\x`"),
        ("a = 1\na += 'b'\n", 2, 1, "with numbers"),
        ("a = [ 1 ]\na += 'b'\n", 2, 1, "a string to a list"),
        ("a = 1024M\n", 1, 9, "'M' has no place"),
        (f"a = {'[' * 300}", 1, 205, "nested more than"),
        ("#" * (TEXT_MAX + 1), 1, 1, "no config file"),
    ],
)
def test_errors_point_to_their_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(XlCfgError) as caught:
        parse_cfg(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in caught.value.message


MANY = """\
# about the name
name = "web" # and behind it
Memory = 64
vif = [ 'a',  # within
  'b' 'c' ]
vnc = True
disk = [ 'x' ]
disk += [ 'y' ]
disk += [ [ 'z' ] ]
import os
cmdline = 'root=
kernel = "/k"
kernel = "/l"
# the end
"""


def test_all_errors_are_told_in_one_go_and_the_rest_is_read() -> None:
    found = read_cfg(MANY)
    assert [(error.line, error.column) for error in found.errors] == [(3, 1), (5, 7), (6, 7), (10, 8), (11, 11)]
    assert found.values == {"name": "web", "disk": ("x", "y", ("z",)), "kernel": "/l"}


def test_each_value_has_a_place_and_each_comment_a_key() -> None:
    found = read_cfg(MANY)
    places = {loc: found.line_and_column(at) for loc, at in found.places.items()}
    assert places["name",] == (2, 8)
    assert places["disk",] == (7, 8)
    assert places["disk", 1] == (8, 11)
    assert places["disk", 2, 0] == (9, 13)
    assert found.offset(("disk", 1, 7)) == found.places["disk", 1]
    assert found.offset(("bootloader",)) is None
    assert [(key, found.line_and_column(at)[0]) for key, at in found.overruled] == [("kernel", 12)]
    assert found.comments["name"] == ["# about the name", "# and behind it"]
    assert found.comments[""] == ["# the end"]


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("vnc = True\n", "'T' has no place", "Write 1 for True."),
        ("Memory = 5\n", "'M' has no place", "Keys are in lower case: memory."),
        ("memory = 1024M\n", "'M' has no place", "Write the number alone: xl counts MiB."),
        ("a = [ MORE ]\n", "'M' has no place", 'Put a string in quotes: "MORE".'),
        ("x = -1\n", "hold Python", 'write it as a string: "-1"'),
        ("import os\n", "After `import`", "as in name = "),
        ("name = 'vm%d' % 5\n", "`%` has no place", "as in name = "),
        ("disk = [ 'a' 'b' ]\n", "go on with `,`", "Put a comma"),
        ("a = 'b\n", "does not end", "Close it with '"),
        ("a = 1\r\n# b\r\nc = 2\r\n", "Windows line ends", r"sed -i 's/\r$//' FILE"),
        ("\ufeffa = 1\n", "byte order mark", r"sed -i '1s/^\xef\xbb\xbf//' FILE"),
        ("a = 1 # b", "needs a new line", "echo >> FILE"),
    ],
)
def test_an_error_comes_with_what_to_write_instead(text: str, told: str, hint: str) -> None:
    (error,) = read_cfg(text).errors
    assert told in error.message
    assert hint in (error.hint or "")


def test_what_is_wrong_in_every_line_is_told_once_and_hides_nothing() -> None:
    found = read_cfg("\ufeffname = 'web'\r\nmemory = -1\r\nvcpus = 2\r\n")
    assert [(error.line, error.column) for error in found.errors] == [(1, 1), (1, 14), (2, 10)]
    assert found.values == {"name": "web", "vcpus": "2"}


@pytest.mark.parametrize(
    "text", ["a+=[1]\n" * 30_000, "a=[" + "1," * 100_000 + "]", 'a="' + "\\\\" * 100_000, "[" * 200_000]
)
def test_hostile_input_costs_no_more_than_its_length(text: str) -> None:
    try:
        values = parse_cfg(text)
    except XlCfgError as error:
        assert error.line == 1
    else:
        assert len(values["a"]) >= 30_000


@pytest.mark.parametrize("text", ["a = (\n" * 40_000, "a\n" * 100_000, "a = [\n" * 40_000, "[" * (1 << 20)])
def test_a_text_full_of_errors_is_told_in_part(text: str) -> None:
    assert 1 <= len(read_cfg(text).errors) <= 20


@given(st.text(st.sampled_from("ab1 =+[]'\"\\,;#\n\t\r.é\ud800\x00")) | st.text())
def test_arbitrary_text_gives_values_or_an_error_with_a_place(text: str) -> None:
    try:
        parse_cfg(text)
    except XlCfgError as error:
        assert 1 <= error.line <= text.count("\n") + 1
        assert 1 <= error.column <= len(text) + 1
    for each in read_cfg(text).errors:
        assert 1 <= each.line <= text.count("\n") + 1
        assert 1 <= each.column <= len(text) + 1


@given(texts)
def test_a_quoted_string_is_read_back(text: str) -> None:
    assert parse_cfg(f"a = {quote(text)}") == {"a": text}


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "\x7f", "\udcff"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot carry"):
        quote(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("10", 10), ("010", 8), ("0x10", 16), ("-5", -5), (" 7", 7), ("+7", 7),
        ("", None), ("08", None), ("7 ", None), ("1M", None), ("0x", None), (str(2**63), None), ("9" * 50, None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_c_reads_them(text: str, number: int | None) -> None:
    assert number_of(text) == number
