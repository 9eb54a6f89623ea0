"""Random small projects that do odd things when they are imported, and random edits of them.

A project is a few modules of statements, each of which may use what stands before it, in its own module or
in one with a smaller number. All functions take and give numbers, so that anything can be put anywhere.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

KINDS = ("number", "function", "list", "table", "class", "object", "iterator")


@dataclass
class Module:
    """One file under construction: its statements, and the names that it has by kind."""

    name: str
    statements: list[str] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    modules: list[str] = field(default_factory=list)


class Generator:
    """Makes projects; equal seeds, equal projects."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._count = 0
        self._all: dict[str, Module] = {}
        # a project of few kinds of statements has more that meet
        some = self.random.sample(self._list_makers(), 4)
        self._makers = [self._add_function, self._add_effect, self._add_effect, *some, *some]

    def _list_makers(self) -> list[Callable[[Module], None]]:
        return [
            self._add_number,
            self._add_list,
            self._add_table,
            self._add_class,
            self._add_object,
            self._add_iterator,
            self._add_block,
            self._add_decorated,
            self._add_alias,
            self._add_setter,
            self._add_wiring,
            self._add_getter,
            self._add_closure,
        ]

    def make_project(self) -> dict[str, list[str]]:
        """Return the statements of each file; wf.py has the function `node`."""
        modules: list[Module] = []
        for number in range(self.random.randint(1, 3)):
            module = Module(self.random.choice([f"m{number}", f"pkg.m{number}"]))
            self._all[module.name] = module
            self._import_into(module, modules)
            for _ in range(self.random.randint(3, 9)):
                self.add_statement(module)
            modules.append(module)
        wf = Module("wf")
        self._all["wf"] = wf
        self._import_into(wf, modules)
        for _ in range(self.random.randint(2, 8)):
            self.add_statement(wf)
        self._add_node(wf)
        for _ in range(self.random.randint(0, 3)):
            self.add_statement(wf)
        files = {_path(m.name): m.statements for m in [*modules, wf]}
        if any("/" in path for path in files):
            files["pkg/__init__.py"] = self._make_init()
        return files

    def edit(self, files: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the files after one random edit."""
        edited = {name: list(statements) for name, statements in files.items()}
        name = self.random.choice([name for name in files if files[name]])
        statements = edited[name]
        # what is executed at once is what is hard
        weights = [
            1 if text.startswith(("def ", "class ", "@workflow", "import")) else 3
            for text in statements
        ]
        place = self.random.choices(range(len(statements)), weights)[0]
        kind = self.random.randrange(8)
        if kind <= 2:
            statements[place] = self._change_number(statements[place])
        elif kind == 3 and not statements[place].startswith("@workflow"):
            del statements[place]
        elif kind == 4:
            other = self.random.randrange(len(statements))
            statements[place], statements[other] = statements[other], statements[place]
        elif kind == 5:
            module = self._all.get(name[:-3].replace("/", "."))
            if module:
                made = Module(module.name, [], module.names, module.modules)
                self.add_statement(made)
                statements[place:place] = made.statements
        elif kind == 6:
            statements[place] = self._change_name(statements[place])
        else:
            statements[place] = f"# a comment\n{statements[place]}\n"
        return edited

    def _change_number(self, text: str) -> str:
        numbers = list(re.finditer(r"\b\d+\b", text))
        if not numbers:
            return text
        found = self.random.choice(numbers)
        return f"{text[: found.start()]}{self.random.randint(0, 9)}{text[found.end() :]}"

    def _change_name(self, text: str) -> str:
        names = list(re.finditer(r"\b[fnltcoi]\d+\b", text))
        if not names:
            return text
        found = self.random.choice(names)
        others = [found[0]] + [
            n
            for m in self._all.values()
            for k in m.names
            for n in m.names[k]
            if n[0] == found[0][0]
        ]
        return f"{text[: found.start()]}{self.random.choice(others)}{text[found.end() :]}"

    def _make_init(self) -> list[str]:
        names = [name for name in self._all if name.startswith("pkg.")]
        choice = self.random.randrange(3)
        if choice == 0:
            return [f"from . import {names[0][4:]}"]
        functions = self._all[names[0]].names["function"]
        if choice == 1 and functions:
            return [f"from .{names[0][4:]} import {functions[0]}"]
        return []

    def _import_into(self, module: Module, others: list[Module]) -> None:
        for other in others:
            if self.random.random() < 0.25:
                continue
            own = [(kind, name) for kind in KINDS for name in other.names[kind]]
            style = self.random.randrange(12)
            if style == 0 and own:
                for kind, name in self.random.sample(own, min(4, len(own))):
                    module.statements.append(f"from {other.name} import {name}")
                    module.names[kind].append(name)
            elif style == 1:
                module.statements.append(f"from {other.name} import *")
                for kind, name in own:
                    module.names[kind].append(name)
            elif style == 2:
                module.statements.append(f"import {other.name}")
                module.modules.append(other.name)
                for kind, name in own:
                    module.names[kind].append(f"{other.name}.{name}")
            elif style == 3:
                alias = f"q{self._number()}"
                forms = [
                    f"import importlib\n{alias} = importlib.import_module({other.name!r})",
                    f"try:\n    import {other.name} as {alias}\nexcept ImportError:\n    {alias} = None",
                    f"import {other.name}, sys\n{alias} = sys.modules[{other.name!r}]",
                ]
                module.statements.append(self.random.choice(forms))
                for kind, name in own:
                    module.names[kind].append(f"{alias}.{name}")
            elif (
                style == 4
                and own
                and other.name.startswith("pkg.")
                and module.name.startswith("pkg.")
            ):
                kind, name = self.random.choice(own)
                module.statements.append(f"from .{other.name[4:]} import {name} as {name}r")
                module.names[kind].append(f"{name}r")
            else:
                alias = f"q{self._number()}"
                module.statements.append(f"import {other.name} as {alias}")
                module.modules.append(alias)
                for kind, name in own:
                    module.names[kind].append(f"{alias}.{name}")

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _new(self, module: Module, kind: str, *, known: bool = True) -> str:
        name = f"{kind[0]}{self._number()}"
        if known:
            module.names[kind].append(name)
        return name

    def _pick(self, module: Module, kind: str) -> str:
        names = module.names[kind]
        return self.random.choice(names) if names else ""

    def digit(self) -> str:
        """Return a digit."""
        return str(self.random.randint(0, 9))

    def expression(self, module: Module, depth: int = 2) -> str:
        """Return an expression that gives a number, or raises."""
        r = self.random
        inner = self.expression(module, depth - 1) if depth and r.random() < 0.7 else self.digit()
        number, function = self._pick(module, "number"), self._pick(module, "function")
        items, table = self._pick(module, "list"), self._pick(module, "table")
        kind, thing = self._pick(module, "class"), self._pick(module, "object")
        iterator = self._pick(module, "iterator")
        alias = r.choice(module.modules) if module.modules else ""
        choices = [
            self.digit(),
            f"({inner} + {self.digit()})",
            f"(lambda y: y + {inner})({self.digit()})",
        ]
        if number:
            choices += [number, number, f"({number} + {inner})", f"eval({number!r})"]
        if function:
            choices += [f"{function}({inner})"] * 4
            choices += [
                f"getattr({function}, 'mark', {inner})",
                f"sum(map({function}, [1, {inner}]))",
            ]
        if items:
            choices += [
                f"len({items})",
                f"sum(size(x) for x in {items})",
                f"({items} and size({items}[-1]) or {inner})",
            ]
        if table:
            choices += [f"sum(f({inner}) for f in {table}.values())", f"len({table})"]
        if kind:
            choices += [
                f"{kind}.make({inner}).value()",
                f"{kind}({inner}).value()",
                f"{kind}.rate",
                f"getattr({kind}, 'made', {inner})",
                f"{kind}({inner}).all()",
            ]
        if thing:
            choices += [
                f"{thing}.seen",
                f"{thing}.add({inner})",
                f"{thing}.value()",
                f"{thing}.bump()",
                f"size({thing}.kept)",
            ]
        if iterator:
            choices += [f"next({iterator}, {inner})"]
        if alias and "." not in alias:
            choices += [f"size(getattr({alias}, 'extra', {inner}))", f"hasattr({alias}, 'extra')"]
        if function and thing:
            choices += [
                f"sum(map({thing}.add, [1, {inner}]))",
                f"call({thing}.add, {inner})",
                f"call({function}, {inner})",
            ]
        if items:
            choices += [
                f"(lambda add=({items}).append: add({inner}) or 1)()",
                f"call({items}.append, {inner})",
                f"[*{items}].pop(-1) and 1",
            ]
        if r.random() < 0.03:
            choices = self._list_odd(module, alias or "os", inner)
        return r.choice(choices)

    def _list_odd(self, module: Module, alias: str, inner: str) -> list[str]:
        """Return expressions that widen a closure, or mostly raise: a few are enough."""
        odd = [
            "int(random.random() * 1000)",
            "len(os.environ.get('Q', ''))",
            "extra_name",
            f"size({alias}.extra)",
        ]
        for name in (self._pick(module, "number"), self._pick(module, "function")):
            if name.startswith(f"{alias}."):
                attribute = name[len(alias) + 1 :]
                odd += [
                    f"size(getattr({alias}, {attribute!r}))",
                    f"size(getattr({alias}, {attribute[0]!r} + {attribute[1:]!r}))",
                    f"size(vars({alias}).get({attribute!r}))",
                ]
            elif name:
                odd += [
                    f"size(eval({name!r}))",
                    f"size(globals()[{name.partition('.')[0]!r}]) + {inner}",
                ]
        return odd

    def look(self, module: Module) -> str:
        """Return an expression that shows the state of something."""
        views = {
            "number": ["{n}"],
            "function": ["{n}(1)", "getattr({n}, 'mark', 0)", "{n}({e})"],
            "list": ["size({n})", "[size(x) for x in {n}]"],
            "table": ["sorted({n})", "[f({e}) for f in {n}.values()]"],
            "class": [
                "{n}.rate",
                "getattr({n}, 'made', 0)",
                "size({n}.all_kept)",
                "{n}({e}).value()",
            ],
            "object": ["{n}.value()", "{n}.bump()", "size({n}.kept)"],
            "iterator": ["next({n}, -1)", "list({n})"],
        }
        kind = self.random.choice(KINDS)
        name = self._pick(module, kind)
        view = self.random.choice(views[kind])
        return (
            view.format(n=name, e=self.expression(module, 1)) if name else self.expression(module)
        )

    def add_statement(self, module: Module) -> None:
        """Add one statement, of any kind that the names there are allow."""
        self.random.choice(self._makers)(module)

    def _add_function(self, module: Module) -> None:
        body = self.expression(module)
        default = self.expression(module, 1)
        late = self._pick(module, "number") or "0"
        forms = [
            "def {n}(x, k={d}):\n    return x + {b}",
            "def {n}(x):\n    '''doc'''\n    y = {b}\n    return y + x",
            "def {n}(x):\n    def inner(z: int = {d}):\n        return z + {b}\n    return inner()",
            "def {n}(x, held=[]):\n    held.append({d})\n    return len(held) + {b}",
            "def {n}(x):\n    return [z + {b} for z in range(2)][-1]",
            "def {n}(x):\n    try:\n        return {b}\n    except IndexError as error:\n        return {d}",
            "def {n}(x):\n    match x:\n        case 1:\n            return {b}\n        case _:\n            return {d}",
            "def {n}(x):\n    if (w := {b}) > 3:\n        return w\n    return {d} + {l}",
        ]
        text = self.random.choice(forms)
        name = self._new(module, "function")
        module.statements.append(text.format(n=name, b=body, d=default, l=late))

    def _add_number(self, module: Module) -> None:
        value = self.expression(module) if self.random.random() < 0.6 else self.digit()
        forms = ["{n} = {v}", "{n}: int = {v}", "{n}, _ = {v}, 1", "{n} = abs({v})"]
        text = self.random.choice(forms)
        module.statements.append(text.format(n=self._new(module, "number"), v=value))

    def _add_list(self, module: Module) -> None:
        items, function = self._pick(module, "list"), self._pick(module, "function")
        forms = ["{n} = []", "{n} = [{v}]", "{n} = list(range(3))"]
        if items:
            forms += [
                f"{{n}} = [{items}]",
                f"{{n}} = {items}",
                f"{{n}} = sorted({items}, key=size)",
            ]
        if function:
            forms += [f"{{n}} = [{function}({{v}})]", f"{{n}} = [{function}]"]
        text = self.random.choice(forms)
        module.statements.append(
            text.format(v=self.expression(module), n=self._new(module, "list"))
        )

    def _add_table(self, module: Module) -> None:
        function = self._pick(module, "function")
        inner = f"'a': {function}" if function else ""
        module.statements.append(f"{self._new(module, 'table')} = {{{inner}}}")

    def _add_class(self, module: Module) -> None:
        base, function = self._pick(module, "class"), self._pick(module, "function")
        rate, amount = self.expression(module, 1), self.expression(module, 1)
        name = self._new(module, "class", known=False)
        hook = self.random.choice(
            ["", "", f"\n    def __init_subclass__(cls):\n        {name}.rate += size(cls)\n"]
        )
        count = self.random.choice(
            [
                "",
                "",
                f"\n        {name}.rate += 1",
                "\n        type(self).made = x",
                "\n        self.all_kept.append(x)",
            ]
        )
        heads = [f"class {name}({base or 'object'}):", f"class {name}:"]
        module.statements.append(
            f"{self.random.choice(heads)}\n    rate = {rate}\n    all_kept = []{hook}\n"
            f"    def __init__(self, x):\n        self.x = x\n        self.kept = [{self.digit()}]{count}\n"
            f"    def value(self):\n        return self.x + self.rate + {amount}\n"
            f"    def bump(self):\n        self.x += 1\n        return self.x\n"
            f"    def add(self, v):\n        self.kept.append(v)\n        return len(self.kept)\n"
            f"    @classmethod\n    def make(cls, x):\n        cls.made = x\n        return cls(x)\n"
            f"    @property\n    def seen(self):\n        self.x += 1\n        return self.x\n"
            f"    def all(self):\n        return size(self.all_kept) + {f'{function}(1)' if function else '0'}\n"
        )  # fmt: skip
        module.names["class"].append(name)

    def _add_object(self, module: Module) -> None:
        if not module.names["class"]:
            self._add_class(module)
        kind = self._pick(module, "class")
        if kind:
            value = self.expression(module)
            module.statements.append(f"{self._new(module, 'object')} = {kind}({value})")

    def _add_iterator(self, module: Module) -> None:
        items = self._pick(module, "list")
        forms = [
            "iter(range(9))",
            f"(x for x in {items or '[1, 2, 3]'} if {self.expression(module, 1)})",
        ]
        value = self.random.choice(forms)
        module.statements.append(f"{self._new(module, 'iterator')} = {value}")

    def _add_effect(self, module: Module) -> None:
        v = self.expression(module)
        number, function = self._pick(module, "number"), self._pick(module, "function")
        items, table = self._pick(module, "list"), self._pick(module, "table")
        kind, thing = self._pick(module, "class"), self._pick(module, "object")
        iterator, other = self._pick(module, "iterator"), self._pick(module, "list")
        choices = [
            f"random.seed({v})",
            f"os.environ['Q'] = 'x' * ({v} % 9)",
            "random.random()",
            f"print({v})",
        ]
        if function:
            choices += [
                f"{function}({v})",
                f"{function}.mark = {v}",
                f"setattr({function}, 'mark', {v})",
                f"_ = {function}({v})",
            ]
        if items:
            choices += [
                f"{items}.append({v})", f"{items}.insert(0, {v})", f"{items}[:1] = [{v}]", f"put({items}, {v})",
                f"for _ in range(2):\n    {items}.append({v})", f"{items}.append({other})",
                f"if len({items}) < 3:\n    {items}.append({v})", f"[{items}.append(z) for z in range({self.digit()})]",
                f"for z in {items}:\n    z.append({v}) if isinstance(z, list) else None",
                f"_ = put({items}, {v})", f"_ = [put(z, 1) for z in ({items}, {other})]", f"list(map({items}.append, [{v}]))",
            ]  # fmt: skip
        if items and function:
            choices += [
                f"hold = {items}\nhold.append({v})", f"hold = {items}.append\nhold({v})", f"functools.partial({items}.append, {v})()",
                f"call({items}.append, {v})", f"put(*[{items}, {v}])", f"_ = call(put, {items}, {v})", f"for z in [{items}]:\n    z.append({v})",
                f"for i, z in enumerate([{items}, {other}]):\n    z.append(i)", f"with keep({items}) as z:\n    z.append({v})",
                f"_ = {items}.append({v}) if {v} else None", f"_ = sorted([1, 2], key={items}.append)", f"_ = {{'a': {items}}}['a'].append({v})",
                f"def late():\n    {items}.append({v})\nlate()", f"_ = [late() for late in [lambda: {items}.append({v})]]",
                f"class late:\n    {items}.append({v})", f"def late(z={items}.append({v})):\n    return z",
                f"{items}.__setitem__(0, {v})", f"{items} += [{v}]" if "." not in items else f"{items}.extend([{v}])",
                f"def late(z=None):\n    z = z or {items}\n    z.append({v})\n_ = late()", f"_ = (lambda z: z.append({v}))({items})",
            ]  # fmt: skip
        choices += [
            f"import builtins\nbuiltins.extra_name = {v}",
            f"import builtins\nsetattr(builtins, 'extra_name', {v})",
        ]
        if module.modules:
            choices += [
                f"{self.random.choice(module.modules)}.extra = {v}",
                f"setattr({self.random.choice(module.modules)}, 'extra', {v})",
            ]
        if table and function:
            choices += [
                f"{table}['b'] = {function}",
                f"{table}.update(c={function})",
                f"{table}.setdefault('d', {function})",
            ]
        if kind:
            choices += [
                f"{kind}.rate = {v}",
                f"{kind}.rate += 1",
                f"{kind}.value = lambda self: {v}",
                f"{kind}({v}).bump()",
            ]
        if thing:
            choices += [
                f"{thing}.bump()",
                f"_ = {thing}.bump()",
                f"{thing}.kept.append({v})",
                f"{thing}.x = {v}",
            ]
        if iterator:
            choices += [f"next({iterator}, 0)", f"_ = next({iterator}, 0)", f"_ = list({iterator})"]
        if number and "." in number:
            choices += [f"{number} = {v}", f"{number} += 1"]
        if number and "." not in number:
            choices += [f"{number} += {v}", f"{number} = {v}"]
        if function and "." in function:
            choices += [f"{function} = lambda x: {v}"]
        if module.modules:
            choices += [f"{self.random.choice(module.modules)}.n1 = {v}"]
        module.statements.append(self.random.choice(choices))

    def _add_block(self, module: Module) -> None:
        value, other, test = self.expression(module), self.digit(), self.expression(module, 1)
        late = self._pick(module, "function")
        name = self._new(module, "number")
        forms = [
            f"if {test} > 3:\n    {name} = {value}\nelse:\n    {name} = {other}",
            f"try:\n    {name} = {value}\nexcept Exception:\n    {name} = {other}",
            f"for {name} in range({self.digit()} + 1):\n    pass",
            f"with open(os.devnull) as _:\n    {name} = {value}",
            f"try:\n    import nowhere\nexcept ImportError:\n    {name} = {value}",
            f"while True:\n    {name} = {value}\n    break",
        ]
        if late and "." not in late:
            forms.append(
                f"{name} = 0\ntry:\n    def {late}(x):\n        return {value}\nfinally:\n    pass"
            )
        module.statements.append(self.random.choice(forms))

    def _add_getter(self, module: Module) -> None:
        items, thing, iterator = (self._pick(module, k) for k in ("list", "object", "iterator"))
        name = self._new(module, "function", known=False)
        v = self.expression(module, 1)
        uses = []
        if items:
            uses += [
                (items, f"{name}().append({v})"),
                (f"[{items}]", f"{name}()[0].append({v})"),
                (f"{items}.append", f"{name}()({v})"),
            ]
        if thing:
            uses += [
                (thing, f"{name}().bump()"),
                (f"{thing}.bump", f"{name}()()"),
                (thing, f"_ = {name}().seen"),
            ]
        if iterator:
            uses += [(iterator, f"next({name}())"), (iterator, f"_ = list({name}())")]
        if uses:
            given, use = self.random.choice(uses)
            module.statements.append(f"def {name}():\n    return {given}")
            module.statements.append(use)

    def _add_closure(self, module: Module) -> None:
        maker, name = (
            self._new(module, "function", known=False),
            self._new(module, "function", known=False),
        )
        v = self.expression(module, 1)
        forms = [
            f"def {maker}():\n    total = {v}\n    def step(x):\n        nonlocal total\n        total += x\n        return total\n"
            f"    return step\n{name} = {maker}()",
            f"def {maker}(n):\n    return lambda x: x + n\n{name} = {maker}({v})",
            f"{maker} = {{}}\ndef {name}(x):\n    if x not in {maker}:\n        {maker}[x] = {v}\n    return {maker}[x]",
            f"def {name}(x):\n    {name}.calls = getattr({name}, 'calls', 0) + {v}\n    return {name}.calls",
            f"def {maker}(n):\n    while True:\n        yield n + {v}\ndef {name}(x, held={maker}(2)):\n    return next(held) + x",
            f"{name} = functools.partial(lambda a, x: a + x, {v})",
        ]
        module.statements.append(self.random.choice(forms))
        module.names["function"].append(name)

    def _add_decorated(self, module: Module) -> None:
        table, items = self._pick(module, "table"), self._pick(module, "list")
        body = self.expression(module)
        maker, name = (
            self._new(module, "function", known=False),
            self._new(module, "function", known=False),
        )
        target = (
            f"{table}['r'] = f" if table else f"{items}.append(size(f))" if items else "f.mark = 3"
        )
        forms = [
            f"def {maker}(f):\n    {target}\n    return f\n@{maker}",
            f"def {maker}(n):\n    def inner(f):\n        {target}\n        return lambda x: f(x) + n\n    return inner\n@{maker}({self.digit()})",
            f"def {maker}(f):\n    def inner(x):\n        return f(x) + {self.digit()}\n    return inner\n@{maker}",
            f"def {maker}(f):\n    f(1)\n    {target}\n    return f\n@{maker}",
            "@functools.lru_cache",
        ]
        module.statements.append(
            f"{self.random.choice(forms)}\ndef {name}(x):\n    return x + {body}"
        )
        module.names["function"].append(name)

    def _add_alias(self, module: Module) -> None:
        kind = self.random.choice([k for k in KINDS if k != "number"])
        name = self._pick(module, kind)
        if name:
            module.statements.append(f"{self._new(module, kind)} = {name}")

    def _add_setter(self, module: Module) -> None:
        own = [name for name in module.names["number"] if "." not in name]
        if own:
            number, name = self.random.choice(own), self._new(module, "function", known=False)
            module.statements.append(
                f"def {name}(x):\n    global {number}\n    {number} = x + {self.digit()}\n    return {number}"
            )
            if self.random.random() < 0.5:
                module.statements.append(f"{name}({self.digit()})")
            module.names["function"].append(name)

    def _add_wiring(self, module: Module) -> None:
        name = f"w{self._number()}"
        module.statements.append(
            f"@workflow\ndef {name}(x):\n    return {self.expression(module)}\n"
            f"a{name} = {name}({self.expression(module)}).set_name('{name}')"
        )

    def _add_node(self, module: Module) -> None:
        parts = ", ".join(self.look(module) for _ in range(self.random.randint(1, 4)))
        module.statements.append(f"@workflow\ndef node(x):\n    return [{parts}]\nout = node(1)")


HEAD = """\
import functools
import os
import random
from fftasks import workflow
from tools import call, keep, put, size
"""
TOOLS = """\
import contextlib


def size(value):
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, list):
        return sum(size(item) for item in value) + len(value)
    return len(getattr(value, "__name__", "") or "") if value is not None else 0


def call(function, *values):
    return size(function(*values))


@contextlib.contextmanager
def keep(value):
    yield value


def put(items, value):
    items.append(value)
    return len(items)
"""


def format_project(files: dict[str, list[str]]) -> dict[str, str]:
    """Return the text of each file."""
    texts = {name: HEAD + "\n".join(statements) + "\n" for name, statements in files.items()}
    return {**texts, "tools.py": TOOLS}


def _path(module: str) -> str:
    return module.replace(".", "/") + ".py"
