"""What a fleet needs, computed from what was measured on one machine: docs/scale.md.

`python -m bench.scale` prints the page, `--write` writes it, `--measure` measures the unit costs
again, into docs/scale.json. The page is made of that file and nothing else, so whoever has other
figures gets another page.
"""
