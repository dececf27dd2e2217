"""The mutants themselves: what is changed, and that each change has its effect and its name."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, harmless
from tests.mutants.mutations import mutants_of

SOURCE = '''
def least(numbers: list[int], floor: int = 3) -> int:
    """Return the least one above a floor."""
    assert numbers
    return min(number for number in numbers if number > floor)


class Gate:
    def opens(self, key: str, is_day: bool) -> bool:
        if key == "gold" and is_day:
            return True
        return not is_day
'''


def effects_of(function: str, call: str) -> dict[str, object]:
    """What a call gives, for each mutant of a function."""
    effects: dict[str, object] = {}
    for mutant in mutants_of("house.py", SOURCE):
        if mutant.function == function:
            names: dict[str, object] = {}
            exec(SOURCE, names)
            changed = eval(function, names)
            changed.__code__ = mutant.code(SOURCE)
            effects[mutant.change] = eval(call, names)
    return effects


def test_each_change_of_a_function_has_its_effect() -> None:
    effects = effects_of("least", "least([2, 3, 5, 9])")
    whole = "min((number for number in numbers if number > floor))"
    assert effects == {
        f"return {whole} => return None": None,
        f"{whole} => max((number for number in numbers if number > floor))": 9,
        "for number in numbers if number > floor => for number in numbers": 2,
        "number > floor => number >= floor": 3,
        "number > floor => number <= floor": 2,
    }


def test_methods_are_changed_too_and_what_is_for_people_is_not() -> None:
    effects = effects_of("Gate.opens", "Gate().opens('tin', True)")
    assert effects['key == "gold" and is_day => is_day'.replace('"', "'")] is True
    assert effects["not is_day => is_day"] is True
    assert not any("Return" in change or "assert" in change for change in effects)


def test_names_tell_alike_changes_apart() -> None:
    source = "def both(a: int, b: int) -> bool:\n    return a == 1 and b == 1 and a == 1\n"
    names = [mutant.name for mutant in mutants_of("house.py", source)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(harmless()))
def test_what_is_listed_as_harmless_is_still_there(name: str) -> None:
    file = name.partition(" ")[0]
    assert name in {mutant.name for mutant in mutants_of(file, (ROOT / file).read_text())}
    assert harmless()[name]
