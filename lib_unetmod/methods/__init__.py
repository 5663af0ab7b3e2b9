"""One file a method. Importing this folder registers every method in it; there is no list to keep."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
