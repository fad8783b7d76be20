#!/bin/sh
# Makes docs/images/links.png, from the root of the repository, in about 20 seconds.
set -e
python -m wss run deepseek_v3 --set 'policies=[base, balanced_pred]' --out results/links
python -m wss report results/links --picture links --policies base,balanced_pred --out docs/images/links.png --force
