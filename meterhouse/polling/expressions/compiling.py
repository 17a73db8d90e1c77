"""Compiles an expression to closures, one for each node of Python's syntax tree."""

import ast
import warnings
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

from meterhouse.errors import shown
from meterhouse.polling.expressions.costs import (
    ENTRY_STEPS,
    MAX_DEPTH,
    Budget,
    ExpressionError,
    check_keys,
    weigh,
)
from meterhouse.polling.expressions.formatting import as_text, formatted
from meterhouse.polling.expressions.functions import FUNCTIONS, OF_MODULES, Function, unique
from meterhouse.polling.expressions.methods import NAMES, method_of
from meterhouse.polling.expressions.operators import BINARY, COMPARISONS, UNARY

MAX_CHARACTERS: Final = 4_096
"""Maximum length of an expression."""

MAX_NODES: Final = 1_000
"""Maximum number of nodes of its syntax tree."""

MAX_NESTING: Final = 50
"""Maximum depth of its syntax tree."""

_RESULT: Final = 10
"""How many times larger than its number of steps the result of an evaluation may be."""

_KINDS: Final = (str, int, float, type(None), list, tuple, dict, set, frozenset)


class _Frame:
    """The variables of an evaluation, and its budget."""

    __slots__ = ("budget", "variables")

    def __init__(self, variables: Mapping[str, Any], budget: Budget) -> None:
        self.variables = variables
        self.budget = budget


_Node = Callable[[_Frame], Any]


class Expression:
    """A compiled expression. It can be evaluated by several threads at the same time.

    Attributes:
        text: the expression.
        names: the variables that it uses.
    """

    __slots__ = ("_node", "_steps", "names", "text")

    def __init__(self, text: str, node: _Node, names: frozenset[str], steps: int) -> None:
        self.text = text
        self.names = names
        self._node = node
        self._steps = steps

    def __call__(self, variables: Mapping[str, Any]) -> Any:
        """The value with these variables.

        Raises:
            ExpressionError: it has none, or would take too many steps.
        """
        budget = Budget(self._steps)
        try:
            return _result(self._node(_Frame(variables, budget)), budget)
        except ExpressionError as error:
            raise ExpressionError(f"'{self.text}' cannot be computed: {error}") from None
        except KeyError as error:
            reason = f"there is no {shown(error.args[0]) if error.args else 'key'}"
        except RecursionError:
            reason = "it is nested too deeply"
        except StopIteration:
            reason = "there is no next value"
        except MemoryError:
            reason = "it would take too much memory"
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = str(error)[:200]
        raise ExpressionError(f"'{self.text}' cannot be computed: {reason}")


def _result(value: Any, budget: Budget) -> Any:
    """The value as others can use it: iterators as lists, nothing that is only of this package."""
    if not isinstance(value, _KINDS):
        if isinstance(value, Function) or not hasattr(value, "__iter__"):
            raise ExpressionError("the result is a function or a match")
        value = budget.collect(value)
    if budget.built and isinstance(value, list | tuple | dict | set | frozenset):
        if weigh(value, budget.steps * _RESULT) > budget.steps * _RESULT:
            raise ExpressionError("the result is too large")
        _refuse_functions(value, set())
    return value


def _refuse_functions(value: Any, seen: set[int]) -> None:
    if isinstance(value, list | tuple | dict | set | frozenset):
        if id(value) in seen:
            return
        seen.add(id(value))
        for each in value.values() if isinstance(value, dict) else value:
            _refuse_functions(each, seen)
    elif not isinstance(value, _KINDS):
        raise ExpressionError("the result has a function or an iterator in it")


def compile_expression(text: str, names: Collection[str], steps: int = ENTRY_STEPS) -> Expression:
    """Compile an expression.

    Args:
        text: in Python's syntax.
        names: the variables that there will be.
        steps: maximum number of steps of an evaluation.

    Raises:
        ExpressionError: it is not in the subset; the error says what is not.
    """
    tree = parse(text)
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise ExpressionError(f"an expression may have at most {MAX_NODES:,} parts")
    if _nesting(tree) > MAX_NESTING:
        raise ExpressionError(f"an expression may be nested at most {MAX_NESTING} levels deep")
    compiler = _Compiler(frozenset(names))
    try:
        node = compiler.node(tree)
    except ExpressionError as error:
        raise ExpressionError(f"'{text}' cannot be used: {error}") from None
    return Expression(text, node, frozenset(compiler.used), steps)


