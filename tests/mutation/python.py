"""The mutants of a Python file: cosmic-ray's operators, and two that it has not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator

from mutation.mutants import Mutant


class RemoveStatement(Operator):
    """Replace by ``pass`` what is done for its effect: a call, a change of state, a raise."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and _has_effect(node.children[0]):
            yield (node.start_pos, node.end_pos)

    def mutate(self, node, index):  # noqa: ARG002 - there is one way
        statement = node.children[0]
        node.children[0] = parso.parse(f"{statement.get_first_leaf().prefix}pass")
        return node

    @classmethod
    def examples(cls):
        return (Example("f(x)\n", "pass\n"), Example("self.x = 1\n", "pass\n"))


class CatchNothing(Operator):
    """Have an ``except`` clause catch nothing."""

    def mutation_positions(self, node):
        if node.type == "except_clause":
            yield (node.start_pos, node.end_pos)

    def mutate(self, node, index):  # noqa: ARG002 - there is one way
        node.children[1] = parso.parse(" ()")
        return node

    @classmethod
    def examples(cls):
        return (Example("try: x\nexcept E: y\n", "try: x\nexcept (): y\n"),)


def _has_effect(statement) -> bool:
    if statement.type == "atom_expr":
        return statement.children[-1].get_code(include_prefix=False).startswith("(")
    if statement.type == "expr_stmt":
        # Not a name: without it the rest does not run. Nor a declaration.
        augmented = statement.children[1].type == "operator" and statement.children[1].value != "="
        changes = statement.children[0].type == "atom_expr" and len(statement.children) == 3
        return augmented or statement.children[1].type == "augassign" or changes
    return statement.type in ("raise_stmt", "del_stmt")


#: One replacement for each place: the one that is nearest to right.
OPERATORS = [
    RemoveStatement(),
    CatchNothing(),
    *(
        get_operator(f"core/{name}")()
        for name in (
            *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
            *("ReplaceAndWithOr", "ReplaceOrWithAnd", "NumberReplacer"),
            *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
            *(f"ReplaceBinaryOperator_{kind}" for kind in ("Add_Sub", "Sub_Add", "Mul_Div")),
            *(f"ReplaceBinaryOperator_{kind}" for kind in ("Div_Mul", "FloorDiv_Mul", "Mod_Mul")),
            *(f"ReplaceBinaryOperator_{kind}" for kind in ("Pow_Mul", "BitAnd_BitOr")),
            *(f"ReplaceComparisonOperator_{kind}" for kind in ("Eq_NotEq", "NotEq_Eq")),
            *(f"ReplaceComparisonOperator_{kind}" for kind in ("Lt_LtE", "LtE_Lt")),
            *(f"ReplaceComparisonOperator_{kind}" for kind in ("Gt_GtE", "GtE_Gt")),
            *(f"ReplaceComparisonOperator_{kind}" for kind in ("Is_IsNot", "IsNot_Is")),
            *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd"),
        )
    ),
]

#: What takes a ``*`` between parameters for a product makes this of it.
_SEPARATOR = re.compile(r"(\(|, )/, \w+(:|=|,)")


def mutants_of(path: str, text: str) -> Iterator[Mutant]:
    """Yield every change of a Python file that still is Python."""
    nodes = [*ast_nodes(get_ast(text))]
    for operator in OPERATORS:
        for occurrence in range(sum(len([*operator.mutation_positions(n)]) for n in nodes)):
            changed = mutate_code(text, operator, occurrence)
            if changed is not None and changed != text and _compiles(changed):
                mutant = Mutant(path, type(operator).__name__, text, changed)
                if not _SEPARATOR.search(mutant.after):
                    yield mutant


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True
