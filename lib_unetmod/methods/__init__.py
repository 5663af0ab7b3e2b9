"""One file a method, in the folder of what it is for. A method imports core and parts, and no other method.

Importing this folder registers every method; there is no list to keep.
"""

from importlib import import_module
from pkgutil import walk_packages

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
