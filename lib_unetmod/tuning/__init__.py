"""Tuning: on a user's own model, the search for the steps, or the parts of the U-Net, that may be left out at a speed.

drawer          what a host draws pictures with for it, and how it says that it was stopped
candidates      what is tried for a speed: shipped plans, even ones, caches, fewer steps
trials          candidates drawn beside the same pictures without them, within a number of pictures' time
found           what a search found, and the best so far
climbing        from a candidate to a neighbour that was drawn nearer
plan_search     the plan of steps for a speed
part_values     what each part of the U-Net is worth: what changes without it, and what time it takes
part_measuring  how that is measured: the U-Net's calls made again without each part
part_search     which parts to leave out, for a speed that steps are too few for
search          which of these a speed takes
result          what was found: as a profile to be kept, and in a user's words
shown           the same as a picture
"""
