"""Models under test, as data: `tests.zoo.models.ZOO` lists them, `get(name)` finds one."""