def parse(text: str) -> ast.expr:
    """The syntax tree of an expression.

    Raises:
        ExpressionError: it is not an expression of Python, or too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"an expression may have at most {MAX_CHARACTERS:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"'{text}' is not an expression: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{shown(text)} cannot be read as an expression") from None


def _nesting(tree: ast.AST) -> int:
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        if deepest > MAX_NESTING:
            break
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


class _Compiler:
    """Compiles the nodes of one expression.

    Attributes:
        used: the variables that it uses, without parameters of lambdas and of comprehensions.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._inner: list[str] = []  # the parameters of the lambdas and comprehensions around a node
        self.used: set[str] = set()

    def node(self, tree: ast.AST) -> _Node:
        """A closure for a node.

        Raises:
            ExpressionError: there is none for its class.
        """
        compile_node = getattr(self, f"_{type(tree).__name__.lower()}", None)
        if compile_node is None:
            raise ExpressionError(f"{_WORDS.get(type(tree).__name__, 'this syntax')} cannot be used in an expression")
        compiled: _Node = compile_node(tree)
        return compiled

    def _nodes(self, trees: list[ast.expr]) -> tuple[_Node, ...]:
        return tuple(map(self.node, trees))

    def _constant(self, tree: ast.Constant) -> _Node:
        value = tree.value
        if not isinstance(value, str | int | float | type(None)):
            raise ExpressionError(f"a constant of type {type(value).__name__} cannot be used in an expression")
        return lambda frame: value

    def _name(self, tree: ast.Name) -> _Node:
        name = tree.id
        if name in self._inner or name in self._names:
            if name not in self._inner:
                self.used.add(name)
            return lambda frame: frame.variables[name]
        if name in FUNCTIONS:
            function = FUNCTIONS[name]
            return lambda frame: function
        raise ExpressionError(f"there is no variable or function '{name}'")

    def _list(self, tree: ast.List) -> _Node:
        nodes = self._nodes(tree.elts)

        def make(frame: _Frame) -> list[Any]:
            frame.budget.built = True
            frame.budget.spend(len(nodes))
            return [node(frame) for node in nodes]

        return make

    def _tuple(self, tree: ast.Tuple) -> _Node:
        make = self._list(ast.List(tree.elts))
        return lambda frame: tuple(make(frame))

    def _set(self, tree: ast.Set) -> _Node:
        make = self._list(ast.List(tree.elts))
        return lambda frame: unique(frame.budget, make(frame))

    def _dict(self, tree: ast.Dict) -> _Node:
        if None in tree.keys:
            raise ExpressionError("** cannot be used in an expression")
        keys, values = self._nodes([key for key in tree.keys if key is not None]), self._nodes(tree.values)

        def make(frame: _Frame) -> dict[Any, Any]:
            frame.budget.built = True
            frame.budget.spend(len(keys))
            return {key(frame): value(frame) for key, value in zip(keys, values, strict=True)}

        return make

    def _boolop(self, tree: ast.BoolOp) -> _Node:
        *first, last = self._nodes(tree.values)
        stop = isinstance(tree.op, ast.Or)

        def choose(frame: _Frame) -> Any:
            for node in first:
                value = node(frame)
                if bool(value) is stop:
                    return value
            return last(frame)

        return choose

    def _binop(self, tree: ast.BinOp) -> _Node:
        if type(tree.op) not in BINARY:
            raise ExpressionError("this operator cannot be used in an expression")
        left, right, operate = self.node(tree.left), self.node(tree.right), BINARY[type(tree.op)]
        return lambda frame: operate(frame.budget, left(frame), right(frame))

    def _unaryop(self, tree: ast.UnaryOp) -> _Node:
        operand, operate = self.node(tree.operand), UNARY[type(tree.op)]
        return lambda frame: operate(operand(frame))

    def _ifexp(self, tree: ast.IfExp) -> _Node:
        test, yes, no = self.node(tree.test), self.node(tree.body), self.node(tree.orelse)
        return lambda frame: yes(frame) if test(frame) else no(frame)

    def _compare(self, tree: ast.Compare) -> _Node:
        first, others = self.node(tree.left), self._nodes(tree.comparators)
        steps = tuple(zip((COMPARISONS[type(each)] for each in tree.ops), others, strict=True))

        def compare(frame: _Frame) -> Any:
            left, result = first(frame), True
            for operate, node in steps:
                right = node(frame)
                result = operate(frame.budget, left, right)
                if not result:
                    return result
                left = right
            return result

        return compare

    def _subscript(self, tree: ast.Subscript) -> _Node:
        value = self.node(tree.value)
        if isinstance(tree.slice, ast.Slice):
            lower, upper, step = (
                (lambda frame: None) if part is None else self.node(part)
                for part in (tree.slice.lower, tree.slice.upper, tree.slice.step)
            )

            def cut(frame: _Frame) -> Any:
                whole = value(frame)
                if not isinstance(whole, str | list | tuple):
                    raise ExpressionError(f"a value of type {type(whole).__name__} has no slices")
                made = slice(lower(frame), upper(frame), step(frame))
                size = len(range(*made.indices(len(whole))))
                frame.budget.spend_characters(size) if isinstance(whole, str) else frame.budget.spend(size)
                frame.budget.built = True
                return whole[made]

            return cut
        index = self.node(tree.slice)
        return lambda frame: value(frame)[index(frame)]

    def _joinedstr(self, tree: ast.JoinedStr) -> _Node:
        nodes = self._nodes(tree.values)

        def join(frame: _Frame) -> str:
            parts = [node(frame) for node in nodes]
            frame.budget.spend_characters(sum(map(len, parts)))
            return "".join(parts)

        return join

    def _formattedvalue(self, tree: ast.FormattedValue) -> _Node:
        value = self.node(tree.value)
        specification = self.node(tree.format_spec) if tree.format_spec else lambda frame: ""
        kind = chr(tree.conversion) if tree.conversion >= 0 else ""

        def write(frame: _Frame) -> str:
            made = value(frame)
            if kind:
                made = as_text(frame.budget, made, kind)
            return formatted(frame.budget, made, specification(frame))

        return write

    def _call(self, tree: ast.Call) -> _Node:
        if any(isinstance(each, ast.Starred) for each in tree.args) or any(each.arg is None for each in tree.keywords):
            raise ExpressionError("* and ** cannot be used in a call")
        arguments = self._nodes(tree.args)
        named = tuple((each.arg or "", self.node(each.value)) for each in tree.keywords)

        def given(frame: _Frame) -> tuple[list[Any], dict[str, Any]]:
            frame.budget.spend(1)
            return [node(frame) for node in arguments], {key: node(frame) for key, node in named}

        function = tree.func
        if isinstance(function, ast.Attribute):
            called = self._of_module(function)
            if called is None:
                return self._method_call(function, given)
        else:
            called = self.node(function)

        def call(frame: _Frame) -> Any:
            target = called(frame)
            if not isinstance(target, Function):
                raise ExpressionError("what is called is not a function")
            values, keywords = given(frame)
            return target.call(frame.budget, *values, **keywords)

        return call

    def _of_module(self, tree: ast.Attribute) -> _Node | None:
        """A function of a module, such as `json.loads`; None if what is before the dot is not a module's name."""
        if not isinstance(tree.value, ast.Name) or tree.value.id in self._names or tree.value.id in self._inner:
            return None
        function = OF_MODULES.get((tree.value.id, tree.attr))
        return None if function is None else lambda frame: function

    def _method_call(self, tree: ast.Attribute, given: Callable[[_Frame], tuple[list[Any], dict[str, Any]]]) -> _Node:
        name = tree.attr
        if name not in NAMES:
            raise ExpressionError(f"there is no method '{name}'")
        owner = self.node(tree.value)

        def call(frame: _Frame) -> Any:
            value = owner(frame)
            method = method_of(value, name)
            values, keywords = given(frame)
            return method(frame.budget, value, *values, **keywords)

        return call

    def _lambda(self, tree: ast.Lambda) -> _Node:
        arguments = tree.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults or arguments.posonlyargs:
            raise ExpressionError("a lambda has only plain parameters")
        names = [each.arg for each in arguments.args]
        self._inner += names
        body = self.node(tree.body)
        del self._inner[len(self._inner) - len(names) :]
        steps = 1 + sum(1 for _ in ast.walk(tree.body))

        def make(frame: _Frame) -> Function:
            def call(budget: Budget, *values: Any) -> Any:
                if len(values) != len(names):
                    raise TypeError(f"the lambda takes {len(names)} values, not {len(values)}")
                budget.spend(steps)
                if budget.depth >= MAX_DEPTH:
                    raise ExpressionError(f"lambdas call lambdas more than {MAX_DEPTH} levels deep")
                budget.depth += 1
                try:
                    return body(_Frame({**frame.variables, **dict(zip(names, values, strict=True))}, budget))
                finally:
                    budget.depth -= 1

            return Function(call)

        return make

    def _loop(self, generators: list[ast.comprehension], made: list[ast.expr]) -> Callable[[_Frame], Any]:
        """An iterator over the values of `made`, as a tuple, in nested loops."""
        first = generators[0]
        if first.is_async:
            raise ExpressionError("async cannot be used in an expression")
        values = self.node(first.iter)
        targets = _targets(first.target)
        self._inner += targets if isinstance(targets, list) else [targets]
        count = len(targets) if isinstance(targets, list) else 1
        conditions = self._nodes(first.ifs)
        rest = self._loop(generators[1:], made) if len(generators) > 1 else None
        results = self._nodes(made) if rest is None else ()
        del self._inner[len(self._inner) - count :]
        steps = sum(1 for each in (*first.ifs, *made) for _ in ast.walk(each))

        def loop(frame: _Frame) -> Any:
            for each in frame.budget.iterate(values(frame)):
                frame.budget.spend(steps)
                bound = dict(frame.variables)
                if isinstance(targets, str):
                    bound[targets] = each
                else:
                    parts = list(frame.budget.iterate(each))
                    if len(parts) != count:
                        raise ValueError(f"there are {len(parts)} values for {count} variables")
                    bound.update(zip(targets, parts, strict=True))
                inner = _Frame(bound, frame.budget)
                if all(condition(inner) for condition in conditions):
                    if rest is not None:
                        yield from rest(inner)
                    else:
                        yield tuple(result(inner) for result in results)

        return loop

    def _generatorexp(self, tree: ast.GeneratorExp) -> _Node:
        loop = self._loop(tree.generators, [tree.elt])
        return lambda frame: (each for (each,) in loop(frame))

    def _listcomp(self, tree: ast.ListComp) -> _Node:
        loop = self._loop(tree.generators, [tree.elt])

        def make(frame: _Frame) -> list[Any]:
            frame.budget.built = True
            return [each for (each,) in loop(frame)]

        return make

    def _setcomp(self, tree: ast.SetComp) -> _Node:
        make = self._generatorexp(ast.GeneratorExp(tree.elt, tree.generators))
        return lambda frame: unique(frame.budget, make(frame))

    def _dictcomp(self, tree: ast.DictComp) -> _Node:
        loop = self._loop(tree.generators, [tree.key, tree.value])

        def make(frame: _Frame) -> dict[Any, Any]:
            frame.budget.built = True
            made: dict[Any, Any] = {}
            for key, value in loop(frame):
                made[key] = value
                if len(made) % 1_000 == 0:
                    check_keys(made)
            check_keys(made)
            return made

        return make


def _targets(tree: ast.expr) -> str | list[str]:
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Tuple) and all(isinstance(each, ast.Name) for each in tree.elts):
        return [each.id for each in tree.elts if isinstance(each, ast.Name)]
    raise ExpressionError("a loop has a name, or names separated by commas")


_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Attribute": "an attribute that is not called",
        "Await": "await",
        "NamedExpr": ":=",
        "Starred": "*",
        "Yield": "yield",
        "YieldFrom": "yield",
    }
)
"""How an error names a class of nodes that cannot be used."""
