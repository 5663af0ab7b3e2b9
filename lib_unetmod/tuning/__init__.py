"""Tuning: on a user's own model, the search for the steps that may be left out at a speed.

drawer      what a host draws pictures with for it, and how it says that it was stopped
candidates  what is tried for a speed: shipped plans, even ones, caches, fewer steps
search      draws them within a number of pictures' time, climbs from the best, and judges on other pictures
result      what was found: as a profile to be kept, and in a user's words
"""
