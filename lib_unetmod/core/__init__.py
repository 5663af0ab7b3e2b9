"""The mechanism: what a U-Net has, how its layers are edited and given back, when edits act and what is kept meanwhile.

Nothing here knows a method or a host. It imports torch and its own files alone.
"""
