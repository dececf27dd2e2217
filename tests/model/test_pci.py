"""PCI devices as xl.cfg has them, in one spelling."""

from __future__ import annotations

import pytest

from reconciler.model.pci import read_pci


@pytest.mark.parametrize(
    ("text", "spelled", "device"),
    [
        ("01:00.0", "0000:01:00.0", "0000:01:00.0"),
        ("1:0.0", "0000:01:00.0", "0000:01:00.0"),
        ("0002:0A:1f.7@5,permissive=1", "0002:0a:1f.7@05,permissive=1", "0002:0a:1f.7"),
        ("01:00.*,msitranslate=0", "0000:01:00.*,msitranslate=0", "0000:01:00.*"),
        ("name=nic0,vslot=a,rdm_policy=relaxed", "name=nic0,vslot=0a,rdm_policy=relaxed", "name=nic0"),
        ("bdf=01:00.0,seize=yes,power_mgmt=2", "0000:01:00.0,power_mgmt=1,seize=0", "0000:01:00.0"),
    ],
)
def test_a_device_has_one_spelling(text: str, spelled: str, device: str) -> None:
    assert (str(read_pci(text)), read_pci(text).device) == (spelled, device)
    assert str(read_pci(spelled)) == spelled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "01:00",
        "01:00.8",
        "01:00.0,1",
        "01:20.0",
        "01:00.0@20",
        "01:00.0,name=x",
        "permissive=1",
        "01:00.0,a=1",
    ],
)
def test_what_xl_refuses_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        read_pci(text)


def test_all_functions_of_a_device_are_each_of_them() -> None:
    assert read_pci("01:00.*").functions[7] == "0000:01:00.7"
    assert read_pci("01:00.3").functions == ("0000:01:00.3",)
