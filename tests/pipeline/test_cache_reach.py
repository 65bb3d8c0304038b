"""What a step reaches in the code, through everything that Python allows: each edit counts."""

import pytest

HEAD = "from charkha import step, pipeline\n"
TAIL = "\n@pipeline\ndef main():\n    s1()\n"


def step(body, before=""):
    """Return a pipeline.py with one step of this body."""
    return f"{HEAD}{before}\n@step\ndef s1():\n    {body}\n{TAIL}"


# name -> files, (file, old, new), what the step then returns
REACHED = {
    "an overloaded function": (
        {
            "pipeline.py": step("return h.f(1)", "import h"),
            "h.py": "from typing import overload\n@overload\ndef f(x: int) -> int: ...\n"
            "@overload\ndef f(x: str) -> str: ...\ndef f(x):\n    return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "the second of two definitions": (
        {
            "pipeline.py": step("return h.f()", "import h"),
            "h.py": "import sys\nif sys.maxsize < 5:\n    def f():\n        return 0\n"
            "else:\n    def f():\n        return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "the condition of a definition": (
        {
            "pipeline.py": step("return h.f()", "import h"),
            "h.py": "import sys\nif sys.maxsize > 5:\n    def f():\n        return 1\n"
            "else:\n    def f():\n        return 2\n",
        },
        ("h.py", "maxsize > 5", "maxsize < 5"),
        2,
    ),
    "the condition of an import": (
        {
            "pipeline.py": step(
                "return m.f()", "import h\nif h.NEW:\n    import b as m\nelse:\n    import a as m"
            ),
            "h.py": "NEW = False\n",
            "a.py": "def f():\n    return 1\n",
            "b.py": "def f():\n    return 2\n",
        },
        ("h.py", "False", "True"),
        2,
    ),
    "a namespace package": (
        {
            "pipeline.py": step("return space.inner.f()", "import space.inner"),
            "space/inner.py": "def f():\n    return 1\n",
        },
        ("space/inner.py", "return 1", "return 2"),
        2,
    ),
    "a module from a namespace package": (
        {
            "pipeline.py": step("return inner.f()", "from space import inner"),
            "space/inner.py": "def f():\n    return 1\n",
        },
        ("space/inner.py", "return 1", "return 2"),
        2,
    ),
    "from . import": (
        {
            "pipeline.py": step("return package.f()", "import package"),
            "package/__init__.py": "from . import inner\ndef f():\n    return inner.f()\n",
            "package/inner.py": "from . import deep\nfrom .deep import g\ndef f():\n    return g()\n",
            "package/deep.py": "def g():\n    return 1\n",
        },
        ("package/deep.py", "return 1", "return 2"),
        2,
    ),
    "code of the package around a module": (
        {
            "pipeline.py": step("return f()", "from package.inner import f"),
            "package/__init__.py": "import os\nos.level = 1\n",
            "package/inner.py": "import os\ndef f():\n    return os.level\n",
        },
        ("package/__init__.py", "= 1", "= 2"),
        2,
    ),
    "a module imported for what it does": (
        {
            "pipeline.py": step("return h.box.x", "import h\nimport setup_box  # noqa"),
            "h.py": "import types\nbox = types.SimpleNamespace(x=1)\n",
            "setup_box.py": "import h\nh.box.x = 1\n",
        },
        ("setup_box.py", "= 1", "= 2"),
        2,
    ),
    "a registry filled by a decorator": (
        {
            "pipeline.py": step("return h.REG['a']()", "import h"),
            "h.py": "REG = {}\ndef register(name):\n    def keep(f):\n        REG[name] = f\n"
            "        return f\n    return keep\n\n@register('a')\ndef fit():\n    return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "a registry filled in another module": (
        {
            "pipeline.py": step("return h.REG['a']()", "import h, models"),
            "models.py": "from h import register\n@register('a')\ndef fit():\n    return 1\n",
            "h.py": "REG = {}\ndef register(name):\n    def keep(f):\n        REG[name] = f\n"
            "        return f\n    return keep\n",
        },
        ("models.py", "return 1", "return 2"),
        2,
    ),
    "a registry object with methods": (
        {
            "pipeline.py": step("return h.REG.get('a')()", "import h, models"),
            "models.py": "from h import REG\n@REG.add('a')\ndef fit():\n    return 1\n",
            "h.py": "class Registry:\n    def __init__(self):\n        self.kept = {}\n"
            "    def add(self, name):\n        def keep(f):\n            self.kept[name] = f\n"
            "            return f\n        return keep\n    def get(self, n):\n        return self.kept[n]\n"
            "REG = Registry()\n",
        },
        ("models.py", "return 1", "return 2"),
        2,
    ),
    "a registry of wrapped functions": (
        {
            "pipeline.py": step("return h.REG['a']()", "import h"),
            "h.py": "REG = {}\ndef register(name):\n    def keep(f):\n        REG[name] = lambda: f()\n"
            "        return f\n    return keep\n\n@register('a')\ndef fit():\n    return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "an object filled in a loop": (
        {
            "pipeline.py": step("return h.BOX[0].x", "import h"),
            "h.py": "import types\nBOX = [types.SimpleNamespace(x=0)]\nfor k in (1,):\n    BOX[0].x = k\n",
        },
        ("h.py", "(1,)", "(2,)"),
        2,
    ),
    "an object filled by a call that binds a name": (
        {
            "pipeline.py": step("return h.BOX.x", "import h"),
            "h.py": "import types\nBOX = types.SimpleNamespace(x=0)\n"
            "def fill(box, n):\n    box.x = n\n_ = fill(BOX, 1)\n",
        },
        ("h.py", "BOX, 1", "BOX, 2"),
        2,
    ),
    "singledispatch": (
        {
            "pipeline.py": step("return h.f(1)", "import h"),
            "h.py": "from functools import singledispatch\n@singledispatch\ndef f(x):\n    return 0\n"
            "@f.register\ndef _(x: str):\n    return 5\n@f.register\ndef _(x: int):\n    return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "singledispatch in another module": (
        {
            "pipeline.py": step("return h.f(1)", "import h, more"),
            "more.py": "from h import f\n@f.register\ndef for_int(x: int):\n    return 1\n",
            "h.py": "from functools import singledispatch\n@singledispatch\ndef f(x):\n    return 0\n",
        },
        ("more.py", "return 1", "return 2"),
        2,
    ),
    "subclasses that register themselves": (
        {
            "pipeline.py": step("return h.Base.kinds['a']().f()", "import h, more"),
            "more.py": "from h import Base\nclass A(Base, name='a'):\n    def f(self):\n        return 1\n",
            "h.py": "class Base:\n    kinds = {}\n    def __init_subclass__(cls, name):\n"
            "        Base.kinds[name] = cls\n",
        },
        ("more.py", "return 1", "return 2"),
        2,
    ),
    "a class body that reads the name it binds": (
        {
            "pipeline.py": step("return h.C.rate", "import h"),
            "h.py": "rate = 1\nclass C:\n    rate = rate\n",
        },
        ("h.py", "rate = 1", "rate = 2"),
        2,
    ),
    "a comprehension over a name it binds": (
        {
            "pipeline.py": step("return [x for x in x][0]", "from h import x"),
            "h.py": "x = [1]\n",
        },
        ("h.py", "[1]", "[2]"),
        2,
    ),
    "a wrapper without wraps": (
        {
            "pipeline.py": HEAD
            + "from h import plus\n@step(name='s1')\n@plus\ndef first():\n    return 1\n"
            + TAIL.replace("s1()", "first()"),
            "h.py": "def plus(f):\n    def inner():\n        return f()\n    return inner\n",
        },
        ("pipeline.py", "return 1", "return 2"),
        2,
    ),
    "eval": (
        {"pipeline.py": step("return eval('ra' + 'te')", "rate = 1")},
        ("pipeline.py", "rate = 1", "rate = 2"),
        2,
    ),
    "globals": (
        {"pipeline.py": step("return globals()['f_' + 'a']()", "def f_a():\n    return 1\n")},
        ("pipeline.py", "return 1", "return 2"),
        2,
    ),
    "getattr on a module": (
        {
            "pipeline.py": step("return getattr(h, 'f_' + 'a')()", "import h"),
            "h.py": "def f_a():\n    return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "a loaded module found by its name": (
        {
            "pipeline.py": step(
                "return importlib.import_module('h' + 'h').f()", "import importlib\nimport hh"
            ),
            "hh.py": "def f():\n    return 1\n",
        },
        ("hh.py", "return 1", "return 2"),
        2,
    ),
    "module __getattr__": (
        {
            "pipeline.py": step("return h.anything", "import h"),
            "h.py": "def __getattr__(name):\n    return 1 if name == 'anything' else None\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "a default argument of a helper": (
        {
            "pipeline.py": step("return h.f()", "import h"),
            "h.py": "from k import RATE\ndef f(x=RATE):\n    return x\n",
            "k.py": "RATE = 1\n",
        },
        ("k.py", "RATE = 1", "RATE = 2"),
        2,
    ),
    "a constant of a constant of another module": (
        {
            "pipeline.py": step("return h.TOTAL.real", "import h"),
            "h.py": "import k\nimport decimal\nTOTAL = decimal.Decimal(k.RATE) if k.RATE > 5 else k.RATE\n",
            "k.py": "RATE = 1\n",
        },
        ("k.py", "RATE = 1", "RATE = 2"),
        2,
    ),
    "a constant that another module changes": (
        {
            "pipeline.py": step("return h.CONF['a']", "import h, k"),
            "h.py": "CONF = {'a': 0}\n",
            "k.py": "import h\nh.CONF['a'] = 1\n",
        },
        ("k.py", "= 1", "= 2"),
        2,
    ),
    "a mixin over three modules": (
        {
            "pipeline.py": step("return A().f()", "from a import A"),
            "a.py": "from b import B\nclass A(B):\n    def f(self):\n        return super().f()\n",
            "b.py": "import c\nclass B(c.Mixin):\n    pass\n",
            "c.py": "class Mixin:\n    @classmethod\n    def f(cls):\n        return 1\n",
        },
        ("c.py", "return 1", "return 2"),
        2,
    ),
    "a metaclass": (
        {
            "pipeline.py": step("return A.x", "from a import A"),
            "a.py": "class Meta(type):\n    @property\n    def x(cls):\n        return 1\nclass A(metaclass=Meta):\n    pass\n",
        },
        ("a.py", "return 1", "return 2"),
        2,
    ),
    "an enum": (
        {
            "pipeline.py": step("return E.A.value", "from a import E"),
            "a.py": "import enum\nclass E(enum.Enum):\n    A = 1\n",
        },
        ("a.py", "A = 1", "A = 2"),
        2,
    ),
    "a match statement": (
        {
            "pipeline.py": step(
                "match 1:\n        case a.ONE: return 1\n        case _: return 2", "import a"
            ),
            "a.py": "ONE = 1\n",
        },
        ("a.py", "ONE = 1", "ONE = 7"),
        2,
    ),
    "a step that calls a step": (
        {"pipeline.py": step("return other()", "@step\ndef other(n=1):\n    return n\n")},
        ("pipeline.py", "n=1", "n=2"),
        2,
    ),
    "a submodule reached through its package": (
        {
            "pipeline.py": step("return p.api.f()", "import p"),
            "p/__init__.py": "from p import inner as api\n",
            "p/inner.py": "def f():\n    return 1\n",
        },
        ("p/inner.py", "return 1", "return 2"),
        2,
    ),
    "a star with __all__": (
        {
            "pipeline.py": step("return _f()", "from p import *"),
            "p/__init__.py": "from .a import *\nfrom .a import __all__\n",
            "p/a.py": "__all__ = ['_f']\ndef _f():\n    return 1\n",
        },
        ("p/a.py", "return 1", "return 2"),
        2,
    ),
    "a walrus": (
        {"pipeline.py": step("return h.A[1]", "import h"), "h.py": "A = [(x := 1), x]\n"},
        ("h.py", "x := 1", "x := 2"),
        2,
    ),
    "a nested function and a generator": (
        {
            "pipeline.py": step("return next(h.g())", "import h"),
            "h.py": "import k\ndef g():\n    def inner():\n        yield from (k.f() for _ in (1,))\n    return inner()\n",
            "k.py": "def f():\n    return 1\n",
        },
        ("k.py", "return 1", "return 2"),
        2,
    ),
    "an async helper": (
        {
            "pipeline.py": step("return asyncio.run(h.f())", "import h, asyncio"),
            "h.py": "async def g():\n    return 1\nasync def f():\n    return await g()\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "a file read when a module is imported": (
        {
            "pipeline.py": step("return h.DATA.x", "import h"),
            "h.py": "import json, types\nwith open('conf.json') as f:\n    DATA = types.SimpleNamespace(**json.load(f))\n",
            "conf.json": '{"x": 1}',
        },
        ("conf.json", "1", "2"),
        2,
    ),
    "a file read for a class when it is imported": (
        {
            "pipeline.py": step("return h.C.x", "import h"),
            "h.py": "import json\nclass C:\n    x = json.load(open('conf.json'))\n",
            "conf.json": "1",
        },
        ("conf.json", "1", "2"),
        2,
    ),
    "a dict of functions": (
        {
            "pipeline.py": step("return M['a']()", "import h\nM = {'a': h.f}"),
            "h.py": "def f():\n    return 1\n",
        },
        ("h.py", "return 1", "return 2"),
        2,
    ),
    "a global set by a function at import": (
        {
            "pipeline.py": step("return h.get().x", "import h"),
            "h.py": "import types\nBOX = None\ndef init(n):\n    global BOX\n    BOX = types.SimpleNamespace(x=n)\n    return 1\nOK = init(1)\ndef get():\n    return BOX\n",
        },
        ("h.py", "init(1)", "init(2)"),
        2,
    ),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", REACHED)
def test_what_a_step_reaches_counts(workshop, case):
    files, (file, old, new), result = REACHED[case]
    for name, text in files.items():
        workshop.write(name, text)
    run = workshop.run()
    assert workshop.ran() == []
    workshop.edit(file, old, new)
    run = workshop.run()
    assert run.output("s1") == result
    assert workshop.ran() == []
