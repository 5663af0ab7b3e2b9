"""What a user chose, in plain values: the speed, methods and knobs, presets, and what was measured of them.

It reads whatever a page, a request, an infotext or a file supplies; it imports core, parts and methods, and no host.
"""
