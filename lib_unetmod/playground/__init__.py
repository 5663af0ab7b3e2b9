"""The playground: a small real checkpoint, a local page and a command line to try the methods on.

model       the checkpoint's modules and their loader
settings    what a picture is drawn from, checked
samplers    diffusers' schedulers under the WebUI's names
sampling    from settings and configs to a picture, with times
distance    how far two pictures are apart
comparing   the plain and the modified picture of the same settings
report      times and distance in words and as a table
sheet       several comparisons on one PNG
command     the command that draws a picture again
stopping    drawings that run, to be stopped
page        the page
serving     its address, and the browser that opens on it
info        what there is: blocks, words, methods, knobs
cli         the command line
"""
