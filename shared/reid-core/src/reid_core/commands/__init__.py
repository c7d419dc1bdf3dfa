"""The commands that all methods share: what follows once a method has loaded its network.

``arguments`` holds what the command lines accept and imports no torch; ``evaluate``, ``embed`` and
``export`` do the work and are imported by a method's ``cli.py`` when they are asked for.
"""
