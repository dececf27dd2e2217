"""The device id of a vdev is what xl computes for it, and nonsense is refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.vdev import devid_of

KNOWN = {
    "xvda": 51712,
    "xvda1": 51713,
    "xvdp15": 51967,
    "xvdq": 1 << 28 | 16 << 8,
    "xvda16": 1 << 28 | 16,
    "xvdaa": 1 << 28 | 26 << 8,
    "xvdzz": 1 << 28 | 701 << 8,
    "d0p0": 51712,
    "d0p1": 51713,
    "d15p15": 51967,
    "d16p0": 1 << 28 | 16 << 8,
    "hda": 768,
    "hda1": 769,
    "hdb": 832,
    "hdc": 5632,
    "hdd63": 22 << 8 | 1 << 6 | 63,
    "sda": 2048,
    "sdp15": 2303,
    "0": 0,
    "0x0": 0,
    "1": 1,
    "0x1": 1,
    "010": 8,
    "768": 768,
    "0x300": 768,
    "0xCA00": 51712,
    "2147483647": 2147483647,
}

NONSENSE = [
    "", "xvd", "xvd1", "xvda0", "xvda01", "xvda256", "xvdA", "XVDA", "xvda ", " xvda", "xvda\n", "hde", "hda64",
    "hda01", "sdq", "sda16", "08", "-1", "+1", "0x", "0xg", "1_000", "2147483648", "d1048576p0",
    "d0p256", "d0", "dp1", "d0p",
    "vda", "xvda;reboot", "٣", "9" * 5000, "xvd" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize(("vdev", "devid"), KNOWN.items())
def test_devid_is_the_one_xl_computes(vdev: str, devid: int) -> None:
    assert devid_of(vdev) == devid


@pytest.mark.parametrize("vdev", NONSENSE)
def test_nonsense_is_refused_with_a_sentence(vdev: str) -> None:
    with pytest.raises(ValueError, match="names no virtual disk"):
        devid_of(vdev)


@given(st.integers(0, 2**31 - 1))
def test_a_number_means_itself_in_any_base(number: int) -> None:
    assert devid_of(str(number)) == devid_of(hex(number)) == devid_of(f"0{number:o}") == number


@given(st.text(alphabet="xvdhsp0123456789ab", max_size=9))
def test_any_text_gives_a_devid_or_a_value_error(text: str) -> None:
    try:
        assert 0 <= devid_of(text) < 2**31
    except ValueError as error:
        assert "names no virtual disk" in str(error)
