"""Small changes of a module, each in one place of one function, that ought to be noticed by some test.

Only bodies of functions are changed: a forked process takes the code of a mutant in the place of the function's own, so
that nothing has to be loaded anew. What stands at the top of a module (tables, defaults) is not tried.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import CodeType

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_COMBINED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_CALLED = {"any": "all", "all": "any", "min": "max", "max": "min"}
_SHOWN_MAX = 80
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of a module. Its name stays the same as long as the function reads the same."""

    file: str
    function: str
    line: int
    change: str
    place: int  # of the changed node in its function
    variant: int  # of those that this node has

    @property
    def name(self) -> str:
        return f"{self.file} {self.function}: {self.change}"

    def code(self, source: str) -> CodeType:
        """Return the code of its function with the change made."""
        tree = ast.parse(source, self.file)
        function = dict(_functions(tree.body))[self.function]
        target = list(_nodes(function))[self.place]
        _Swap(target, _variants(target)[self.variant]).visit(tree)
        whole = compile(ast.fix_missing_locations(tree), self.file, "exec")
        return next(code for code in codes_in(whole) if code.co_qualname == self.function)


class _Swap(ast.NodeTransformer):
    def __init__(self, before: ast.AST, after: ast.AST) -> None:
        self._before, self._after = before, after

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self._after, node) if node is self._before else self.generic_visit(node)


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all within it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from codes_in(inner)


def mutants_of(file: str, source: str) -> list[Mutant]:
    """List all mutants of a module."""
    found: list[Mutant] = []
    for name, function in _functions(ast.parse(source, file).body):
        alike: Counter[str] = Counter()
        for place, node in enumerate(_nodes(function)):
            for variant, after in enumerate(_variants(node)):
                change = f"{_shown(node)} => {_shown(after)}"
                alike[change] += 1
                change += f" (no. {alike[change]})" if alike[change] > 1 else ""
                line: int = getattr(node, "lineno", function.lineno)
                found.append(Mutant(file, name, line, change, place, variant))
    return found


def _functions(body: Sequence[ast.stmt], within: str = "") -> Iterator[tuple[str, _Function]]:
    """Yield functions and methods by qualified name. Those within a function are part of it."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield within + statement.name, statement
        elif isinstance(statement, ast.ClassDef):
            yield from _functions(statement.body, f"{within}{statement.name}.")


def _nodes(function: _Function) -> Iterator[ast.AST]:
    """Yield what may be changed of a function, always in one order."""
    for statement in function.body:
        yield from _within(statement)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assert | ast.JoinedStr | ast.AnnAssign):  # for people, and for types
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _within(node.value)
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield from _within(inner)


def _variants(node: ast.AST) -> list[ast.AST]:
    """Return what a node may be changed to."""
    match node:
        case ast.Compare(ops=[op]):
            return [_with(node, ops=[other()]) for other in _COMPARED.get(type(op), ())]
        case ast.BoolOp(op=op, values=values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            fewer = (values[:index] + values[index + 1 :] for index in range(len(values)))
            return [_with(node, op=other), *(_joined(node, some) for some in fewer)]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [operand]
        case ast.Constant(value=bool() as value):
            return [ast.Constant(not value)]
        case ast.Constant(value=int() as value):
            return [ast.Constant(value + 1)]
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _COMBINED:
            return [_with(node, op=_COMBINED[type(op)]())]
        case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
            return [_with(node, func=ast.Name(_CALLED[name], ast.Load()))]
        case ast.If(test=test) | ast.IfExp(test=test) if isinstance(test, ast.Name | ast.Call | ast.Attribute):
            return [_with(node, test=ast.UnaryOp(ast.Not(), test))]
        case ast.comprehension(ifs=[_, *_]):
            return [_with(node, ifs=[])]
        case ast.match_case(guard=ast.expr()):
            return [_with(node, guard=None)]
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant) or value.value is not None:
            return [ast.Return(ast.Constant(None))]
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise():
            return [ast.Pass()]
        case ast.Continue():
            return [ast.Break()]
    return []


def _joined(node: ast.BoolOp, values: list[ast.expr]) -> ast.AST:
    return values[0] if len(values) == 1 else _with(node, values=values)


def _with(node: ast.AST, **changes: object) -> ast.AST:
    """Return a shallow copy of a node with other fields."""
    made = deepcopy(node)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _shown(node: ast.AST) -> str:
    match node:
        case ast.If(test=test):
            text = f"if {ast.unparse(test)}"
        case ast.comprehension() | ast.match_case():
            text = ast.unparse(ast.fix_missing_locations(node)).strip()
        case _:
            text = ast.unparse(ast.fix_missing_locations(deepcopy(node)))
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
